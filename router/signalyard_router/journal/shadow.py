"""Comparisons from the journal: the pairs that routes with ``shadow.journal`` had recorded."""

from signalyard_router.journal.query import Position, follow
from signalyard_router.ports import Disk
from signalyard_router.rules.compare import Kind
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.record import RouteRecord, ShadowRecord
from signalyard_router.rules.route import Thresholds, compile_route
from signalyard_router.rules.tally import Tally
from signalyard_router.rules.verdict import TOTAL, ComparisonReport, ShadowAnswer, report


def recorded(disk: Disk, folder: str, route: str | None = None) -> ShadowAnswer:
    """All pairs that the folder still holds, in total, judged by the newest document of their route that it holds.

    What made no pair is not in the journal, so there is no coverage. Raises RouterError (journal_corrupt).
    """
    tallies: dict[tuple[str, Kind, str], Tally] = {}
    digests: dict[tuple[str, Kind, str], str] = {}
    thresholds: dict[str, Thresholds] = {}
    now = 0
    for record in follow(disk, folder, Position()):
        now = max(now, record.t)
        if isinstance(record, RouteRecord):
            document = parse_document(record.document, record.place)
            thresholds[record.name] = compile_route(document).shadow.thresholds
        elif isinstance(record, ShadowRecord) and route in (None, record.route):
            key = (record.route, Kind.BASELINE if record.baseline else Kind.SHADOW, record.name)
            _count(tallies.setdefault(key, Tally()), record)
            digests[key] = record.digest
    return ShadowAnswer(
        now=now,
        comparisons=[
            ComparisonReport(
                route=key[0],
                kind=key[1],
                name=key[2],
                digest=digests[key] or None,
                waiting=0,
                thresholds=thresholds.get(key[0], Thresholds()),
                windows={TOTAL: report(tally, thresholds.get(key[0], Thresholds()), coverage_known=False)},
            )
            for key, tally in sorted(tallies.items())
        ],
    )


def _count(tally: Tally, record: ShadowRecord) -> None:
    tally.pair(record.live, record.direction)
    tally.signals[0] += record.live_signal
    tally.signals[1] += record.signal
    if record.score is not None and record.live_score is not None:
        tally.score.note(record.score - record.live_score)
    if record.confidence is not None and record.live_confidence is not None:
        tally.confidence.note(record.confidence - record.live_confidence)
