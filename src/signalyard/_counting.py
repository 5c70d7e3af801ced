"""Counters and histograms for one thread.

prometheus_client takes a lock for every count and walks a histogram's edges one by one; with a dozen counts a decision that
was a tenth of the router's time. These are counted without a lock, because both halves count on one thread, and are given to the
library when they are asked for, which does all the rest. The parameters are the library's own.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

_Child = TypeVar("_Child")


class Count:
    """One counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Count; ``amount`` is not negative."""
        self.value += amount


class Total:
    """One summary: how many values, and what they add up to."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """Note a value."""
        self.count += 1
        self.sum += amount


class Distribution:
    """One histogram. ``edges`` ascend; the last bucket has none."""

    __slots__ = ("buckets", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.buckets = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """Note a value."""
        self.buckets[bisect_left(self.edges, amount)] += 1
        self.sum += amount


class _Family(Collector, Generic[_Child]):
    def __init__(self, name: str, documentation: str, labelnames: Iterable[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labelnames = tuple(labelnames)
        self._children: dict[tuple[str, ...], _Child] = {}

    def labels(self, *values: str) -> _Child:
        """The child of these labels, which is there from now on. Keep it: looking it up costs more than counting."""
        if len(values) != len(self._labelnames):
            raise ValueError(f"{self._name} has the labels {self._labelnames}, not {len(values)} of them")
        texts = tuple(map(str, values))
        child = self._children.get(texts)
        if child is None:
            child = self._children[texts] = self._new()
        return child

    def remove(self, *values: str) -> None:
        """Show the child of these labels no longer; whoever holds it may go on counting, and nobody sees it."""
        self._children.pop(tuple(map(str, values)), None)

    @abstractmethod
    def _new(self) -> _Child:
        """A child at zero."""

    def describe(self) -> Iterable[Metric]:
        return self.collect()


class Counter(_Family[Count]):
    """A counter: its children where it has labels, itself one where it has none."""

    def __init__(
        self, name: str, documentation: str, labelnames: Iterable[str] = (), *, registry: CollectorRegistry
    ) -> None:
        super().__init__(name.removesuffix("_total"), documentation, labelnames)
        registry.register(self)
        if not self._labelnames:
            self.inc = self.labels().inc

    def _new(self) -> Count:
        return Count()

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for values, child in self._children.items():
            family.add_metric(values, child.value)
        yield family


class Summary(_Family[Total]):
    """A summary with labels."""

    def __init__(
        self, name: str, documentation: str, labelnames: Iterable[str], *, registry: CollectorRegistry
    ) -> None:
        super().__init__(name, documentation, labelnames)
        registry.register(self)

    def _new(self) -> Total:
        return Total()

    def collect(self) -> Iterable[Metric]:
        family = SummaryMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for values, child in self._children.items():
            family.add_metric(values, child.count, child.sum)
        yield family


class Histogram(_Family[Distribution]):
    """A histogram: its children where it has labels, itself one where it has none."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        super().__init__(name, documentation, labelnames)
        self._edges = tuple(float(edge) for edge in buckets)
        self._texts = [*map(repr, self._edges), "+Inf"]
        registry.register(self)
        if not self._labelnames:
            self.observe = self.labels().observe

    def _new(self) -> Distribution:
        return Distribution(self._edges)

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for values, child in self._children.items():
            counts = accumulate(child.buckets)
            family.add_metric(values, list(zip(self._texts, counts, strict=True)), child.sum)
        yield family
