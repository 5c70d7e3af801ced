"""Which Redis server the wires use, and how."""

from dataclasses import dataclass
from enum import StrEnum


class Incoming(StrEnum):
    """A way by which snapshots come."""

    STREAM = "stream"
    PUBSUB = "pubsub"


class Outgoing(StrEnum):
    """A way by which signals leave."""

    STREAM = "stream"
    PUBSUB = "pubsub"


class Encoding(StrEnum):
    """How a signal is written."""

    JSON = "json"
    CLASSIC = "classic"
    NAUTILUS_JSON = "nautilus-json"
    NAUTILUS_MSGPACK = "nautilus-msgpack"


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """The settings of the wires over Redis. Times are seconds, sizes bytes."""

    url: str = ""
    """``redis://``, ``rediss://`` or ``unix://``; it may hold a password, and is never logged whole. Without one there are no wires.
    Default: none."""

    prefix: str = "signalyard"
    """What the names of all keys and channels begin with. Default: signalyard."""

    incoming: frozenset[Incoming] = frozenset()
    """The ways by which snapshots come. Default: none."""

    outgoing: frozenset[Outgoing] = frozenset()
    """The ways by which signals leave. Default: none."""

    encoding: Encoding = Encoding.JSON
    """How signals are written. Default: json."""

    group: str = "signalyard"
    """The consumer group of the routers that share the stream. Default: signalyard."""

    consumer: str = "router"
    """This router's name within the group. No two that run at a time may have the same one; one that keeps its name over a restart
    has its unfinished entries back at once. Default: router; the command takes the machine's name."""

    command_seconds: float = 2.0
    """How long a command may take, opening the connection included. Default: 2."""

    block_seconds: float = 0.5
    """How long the server may hold back an answer while nothing comes; a shutdown waits for it. Default: 0.5."""

    most_in_flight: int = 256
    """How many entries may be under way; what is beyond stays in Redis, or is dropped where it came by Pub/Sub. Default: 256."""

    most_at_once: int = 64
    """How many entries are read at once; reading them keeps the router's one thread. Default: 64."""

    max_body_bytes: int = 4 * 1024 * 1024
    """The largest body of an entry or message. Default: 4 MiB."""

    max_rows: int = 1_000
    """How many snapshots one entry or message may hold. Default: 1,000."""

    claim_seconds: float = 30.0
    """After what time another consumer's unfinished entry is taken over. Default: 30, three times what a deadline may be."""

    tend_seconds: float = 1.0
    """How often the group is looked at: its lag, and what dead consumers have left. Default: 1."""

    most_deliveries: int = 10
    """An entry that was delivered more often is set aside: it may be what kills routers. Default: 10."""

    reply_entries: int = 1_000
    """About how many entries a stream of replies keeps. Default: 1,000."""

    reply_seconds: int = 60
    """How long a stream of replies stays after its last one. Default: 60."""

    rejected_entries: int = 10_000
    """About how many entries the stream of rejected ones keeps. Default: 10,000."""

    signal_entries: int = 10_000
    """About how many signals the stream of signals keeps. Default: 10,000."""

    trim: bool = True
    """Whether entries that every group on the stream has done with are removed from it. Without it the stream grows until somebody else
    trims it; a producer that does, by MAXLEN, may remove what nobody has read. Default: true."""

    first_pause_seconds: float = 0.1
    """The pause after the server was lost, or refused; it doubles with each that follows, and half of it is chance. Default: 0.1."""

    longest_pause_seconds: float = 2.0
    """The longest such pause. Default: 2."""
