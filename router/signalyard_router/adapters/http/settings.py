"""How the REST server listens, and what it puts up with."""

from dataclasses import dataclass

from signalyard._server.bounds import ConnectionSettings


@dataclass(frozen=True, kw_only=True)
class HttpSettings(ConnectionSettings):
    """The settings of the REST server. Times are seconds, sizes bytes."""

    host: str = "127.0.0.1"
    """The address to listen on; nobody outside the machine is served unasked. Default: 127.0.0.1."""

    port: int = 8090
    """The port to listen on; 0 takes a free one. Default: 8090."""

    max_rows: int = 1_000
    """How many snapshots one request may hold; reading and deciding them keeps the router's one thread from everybody
    else's. Default: 1,000."""

    requests_per_second: float = 0.0
    """How many requests a second one client address may send on average; more are answered 429. An IPv6 client is its /64. 0
    is no cap, the default: behind a proxy all of a desk has one address, and a cap that nobody chose would stop all of it at
    the worst time. What protects the router itself are the caps on connections, rows and waiting. Probes are never refused."""

    requests_burst: int = 0
    """How many requests one client address may send at once; 0 is a second's worth. Default: 0."""
