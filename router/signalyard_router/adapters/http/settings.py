"""How the REST server listens, and what it puts up with."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """The settings of the REST server. Times are seconds, sizes bytes."""

    host: str = "127.0.0.1"
    """The address to listen on; nobody outside the machine is served unasked. Default: 127.0.0.1."""

    port: int = 8090
    """The port to listen on; 0 takes a free one. Default: 8090."""

    first_byte_seconds: float = 10.0
    """How long a new connection may stay silent before it is closed, in seconds. Default: 10."""

    headers_seconds: float = 5.0
    """How long a request's header may take from its first byte, in seconds; a header is one packet, so whoever takes longer
    holds a connection for nothing. Default: 5."""

    body_seconds: float = 10.0
    """How long a request's body may take from the end of its header, in seconds. It bounds the transfer; the budget of a
    decision starts only when the request is whole. Default: 10."""

    idle_seconds: float = 75.0
    """How long a connection is kept between two requests, in seconds; longer than the 60 s after which common load balancers
    give idle connections up, so that they and not the router close first. Default: 75."""

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
    one of this size keeps the router's one thread for some tens of milliseconds. Default: 4 MiB."""

    max_rows: int = 1_000
    """How many snapshots one request may hold; reading and deciding them keeps the router's one thread from everybody
    else's. Default: 1,000."""

    requests_per_second: float = 0.0
    """How many requests a second one client address may send on average; more are answered 429. An IPv6 client is its /64. 0
    is no cap, the default: behind a proxy all of a desk has one address, and a cap that nobody chose would stop all of it at
    the worst time. What protects the router itself are the caps on connections, rows and waiting. Probes are never refused."""

    requests_burst: int = 0
    """How many requests one client address may send at once; 0 is a second's worth. Default: 0."""
