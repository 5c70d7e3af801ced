"""What the alerts measure, for the rules of Prometheus, which see the same things from outside."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from signalyard._counting import Count, Counter
from signalyard_router.rules.activity import Activity
from signalyard_router.rules.alarm import Alert, AlertKind, AlertState, SilenceCause
from signalyard_router.rules.surge import Surge

OTHER = "other"
SURGING = 10
"""How many contracts of a route that give too many signals have a series of their own: the worst of them."""


class Seen(msgspec.Struct):
    """A route as it was last looked at. ``surging`` are its contracts that give too many signals, the worst first."""

    route: str
    kinds: Sequence[AlertKind]
    activity: Activity
    is_open: bool = False
    alerts: Mapping[AlertKind, Alert] = {}
    surging: Sequence[Surge] = ()


class AlertMetrics(Collector):
    """Counts signals and looks, and reads all else off what was seen, when it is asked for: with hundreds of routes, setting
    every series at every look would take a tenth of a core.

    ``symbols`` is how many (route, instrument) have a series of their own; the signals of the rest are counted together.
    """

    def __init__(
        self, registry: CollectorRegistry, seen: Callable[[], Iterable[Seen]] = tuple, symbols: int = 1_000
    ) -> None:
        self._seen = seen
        self._symbols = symbols
        self.looks = Counter(
            "signalyard_watch_looks_total", "Times that the router looked at all of its alerts", registry=registry
        )
        self._signals = Counter(
            "signalyard_signals_total",
            "Emitted signals, by instrument; beyond the first thousand instruments the symbol is 'other'",
            ["route", "symbol", "direction"],
            registry=registry,
        )
        self._own: set[tuple[str, str]] = set()
        self._children: dict[tuple[str, str, str], Count] = {}
        registry.register(self)

    def signal(self, route: str, symbol: str, direction: str) -> None:
        """Count a signal."""
        key = (route, symbol, direction)
        counter = self._children.get(key)
        if counter is None:
            if (route, symbol) not in self._own:
                if len(self._own) >= self._symbols:
                    self._signals.labels(route, OTHER, direction).inc()
                    return
                self._own.add((route, symbol))
            counter = self._children[key] = self._signals.labels(*key)
        counter.inc()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from _Families().all()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = _Families()
        for seen in self._seen():
            families.add(seen)
        yield from families.all()


class _Families:
    """The series of the present, all of them there from a route's first moment."""

    def __init__(self) -> None:
        self._open = GaugeMetricFamily(
            "signalyard_session_open", "1 while the route's session is open, else 0", labels=("route",)
        )
        self._alert = GaugeMetricFamily(
            "signalyard_alert", "1 while the alert fires, else 0", labels=("route", "alert")
        )
        self._value = GaugeMetricFamily(
            "signalyard_alert_value",
            "What the alert compares with its threshold, as the status shows it; NaN where there is nothing to compare",
            labels=("route", "alert"),
        )
        self._silence = GaugeMetricFamily(
            "signalyard_silence",
            "1 for the cause of the route's silence while its no_signal alert fires, else 0",
            labels=("route", "cause"),
        )
        self._surging = GaugeMetricFamily(
            "signalyard_surge_signals",
            "Signals in this part of the session of a contract that gives too many; only the ten worst of a route are there",
            labels=("route", "symbol"),
        )
        self._last = {
            what: GaugeMetricFamily(
                f"signalyard_last_{what}_timestamp_seconds",
                f"When the route's last {what} was recorded, the journal's time; 0 if never",
                labels=("route",),
            )
            for what in ("snapshot", "answer", "signal")
        }

    def add(self, seen: Seen) -> None:
        """Add a route's."""
        route = seen.route
        self._open.add_metric((route,), float(seen.is_open))
        silent: SilenceCause | None = None
        for kind in seen.kinds:
            alert = seen.alerts.get(kind)
            firing = alert is not None and alert.state is AlertState.FIRING
            value = alert.value if alert is not None else None
            self._alert.add_metric((route, kind), float(firing))
            self._value.add_metric((route, kind), math.nan if value is None else value)
            if firing and alert is not None and kind is AlertKind.NO_SIGNAL:
                silent = alert.cause
        for cause in SilenceCause:
            self._silence.add_metric((route, cause), float(cause is silent))
        for surge in seen.surging[:SURGING]:
            self._surging.add_metric((route, surge.symbol), surge.count)
        activity = seen.activity
        for what, at in (
            ("snapshot", activity.last_snapshot),
            ("answer", activity.last_answer),
            ("signal", activity.last_signal),
        ):
            self._last[what].add_metric((route,), at / 1e9)

    def all(self) -> Iterator[GaugeMetricFamily]:
        """Every family."""
        yield from (self._open, self._alert, self._value, self._silence, self._surging, *self._last.values())
