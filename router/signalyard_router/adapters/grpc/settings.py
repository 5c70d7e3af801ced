"""How the gRPC server listens, and what it puts up with."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GrpcSettings:
    """The settings of the gRPC server."""

    host: str = "127.0.0.1"
    """The address to listen on; nobody outside the machine is served unasked. Default: 127.0.0.1."""

    port: int | None = None
    """The port to listen on; 0 takes a free one. None, the default: there is no gRPC server, and grpcio is not loaded."""

    max_message_bytes: int = 4 * 1024 * 1024
    """The largest message that is taken, in bytes; more is answered RESOURCE_EXHAUSTED. Default: 4 MiB."""

    max_rows: int = 1_000
    """How many snapshots one Predict may hold. Default: 1,000."""

    max_calls: int = 4_096
    """How many calls may be under way; one more is answered RESOURCE_EXHAUSTED. Default: 4,096."""

    max_metadata_bytes: int = 16 * 1024
    """The largest metadata of a call, in bytes. Default: 16 KiB."""
