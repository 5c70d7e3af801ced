"""A proposal: what the rules make of one snapshot and its model answer, before the gate has settled it."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import nan

import msgspec

from signalyard.problems import ProblemDetails
from signalyard.words import Direction, Reason, Track
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.rows import Row


class Step(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One rung that was tried: what it was, what it was given and what came of it. Durations are microseconds.

    ``result`` is ``answered``, the problem's code, or why the rung was passed over. ``version`` and ``endpoint`` are those that
    really were asked; ``again`` marks another endpoint of the same rung.
    """

    rung: str
    result: str
    model: str = ""
    version: str = ""
    endpoint: str = ""
    digest: str = ""
    budget_us: int = 0
    elapsed_us: int = 0
    detail: str = ""
    again: bool = False


class Input(msgspec.Struct, frozen=True, gc=False):
    """The features as they came."""

    columns: msgspec.Raw
    values: Sequence[float | None]

    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return _columns_decoder.decode(self.columns)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One row of a model's answer, and who gave it.

    ``failover``: not the track that the split assigned; ``drift``: not the version that the document names for the track.
    """

    score: float
    confidence: float | None
    model: str
    version: str
    digest: str
    track: Track | None
    failover: bool
    drift: bool = False


class Proposal(msgspec.Struct, gc=False):
    """What the gate is asked to settle.

    Exactly one of these is set: ``problem`` (rejected), ``abstain``, ``direction`` (flat, by the ladder), ``answer``. From an
    answer `conclude` makes a direction or an abstention when it is settled; ``held`` is what hysteresis started from,
    ``objection`` the filters' reason against the direction. ``assigned`` is the version that was to decide, whoever answered. ``commit_by`` is monotonic nanoseconds; ``rules`` come from
    the route, so that the gate needs no document. ``reduce_only`` is set for the ladder's ``flat`` rung alone.
    """

    proposal_id: str
    symbol: str
    ts_event: int
    ts_recv: int
    received: int
    route: str = ""
    revision: str = ""
    generation: int = 0
    sequence: int = 0
    consumer: str = ""
    input: Input | None = None
    problem: ProblemDetails | None = None
    abstain: Reason | None = None
    answer: Answer | None = None
    model: str = ""
    assigned: str = ""
    degraded: bool = False
    steps: Sequence[Step] = ()
    commit_by: int = 0
    budget: int = 0
    request_id: str = ""
    rules: GateRules = GateRules()
    direction: Direction | None = None
    held: Direction | None = None
    objection: Reason | None = None
    position: float | None = None
    reduce_only: bool = False


_columns_encoder = msgspec.json.Encoder()
_columns_decoder = msgspec.json.Decoder(tuple[str, ...])


@lru_cache(maxsize=1024)
def columns_json(columns: tuple[str, ...]) -> msgspec.Raw:
    """The columns as the journal writes them."""
    return msgspec.Raw(_columns_encoder.encode(columns))


class _Order(msgspec.Struct, frozen=True):
    """A set of columns in the order of their names: where each stands, the names as JSON, the values' packed form.

    ``sorted``: they come in that order.
    """

    places: tuple[int, ...]
    sorted: bool
    names: bytes
    packed: struct.Struct


@lru_cache(maxsize=1024)
def _order(columns: tuple[str, ...]) -> _Order:
    places = tuple(sorted(range(len(columns)), key=columns.__getitem__))
    names = _columns_encoder.encode([columns[place] for place in places])
    return _Order(places, places == tuple(range(len(places))), names, struct.Struct(f"<{len(places)}d"))


def identity(route: str, row: Row) -> str:
    """The proposal's id: 32 hexadecimal digits over route, instrument, ts_event, sequence, input and consumer.

    The order in which a caller writes the features does not count, nor does the wire, nor whether a number is written as 1 or
    1.0. Values are hashed as little-endian FP64: writing 32 of them as text took as long as all the rest.
    """
    order, named = _order(row.columns), row.values
    if not order.sorted:
        named = [named[place] for place in order.places]
    try:
        packed = order.packed.pack(*named)
        total: float = sum(named)  # type: ignore[arg-type]  # None raises, as it does in pack
    except (struct.error, TypeError):
        total = nan
    if total != total:  # a value may be missing: every way to say so is the same input
        packed = order.packed.pack(*[nan if value is None or value != value else value for value in named])
    hasher = blake2b(
        _columns_encoder.encode((route, row.symbol, row.ts_event, row.sequence, row.consumer)), digest_size=16
    )
    hasher.update(order.names)
    hasher.update(packed)
    return hasher.hexdigest()
