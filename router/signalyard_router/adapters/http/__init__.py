"""The REST face of the router: a raw ASGI app behind uvicorn's protocol class on a server of our own."""

from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings

__all__ = ["HttpServer", "HttpSettings"]
