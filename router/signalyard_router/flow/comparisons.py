"""All comparisons of a router: for reports and, read off at the moment of a scrape, for metrics."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from signalyard_router.rules.compare import Comparison, Kind
from signalyard_router.rules.route import Route
from signalyard_router.rules.tally import EDGES, WINDOWS, Difference, Tally
from signalyard_router.rules.verdict import TOTAL, ComparisonReport, ShadowSummary, judge, report

Key = tuple[str, Kind, str]
"""Route, kind and name."""

_LABELS = ("route", "kind", "name")
_LE = (*(f"{edge:g}" for edge in EDGES), "+Inf")


class Comparisons(Collector):
    """One a shadow and one a baseline of every route. ``before`` is called before anything is read off."""

    def __init__(self, registry: CollectorRegistry, before: Callable[[], None]) -> None:
        self.errors = 0
        self.notes_dropped = 0
        self.waiting: dict[Key, Callable[[], int]] = {}
        self._before = before
        self._all: dict[Key, Comparison] = {}
        self._routes: dict[str, Route] = {}
        registry.register(self)

    def adopt(self, routes: Iterable[Route]) -> None:
        """These are the routes from now on: what is gone with a route or a shadow is forgotten, the rest goes on."""
        self._routes = {route.name: route for route in routes}
        for key in list(self._all):
            route = self._routes.get(key[0])
            if route is None or (key[1] is Kind.SHADOW and key[2] not in _versions(route)):
                del self._all[key]
                self.waiting.pop(key, None)
        for route in self._routes.values():
            for version in _versions(route):
                self.of(route, Kind.SHADOW, version)
        for key, comparison in self._all.items():
            comparison.rules = self._routes[key[0]].gate

    def of(self, route: Route, kind: Kind, name: str) -> Comparison:
        """The comparison; from the first call on its counts are there, at zero."""
        key = (route.name, kind, name)
        comparison = self._all.get(key)
        if comparison is None:
            comparison = self._all[key] = Comparison(route.name, kind, name, route.gate)
        return comparison

    def report(
        self, now: int, digests: Callable[[Route, str], str | None], route: str | None
    ) -> list[ComparisonReport]:
        """Every comparison in full, or those of a route. ``digests`` knows what a route's shadow serves."""
        self._before()
        return [
            ComparisonReport(
                route=key[0],
                kind=key[1],
                name=key[2],
                digest=digests(self._routes[key[0]], key[2]) if key[1] is Kind.SHADOW else None,
                waiting=self._waits(key),
                thresholds=self._routes[key[0]].shadow.thresholds,
                windows={
                    name: report(tally, self._routes[key[0]].shadow.thresholds)
                    for name, tally in _tallies(comparison, now)
                },
            )
            for key, comparison in sorted(self._all.items())
            if route in (None, key[0])
        ]

    def disagreement(self, key: Key, now: int, minimum: int) -> float | None:
        """The share of a comparison's last hour, None where there is no such comparison or fewer than ``minimum`` pairs."""
        comparison = self._all.get(key)
        if comparison is None:
            return None
        tally = comparison.windows.over(now, WINDOWS["1h"])
        compared = tally.compared
        return (compared - tally.agreed) / compared if compared >= minimum else None

    def summary(self, route: Route) -> list[ShadowSummary]:
        """A route's comparisons, in total."""
        found: list[ShadowSummary] = []
        for (name, kind, other), comparison in sorted(self._all.items()):
            if name == route.name:
                tally = comparison.windows.total()
                compared, selected = tally.compared, tally.selected
                found.append(
                    ShadowSummary(
                        kind=kind,
                        name=other,
                        compared=compared,
                        disagreement=(compared - tally.agreed) / compared if compared else None,
                        coverage=tally.paired / selected if selected else None,
                        verdict=judge(tally, route.shadow.thresholds).result,
                    )
                )
        return found

    def describe(self) -> list[Metric]:
        """Its metrics, without values: what a registry asks for when it takes a collector."""
        return list(self._families({}))

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        self._before()
        return self._families({key: comparison.windows.total() for key, comparison in self._all.items()})

    def _families(self, tallies: dict[Key, Tally]) -> Iterator[Metric]:
        pairs = CounterMetricFamily(
            "signalyard_shadow_pairs",
            "Snapshots that both sides answered, by the live direction and the other one",
            labels=(*_LABELS, "live", "other"),
        )
        excluded = CounterMetricFamily(
            "signalyard_shadow_excluded",
            "Snapshots of the mirrored share, and observations, that made no pair, by reason",
            labels=(*_LABELS, "reason"),
        )
        signals = CounterMetricFamily(
            "signalyard_shadow_signals",
            "Signals that each side would have sent after its own dedupe window",
            labels=(*_LABELS, "side"),
        )
        score = HistogramMetricFamily(
            "signalyard_shadow_score_difference", "Absolute difference of the two scores", labels=_LABELS
        )
        confidence = HistogramMetricFamily(
            "signalyard_shadow_confidence_difference", "Absolute difference of the two confidences", labels=_LABELS
        )
        waiting = GaugeMetricFamily(
            "signalyard_shadow_waiting",
            "A shadow's rows that wait or are under way; a baseline's observations that wait for their decision",
            labels=_LABELS,
        )
        most = GaugeMetricFamily(
            "signalyard_shadow_disagreement_limit", "The share of disagreement that the route allows", labels=_LABELS
        )
        least = GaugeMetricFamily(
            "signalyard_shadow_minimum_pairs", "How many pairs the route asks for before it judges", labels=_LABELS
        )
        for key, tally in tallies.items():
            labels = (key[0], key[1].value, key[2])
            for live, row in tally.matrix().items():
                for other, count in row.items():
                    pairs.add_metric((*labels, live, other), count)
            for reason, count in tally.exclusions().items():
                excluded.add_metric((*labels, reason), count)
            for side, count in zip(("live", "other"), tally.signals, strict=True):
                signals.add_metric((*labels, side), count)
            _observe(score, labels, tally.score)
            _observe(confidence, labels, tally.confidence)
            waiting.add_metric(labels, self._waits(key))
            thresholds = self._routes[key[0]].shadow.thresholds
            most.add_metric(labels, thresholds.disagreement)
            least.add_metric(labels, thresholds.minimum)
        yield from (pairs, excluded, signals, score, confidence, waiting, most, least)
        yield CounterMetricFamily(
            "signalyard_shadow_errors", "Failures of the comparison itself; each is in the log", value=self.errors
        )
        yield CounterMetricFamily(
            "signalyard_shadow_notes_dropped", "Pairs that found no place in the journal", value=self.notes_dropped
        )

    def _waits(self, key: Key) -> int:
        waiting = self.waiting.get(key)
        return waiting() if waiting is not None else 0


def _versions(route: Route) -> list[str]:
    return [shadow.target.version for shadow in route.shadows]


def _tallies(comparison: Comparison, now: int) -> Iterator[tuple[str, Tally]]:
    for name, width in WINDOWS.items():
        yield name, comparison.windows.over(now, width)
    yield TOTAL, comparison.windows.total()


def _observe(family: HistogramMetricFamily, labels: tuple[str, ...], difference: Difference) -> None:
    buckets = list(zip(_LE, accumulate(difference.buckets), strict=True))
    family.add_metric(labels, buckets=buckets, sum_value=difference.absolute)
