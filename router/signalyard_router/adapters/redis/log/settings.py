"""How Redis is reached."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RedisLogSettings:
    """The settings of the log that replicas share. Times are seconds."""

    url: str = field(default="", repr=False)
    """``redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]``, ``rediss://`` for TLS, or ``unix:///PATH[?db=DATABASE]``."""

    prefix: str = "signalyard"
    """What the keys begin with. Routers with the same one share a log; it stands in braces, so that in a cluster of Redis all keys are
    on one shard."""

    signals_kept: int = 10_000
    """About how many signals the stream of signals keeps."""

    connect_seconds: float = 1.0
    """How long it may take to connect, and to be let in."""

    call_seconds: float = 1.0
    """How long an answer may take, before the connection is given up. An append that the server takes up later than this is not carried
    out."""

    turn_seconds: float = 0.005
    """How long others wait for a replica that lost its place several times in a row. At least the time of an answer."""

    awake_seconds: float = 0.0
    """For how long after an append the event loop does not sleep but asks for the answer again and again; 0 for never, see `Awake`."""
