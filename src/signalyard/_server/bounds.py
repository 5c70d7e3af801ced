"""What a connection waits for, what it refuses, and how both are bounded and counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

HEADER_TOO_LARGE = 431
"""The status of a header over its cap; it says more than the 400 of `invalid_request`."""


class Wait(StrEnum):
    """What the server waits for on a connection, and for how long it does."""

    FIRST_BYTE = "first_byte"
    HEADERS = "headers"
    BODY = "body"
    IDLE = "idle"
    UNREAD = "unread"
    LINGER = "linger"


class Refusal(StrEnum):
    """Why a request was answered before it reached who answers."""

    CONNECTIONS = "connections"
    HEADER = "header"
    BODY = "body"
    INVALID = "invalid"


class Count(Protocol):
    """Something that counts up."""

    def inc(self) -> None:
        """One more."""
        ...


class ConnectionMetrics(Protocol):
    """What is counted of the connections of one server."""

    @property
    def timeouts(self) -> Mapping[Wait, Count]:
        """Connections that ran out of time, by what was waited for."""
        ...

    @property
    def refusals(self) -> Mapping[Refusal, Count]:
        """What was refused before it was read whole, by reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """How a server listens, and what it puts up with. Times are seconds, sizes bytes."""

    first_byte_seconds: float = 10.0
    """How long a new connection may stay silent before it is closed, in seconds. Default: 10."""

    headers_seconds: float = 5.0
    """How long a request's header may take from its first byte, in seconds; a header is one packet, so whoever takes longer
    holds a connection for nothing. Default: 5."""

    body_seconds: float = 10.0
    """How long a request's body may take from the end of its header, in seconds. It bounds the transfer; the budget of an
    answer starts only when the request is whole. Default: 10."""

    idle_seconds: float = 75.0
    """How long a connection is kept between two requests, in seconds; longer than the 60 s after which common load balancers
    give idle connections up, so that they and not the server close first. Default: 75."""

    drain_idle_seconds: float = 0.5
    """How long an idle connection stays open during a shutdown, in seconds, for a request that may be on its way; it is answered,
    and the connection closed behind it. Default: 0.5."""

    unread_seconds: float = 10.0
    """How long a client may leave a part of an answer unread before the connection is cut, in seconds; what it does not
    read is kept in memory here. Default: 10."""

    linger_seconds: float = 2.0
    """How long a connection stays half open after a refusal, in seconds: what the client still sends is dropped meanwhile, so
    that it can read why. A plain close would reset the connection under it. Default: 2."""

    max_connections: int = 4_096
    """How many connections may be open; one more is answered 503. It bounds file descriptors and memory. Default: 4,096."""

    max_refused_connections: int = 256
    """How many connections beyond `max_connections` may be open while they read their 503; one more is cut without an answer.
    Default: 256."""

    max_header_bytes: int = 64 * 1024
    """The largest header of a request, request line included, in bytes. Default: 64 KiB."""

    max_body_bytes: int = 4 * 1024 * 1024
    """The largest body of a request, in bytes; a thousand snapshots of a hundred features take 2 MB. Reading
    one of this size keeps a server's one thread for some tens of milliseconds. Default: 4 MiB."""
