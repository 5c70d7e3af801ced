"""How the router talks to model servers, as far as a process, not a route, decides it."""

from dataclasses import dataclass

from signalyard_router.rules.breaker import BreakerRules


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

    max_in_flight: int = 256
    """How many calls may be under way to one endpoint, all models together; over it the next endpoint is asked, and where there
    is none the answer is model_overloaded. Default: 256, as many as connections, so that calls need not wait for one."""

    awake_seconds: float = 0.0
    """For how long after a call, in seconds, the event loop does not sleep but asks for the answer again and again, see `Awake`. Default: 0,
    never; a router process has half a millisecond."""

    chunk_rows: int = 256
    """How many rows one call carries at most; larger batches go in chunks to all endpoints at once. Default: 256."""

    chunk_rows_least: int = 16
    """How few rows a chunk may have where rows are slow; below it a call costs more than its rows. Default: 16."""

    share_nanoseconds: int = 1_000_000
    """By how much a call that several requests share may take longer than twice a call of a single row, in nanoseconds; each of
    them waits for all. 0: every request has calls of its own. Default: 1 ms."""

    retry_ratio: float = 0.2
    """How many second calls (retries and hedges) a track may make for each first one. Refused connections and open breakers
    cost nothing, for they put no load on anybody. Default: 0.2."""

    retry_burst: float = 10.0
    """How many second calls a track that was quiet may make at once. Default: 10."""

    breaker_failures: int = 5
    """How many calls in a row must fail for an endpoint to be left alone. Default: 5."""

    breaker_ratio: float = 0.5
    """Which share of the calls within the window must fail for the same. Default: 0.5."""

    breaker_least: int = 20
    """How many calls the window must have seen for its share to count. Default: 20."""

    breaker_window_seconds: float = 10.0
    """The window, in seconds. Default: 10."""

    breaker_backoff_seconds: float = 0.5
    """How long, in seconds, an endpoint is left alone at first; then one call finds out. Default: 0.5, under a second so that a
    server that was restarted is soon back."""

    breaker_backoff_max_seconds: float = 10.0
    """The longest back-off, in seconds; each call that found nothing doubles it. Default: 10."""

    cutover_share: float = 0.5
    """Which share of a track's endpoints must be ready with its version before the track moves to it. Default: 0.5; lower cuts
    over earlier and puts all load on fewer pods."""

    @property
    def breaker(self) -> BreakerRules:
        """The breakers' settings as rules."""
        return BreakerRules(
            failures=self.breaker_failures,
            ratio=self.breaker_ratio,
            least=self.breaker_least,
            window=int(self.breaker_window_seconds * 1e9),
            backoff=int(self.breaker_backoff_seconds * 1e9),
            backoff_max=int(self.breaker_backoff_max_seconds * 1e9),
        )
