"""How the router talks to model servers, as far as a process, not a route, decides it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OipSettings:
    """The settings of the way to the model servers."""

    max_answer_bytes: int = 16 * 1024 * 1024
    """The largest answer that is read, in bytes, framing included; a server gone wrong must not fill the router's memory.
    Default: 16 MiB, over a hundred thousand rows."""

    max_header_bytes: int = 32 * 1024
    """How much may arrive, in bytes, before the answer's header is complete; checked at each read. Default: 32 KiB."""

    max_idle: int = 64
    """How many idle connections are kept for each endpoint; a burst's others are closed once it is over. Default: 64."""

    max_open: int = 256
    """How many connections may be open to each endpoint; further calls wait for one within their own time. It bounds file
    descriptors here and the load there. Default: 256."""

    probe_seconds: float = 2.0
    """How long one look at a model's metadata may take, in seconds. Default: 2."""

    probe_retry_seconds: float = 1.0
    """The pause, in seconds, before asking again for metadata that is not known yet, and the least pause between two looks
    at the same target. Default: 1."""

    probe_refresh_seconds: float = 10.0
    """The pause, in seconds, after which known metadata is looked at again, to see a pod that was rolled. Default: 10."""
