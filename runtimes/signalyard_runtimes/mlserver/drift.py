"""The metrics of feature drift, worked out when they are asked for."""

from collections.abc import Iterable, Iterator

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from signalyard.profile import ModelCard
from signalyard_runtimes.drift.watch import DriftWatch

MOST_FEATURES = 50
"""So many features of a version have a series, those that have moved most; the largest index of all has one of its own."""

_LABELS = ("model", "version")


class _Drifts(Collector):
    """The versions that are watched."""

    def __init__(self) -> None:
        self.watched: dict[tuple[str, str], DriftWatch] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, with a sample or more for each version of which rows have been counted."""
        index, largest, rows = self._families()
        for labels, watch in list(self.watched.items()):
            drift = watch.read()
            rows.add_metric(labels, drift.rows)
            if not drift.rows:
                continue
            largest.add_metric(labels, float(drift.stability.max()))
            for place in np.argsort(-drift.stability, kind="stable")[:MOST_FEATURES]:
                index.add_metric((*labels, drift.names[place]), float(drift.stability[place]))
        return iter((index, largest, rows))

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families without samples, for the registry to know their names by."""
        return self._families()

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "signalyard_model_feature_psi",
                "Population stability index of a feature's values in the window against the training rows; "
                f"of the {MOST_FEATURES} features that have moved most",
                labels=(*_LABELS, "feature"),
            ),
            GaugeMetricFamily(
                "signalyard_model_feature_psi_max",
                "The largest population stability index of all features",
                labels=_LABELS,
            ),
            GaugeMetricFamily(
                "signalyard_model_drift_rows",
                "Rows in the window that drift is watched over",
                labels=_LABELS,
            ),
        )


_DRIFTS = _Drifts()
REGISTRY.register(_DRIFTS)


def watch(card: ModelCard, drift: DriftWatch) -> None:
    """Show the drift of this bundle from now on."""
    _DRIFTS.watched[card.model, card.version] = drift


def begin(cards: Iterable[ModelCard]) -> None:
    """Forget what these bundles have scored so far: it was their warm-up."""
    for card in cards:
        if (drift := _DRIFTS.watched.get((card.model, card.version))) is not None:
            drift.clear()


def forget(card: ModelCard, drift: DriftWatch) -> None:
    """Show it no longer, unless another one has taken its place."""
    if _DRIFTS.watched.get((card.model, card.version)) is drift:
        del _DRIFTS.watched[card.model, card.version]
