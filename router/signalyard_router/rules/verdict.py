"""What a comparison comes to: the figures of its windows, and whether they pass the route's thresholds."""

from typing import Literal

import msgspec

from signalyard_router.rules.compare import Kind
from signalyard_router.rules.route import Thresholds
from signalyard_router.rules.tally import EDGES, Difference, Tally

TOTAL = "total"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``fail`` names the thresholds that were missed in ``failed``; ``not_enough_data`` says what there is in ``detail``."""

    result: Literal["pass", "fail", "not_enough_data"]
    failed: list[str] = []
    detail: str = ""


class DifferenceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Differences, the other side's less the live one's; None where there are none.

    ``histogram`` counts absolute differences up to each edge and above the one before.
    """

    count: int
    mean: float | None
    mean_absolute: float | None
    histogram: dict[str, int]


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """One window. ``matrix`` is pairs by live direction, then by the other one.

    ``disagreement`` is a share of ``compared``, the pairs in which a side took a position; ``coverage`` is the share of
    ``selected`` that made a ``paired``. Both are None where nothing was selected or compared.
    """

    selected: int
    paired: int
    compared: int
    agreed: int
    disagreement: float | None
    coverage: float | None
    matrix: dict[str, dict[str, int]]
    excluded: dict[str, int]
    score: DifferenceReport
    confidence: DifferenceReport
    signals: dict[str, int]
    verdict: Verdict


class ComparisonReport(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow or baseline on a route, by windows ``1m``, ``10m``, ``1h`` and ``total``.

    ``digest`` is what the shadow's server says it serves, ``waiting`` the rows that wait or are under way.
    """

    route: str
    kind: Kind
    name: str
    digest: str | None
    waiting: int
    thresholds: Thresholds
    windows: dict[str, WindowReport]


class ShadowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``GET /v1/shadow``; ``now`` is the journal's time."""

    now: int
    comparisons: list[ComparisonReport]


class ShadowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison in a line, in total."""

    kind: Kind
    name: str
    compared: int
    disagreement: float | None
    coverage: float | None
    verdict: str


def judge(tally: Tally, asked: Thresholds, *, coverage_known: bool = True) -> Verdict:
    """Hold a tally against thresholds.

    Coverage is judged from ``minimum`` selected snapshots on, all else from ``minimum`` compared pairs on: a shadow that never
    answers has failed, and will never have enough pairs. A difference is not judged where there are no numbers to differ.
    """
    failed: list[str] = []
    coverage = _share(tally.paired, tally.selected)
    if coverage_known and tally.selected >= asked.minimum and coverage is not None and coverage < asked.coverage:
        failed.append(f"coverage {coverage:.4g} < {asked.coverage:g}")
    compared = tally.compared
    if compared >= asked.minimum:
        disagreement = (compared - tally.agreed) / compared
        if disagreement > asked.disagreement:
            failed.append(f"disagreement {disagreement:.4g} > {asked.disagreement:g}")
        for name, difference, most in (
            ("scoreDifference", tally.score, asked.score_difference),
            ("confidenceDifference", tally.confidence, asked.confidence_difference),
        ):
            if most is not None and difference.count and difference.absolute / difference.count > most:
                failed.append(f"{name} {difference.absolute / difference.count:.4g} > {most:g}")
    if failed:
        return Verdict(result="fail", failed=failed)
    if compared < asked.minimum:
        return Verdict(result="not_enough_data", detail=f"{compared} pairs compared, {asked.minimum} are asked for")
    return Verdict(result="pass")


def report(tally: Tally, asked: Thresholds, *, coverage_known: bool = True) -> WindowReport:
    """A tally as people read it."""
    compared = tally.compared
    return WindowReport(
        selected=tally.selected,
        paired=tally.paired,
        compared=compared,
        agreed=tally.agreed,
        disagreement=_share(compared - tally.agreed, compared),
        coverage=_share(tally.paired, tally.selected) if coverage_known else None,
        matrix=tally.matrix(),
        excluded=tally.exclusions(),
        score=_difference(tally.score),
        confidence=_difference(tally.confidence),
        signals={"live": tally.signals[0], "other": tally.signals[1]},
        verdict=judge(tally, asked, coverage_known=coverage_known),
    )


def _difference(difference: Difference) -> DifferenceReport:
    count = difference.count
    return DifferenceReport(
        count=count,
        mean=difference.total / count if count else None,
        mean_absolute=difference.absolute / count if count else None,
        histogram=dict(zip([*(f"{edge:g}" for edge in EDGES), "inf"], difference.buckets, strict=True)),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
