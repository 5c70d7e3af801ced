"""What stands behind each track: how many of its endpoints are ready, its weight in force, and what it serves."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from signalyard_router.ports import Upstream
from signalyard_router.rules.route import ShadowRung, TrackRung
from signalyard_router.rules.split import SLOTS
from signalyard_router.rules.table import Table

_TRACK = ("route", "track", "version")


class TrackCollector(Collector):
    """Reads the tracks off the table in force when it is asked for; so every one is there from the start, and none that is gone."""

    def __init__(self, table: Callable[[], Table], upstream: Upstream) -> None:
        self._table = table
        self._upstream = upstream

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ready, weight, info = families = _families()
        for route in self._table().routes.values():
            rungs: tuple[TrackRung | ShadowRung, ...] = (*route.tracks.values(), *route.standbys, *route.shadows)
            for rung in rungs:
                labels = (route.name, rung.track, rung.target.version)
                ready.add_metric(labels, sum(endpoint.ready for endpoint in self._upstream.endpoints(rung.target)))
                if isinstance(rung, TrackRung) and rung.track in route.tracks:
                    weight.add_metric(labels, route.weights.get(rung.track, 0) / SLOTS)
                card = self._upstream.card(rung.target)
                if card is not None:
                    info.add_metric((*labels, route.model, card.version, card.digest), 1)
        yield from families


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "signalyard_track_endpoints_ready", "Endpoints of the track that are ready to be asked", labels=_TRACK
        ),
        GaugeMetricFamily(
            "signalyard_track_weight",
            "The share of instruments that the split gives to the track, levers included",
            labels=_TRACK,
        ),
        GaugeMetricFamily(
            "signalyard_track_info",
            "1 for each track whose endpoints have answered, with what they serve",
            labels=(*_TRACK, "model", "serving", "digest"),
        ),
    )
