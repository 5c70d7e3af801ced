"""The way to the model servers: the inference profile over HTTP/1.1."""

from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.adapters.oip.upstream import OipUpstream

__all__ = ["OipSettings", "OipUpstream"]
