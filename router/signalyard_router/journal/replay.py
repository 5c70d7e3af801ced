"""Scoring recorded inputs again, on a running server of the versions that scored them."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from signalyard.problems import ModelError, Problem
from signalyard.profile import ScoredRows
from signalyard_router.ports import Clock
from signalyard_router.rules.record import DecisionRecord, Record
from signalyard_router.rules.units import SECOND

_PAUSES = (0.2, 1.0)
"""Seconds before a call that failed for a passing reason is made again."""

_PASSING = (Problem.MODEL_UNREACHABLE, Problem.MODEL_TIMEOUT, Problem.MODEL_OVERLOADED)

Value = float | str | None


class Server(Protocol):
    """The server that records are replayed on."""

    async def score(
        self, model: str, version: str, columns: tuple[str, ...], rows: Sequence[Sequence[float | None]], until: int
    ) -> ScoredRows:
        """Score ``rows`` [n, len(columns)] by ``until``, monotonic nanoseconds. Raises ModelError."""
        ...


class Difference(msgspec.Struct, frozen=True):
    """A record that the server does not bear out. ``what`` is score, confidence, digest or row_error."""

    seq: int
    symbol: str
    what: str
    recorded: Value
    replayed: Value
    model: str
    version: str


class Tally(msgspec.Struct):
    """What became of the records. ``other`` are of versions that were not asked for or are not served, by version; ``unanswered``
    carry no model's answer, or no input."""

    scored: int = 0
    different: int = 0
    unanswered: int = 0
    other: dict[str, int] = {}
    differences: dict[str, int] = {}


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How to replay. ``tolerance`` is what two numbers may differ by, relative to the larger of them and 1."""

    route: str | None = None
    version: str | None = None
    limit: int | None = None
    tolerance: float = 1e-9
    batch: int = 256
    call_seconds: float = 30.0

    async def run(
        self, records: Iterable[Record], server: Server, clock: Clock, tally: Tally, passed: Callable[[int], None]
    ) -> AsyncIterator[Difference]:
        """Every difference, in the order of the records; ``tally`` is kept up to date, ``passed`` hears the number of each record.

        Raises ModelError where the server cannot be asked, and what ``records`` raises.
        """
        waiting: list[DecisionRecord] = []
        chosen = 0
        absent: set[tuple[str, str | None]] = set()
        for record in records:
            passed(record.seq)
            if not isinstance(record, DecisionRecord) or self.route not in (None, record.route):
                continue
            if record.input is None or record.score is None or record.version is None:
                tally.unanswered += 1
                continue
            if self.version not in (None, record.version) or (record.model, record.version) in absent:
                _skip(tally, record)
                continue
            waiting.append(record)
            chosen += 1
            if len(waiting) == self.batch or chosen == self.limit:
                async for difference in self._compare(waiting, server, clock, tally, absent):
                    yield difference
                waiting = []
                if chosen == self.limit:
                    return
        async for difference in self._compare(waiting, server, clock, tally, absent):
            yield difference

    async def _compare(
        self,
        records: list[DecisionRecord],
        server: Server,
        clock: Clock,
        tally: Tally,
        absent: set[tuple[str, str | None]],
    ) -> AsyncIterator[Difference]:
        """One call for the records of one version with the same columns; the differences of all in order."""
        groups: dict[tuple[str, str, tuple[str, ...]], list[DecisionRecord]] = {}
        for record in records:
            assert record.input is not None
            key = (record.model, record.version or "", record.input.names())
            groups.setdefault(key, []).append(record)
        found: list[Difference] = []
        for (model, version, columns), group in groups.items():
            if (model, version) not in absent:
                answer = await self._score(model, version, columns, group, server, clock)
                if answer is not None:
                    found += self._differences(group, answer, tally)
                    continue
                absent.add((model, version))
            for record in group:
                _skip(tally, record)
        for difference in sorted(found, key=lambda item: item.seq):
            tally.differences[difference.what] = tally.differences.get(difference.what, 0) + 1
            yield difference

    async def _score(
        self,
        model: str,
        version: str,
        columns: tuple[str, ...],
        group: list[DecisionRecord],
        server: Server,
        clock: Clock,
    ) -> ScoredRows | None:
        """The server's answer, or None where it does not serve the version."""
        rows = [record.input.values for record in group if record.input is not None]
        for pause in (*_PAUSES, None):
            try:
                until = clock.monotonic() + int(self.call_seconds * SECOND)
                return await server.score(model, version, columns, rows, until)
            except ModelError as exc:
                if exc.problem is Problem.MODEL_UNKNOWN:
                    return None
                if exc.problem not in _PASSING or pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _differences(self, group: list[DecisionRecord], answer: ScoredRows, tally: Tally) -> list[Difference]:
        found: list[Difference] = []
        for index, record in enumerate(group):
            pairs: list[tuple[str, Value, Value]] = []
            if record.digest != answer.digest:
                pairs.append(("digest", record.digest, answer.digest))
            if answer.row_error[index]:
                pairs.append(("row_error", None, answer.row_error[index]))
            else:
                confidence = answer.confidence[index] if answer.confidence is not None else None
                pairs += [
                    (what, old, new)
                    for what, old, new in (
                        ("score", record.score, answer.score[index]),
                        ("confidence", record.confidence, confidence),
                    )
                    if not self._same(old, new)
                ]
            tally.scored += 1
            tally.different += bool(pairs)
            found += [
                Difference(record.seq, record.symbol, what, old, new, record.model, record.version or "")
                for what, old, new in pairs
            ]
        return found

    def _same(self, old: float | None, new: float | None) -> bool:
        if old is None or new is None:
            return old is new
        return math.isclose(old, new, rel_tol=self.tolerance, abs_tol=self.tolerance)


def _skip(tally: Tally, record: DecisionRecord) -> None:
    name = f"{record.model} {record.version}"
    tally.other[name] = tally.other.get(name, 0) + 1
