"""Where ZeroMQ listens, and what it puts up with."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ZeromqSettings:
    """The settings of the three sockets; one without an address is not opened. Times are seconds, sizes bytes.

    Addresses beyond this machine need `key`, or `plain`.
    """

    requests: str = ""
    """The address of the ROUTER socket for requests, such as tcp://127.0.0.1:8092; port * takes a free one."""

    signals: str = ""
    """The address of the XPUB socket that signals are published on, such as tcp://127.0.0.1:8093."""

    snapshots: tuple[str, ...] = ()
    """The addresses of publishers whose snapshots are decided on; these are connected to. With `key`, each has its publisher's public
    key behind it: tcp://10.0.0.5:5555#PUBLIC-KEY."""

    key: Path | None = None
    """The file with our secret key, by which the sockets speak CURVE; read once, at the start. None, the default: they speak plain text."""

    clients: Path | None = None
    """The file with lines of ``NAME PUBLIC-KEY``: who may connect, where there is a key. Looked at with every beat, and taken anew where it
    has changed."""

    plain: bool = False
    """Whether plain text may leave the machine; else an address beyond loopback without a key is refused. Default: it may not."""

    max_body_bytes: int = 4 * 1024 * 1024
    """The largest body of a message; a larger one is answered with a problem. A frame of twice the size ends its connection."""

    max_rows: int = 1_000
    """How many snapshots one message may hold."""

    max_in_flight: int = 256
    """How many requests of one peer may be under way, and how many messages of all publishers together. A request beyond it is
    answered as overloaded; of publishers nothing more is read meanwhile."""

    max_peers: int = 4_096
    """How many peers are remembered; whoever was silent for longest is forgotten for another."""

    requests_high_water: int = 1_000
    """Messages that wait in each direction on one connection of a requests' peer. In: then the peer's own socket has to wait. Out: a peer
    that reads none of its answers loses what is beyond it, and that is counted."""

    signals_high_water: int = 10_000
    """Signals that wait for one subscriber. One that does not read loses what is beyond it; it notices by ``prev_seq``, and the loss is
    counted here."""

    snapshots_high_water: int = 10_000
    """Messages that wait here from one publisher; beyond it, it is the publisher's own high-water mark that counts."""

    beat_seconds: float = 1.0
    """How often subscribers get a sign of life; three without one are a reason to connect again. A peer that was silent for ten times
    as long is forgotten."""

    linger_seconds: float = 1.0
    """How long answers that were handed to a socket may take to leave after it was closed."""
