"""What travels between a strategy and the router: snapshots in, decisions and signals out.

Times are int64 UTC nanoseconds. An instrument is ``symbol.EXCHANGE`` (``rb2410.SHFE``), split on the last dot, case kept.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from signalyard.problems import Problem, ProblemDetails, error
from signalyard.words import Direction, Outcome, Reason, Track

BUDGET_HEADER = "signalyard-budget-us"
"""Request header: how many microseconds the caller still waits, as a positive whole number. It travels on to the model
server, counted down, and replaces no deadline of the route: the smaller of the two holds."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One instrument's features at one event time.

    ``features`` maps a name to a number; ``None`` means missing. ``sequence`` orders snapshots of equal ``ts_event`` at
    their source. ``route`` asks for one route by name; without it every route that matches the instrument decides.
    ``consumer`` separates callers whose equal snapshots are to be decided apart.
    """

    symbol: str
    ts_event: int
    features: Mapping[str, float | None]
    sequence: int = 0
    route: str | None = None
    consumer: str = ""


class ColumnarRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A row of a columnar request: ``[symbol, ts_event, [values], sequence]``, the sequence optional."""

    symbol: str
    ts_event: int
    values: Sequence[float | None]
    sequence: int = 0


class Columnar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Many snapshots with the same features, the names given once."""

    columns: Sequence[str]
    rows: Sequence[ColumnarRow]
    route: str | None = None
    consumer: str = ""


class Signal(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an emitted decision carries.

    ``symbol, signal, score, timestamp`` are the classic signal protocol; ``timestamp`` is ``ts_event`` in whole seconds.
    ``score`` is the model's raw output, ``None`` when no model was asked (the ladder's ``flat`` rung); ``confidence`` the
    calibrated probability that the direction is right, ``None`` for an uncalibrated model; ``position`` a signed fraction.
    ``seq`` counts this instrument's signals on this route within ``epoch``; ``prev_seq`` is the one before, so that a
    reader sees a gap. ``handover``: an open position has passed to this version from another one. ``drift``: no server had the
    version that the route names, and the one given here answered. After ``ts_expire`` the signal is dead. A ``paper`` signal is to
    be acted on by nobody.
    """

    symbol: str
    signal: Direction
    score: float | None
    timestamp: int
    signal_id: str
    epoch: int
    seq: int
    prev_seq: int
    ts_event: int
    ts_init: int
    ts_expire: int
    route: str
    revision: str
    model: str
    version: str | None = None
    digest: str | None = None
    track: Track | None = None
    confidence: float | None = None
    position: float | None = None
    failover: bool = False
    drift: bool = False
    degraded: bool = False
    reduce_only: bool = False
    handover: bool = False
    paper: bool = False


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one snapshot on one route.

    ``row`` is the snapshot's place in its request: a row that matches several routes has a decision from each.
    ``duplicate_of`` names the signal that a ``duplicate`` repeats. ``problem`` says what was wrong with a ``rejected`` row.
    ``elapsed_us`` counts from the moment the request was fully read. ``signal`` is there for the outcome ``emitted`` alone, and is
    what may be acted on; the signal that a route in paper mode would have sent is in ``paper``.
    """

    outcome: Outcome
    reason: Reason | None = None
    row: int = 0
    symbol: str = ""
    ts_event: int = 0
    route: str = ""
    proposal_id: str = ""
    elapsed_us: int = 0
    signal: Signal | None = None
    paper: Signal | None = None
    duplicate_of: str | None = None
    problem: ProblemDetails | None = None


class Opinion(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a route last said of an instrument, for clients that reconcile: on connect, and after a gap in ``seq``.

    ``live`` is false once the signal is past its ``ts_expire``.
    """

    symbol: str
    route: str
    signal: Direction
    signal_id: str
    epoch: int
    seq: int
    ts_event: int
    ts_init: int
    ts_expire: int
    live: bool
    score: float | None = None
    confidence: float | None = None
    position: float | None = None
    paper: bool = False


class StateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``GET /v1/state``: ``now`` is the journal's time.

    ``opinions`` are of signals that left, ``paper`` of those that routes in paper mode would have sent.
    """

    now: int
    epoch: int
    opinions: list[Opinion]
    paper: list[Opinion] = []


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a strategy outside the router made of a snapshot, for ``POST /v1/observe``.

    ``signal`` is a direction or ``none``. ``route`` names the route to compare with; without it, every route of the instrument.
    ``source`` is the strategy's name.
    """

    symbol: str
    ts_event: int
    signal: Literal["long", "short", "flat", "none"]
    route: str | None = None
    source: str = "baseline"


class ObserveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``POST /v1/observe``, in observations and routes: each counts once for every route that it goes to.

    ``matched`` met their decision, ``waiting`` wait for it, ``repeated`` were there already.
    """

    matched: int
    waiting: int
    repeated: int


def split_instrument(instrument: str) -> tuple[str, str]:
    """``rb2410.SHFE`` -> ``("rb2410", "SHFE")``; the last dot separates.

    Raises CallerError (invalid_instrument) where either part is empty, has white space or control characters, or the whole
    is longer than 64 characters.
    """
    symbol, dot, exchange = instrument.rpartition(".")
    if (
        not dot
        or not symbol
        or not exchange
        or len(instrument) > 64
        or not instrument.isprintable()
        or " " in instrument
    ):
        shown = instrument if len(instrument) <= 80 else instrument[:80] + "…"
        raise error(
            Problem.INVALID_INSTRUMENT,
            f"{shown!r} is not symbol.EXCHANGE, such as rb2410.SHFE, of at most 64 printable characters",
            "/symbol",
        )
    return symbol, exchange
