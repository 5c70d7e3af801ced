"""The REST face of the router: a table of paths behind a small HTTP/1.1 server of our own."""

from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings

__all__ = ["HttpServer", "HttpSettings"]
