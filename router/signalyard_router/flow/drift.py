"""Which tracks are not served the version that their document names."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from signalyard_router.ports import Upstream
from signalyard_router.rules.table import Table


class DriftCollector(Collector):
    """Reads drift off the table in force when it is asked for; so every track is there from the start, and none that is gone."""

    def __init__(self, table: Callable[[], Table], upstream: Upstream) -> None:
        self._table = table
        self._upstream = upstream

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield _family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = _family()
        for route in self._table().routes.values():
            for rung in (*route.tracks.values(), *route.standbys):
                card = self._upstream.card(rung.target)
                drifted = card is not None and card.version != rung.target.version
                family.add_metric((route.name, rung.track, rung.target.version), float(drifted))
        yield family


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "signalyard_version_drift",
        "1 while no endpoint of the track serves the version that its document names, and another one is served",
        labels=("route", "track", "version"),
    )
