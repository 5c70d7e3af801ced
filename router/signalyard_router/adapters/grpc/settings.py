"""How the gRPC server listens, and what it puts up with."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class GrpcSettings:
    """The settings of the gRPC server."""

    host: str = "127.0.0.1"
    """The address to listen on; nobody outside the machine is served unasked. Default: 127.0.0.1."""

    port: int | None = None
    """The port to listen on; 0 takes a free one. None, the default: there is no gRPC server, and grpcio is not loaded."""

    certificate: Path | None = None
    """The certificate chain, PEM; with `key` the port speaks TLS. Both are read once, at the start. None, the default: plain text."""

    key: Path | None = None
    """The certificate's key, PEM."""

    max_message_bytes: int = 4 * 1024 * 1024
    """The largest message that is taken, in bytes; more is answered RESOURCE_EXHAUSTED. Default: 4 MiB."""

    max_rows: int = 1_000
    """How many snapshots one Predict may hold. Default: 1,000."""

    max_calls: int = 4_096
    """How many calls may be under way; one more is answered RESOURCE_EXHAUSTED. Default: 4,096."""

    max_metadata_bytes: int = 16 * 1024
    """The largest metadata of a call, in bytes. Default: 16 KiB."""
