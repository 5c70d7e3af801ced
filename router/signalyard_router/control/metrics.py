"""What the alerts measure, for the rules of Prometheus, which see the same things from outside."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge

from signalyard_router.rules.activity import Activity
from signalyard_router.rules.alarm import Alert, AlertKind, AlertState, SilenceCause
from signalyard_router.rules.surge import Surge

OTHER = "other"
SURGING = 10
"""How many contracts of a route that give too many signals have a series of their own: the worst of them."""


class AlertMetrics:
    """``symbols`` is how many (route, instrument) have a series of their own; the signals of the rest are counted together."""

    def __init__(self, registry: CollectorRegistry, symbols: int = 1_000) -> None:
        self._symbols = symbols
        self._open = Gauge(
            "signalyard_session_open", "1 while the route's session is open, else 0", ["route"], registry=registry
        )
        self._alert = Gauge(
            "signalyard_alert", "1 while the alert fires, else 0", ["route", "alert"], registry=registry
        )
        self._value = Gauge(
            "signalyard_alert_value",
            "What the alert compares with its threshold, as the status shows it; NaN where there is nothing to compare",
            ["route", "alert"],
            registry=registry,
        )
        self._silence = Gauge(
            "signalyard_silence",
            "1 for the cause of the route's silence while its no_signal alert fires, else 0",
            ["route", "cause"],
            registry=registry,
        )
        self._surging = Gauge(
            "signalyard_surge_signals",
            "Signals in this part of the session of a contract that gives too many; only the ten worst of a route are there",
            ["route", "symbol"],
            registry=registry,
        )
        self.looks = Counter(
            "signalyard_watch_looks_total", "Times that the router looked at all of its alerts", registry=registry
        )
        self._last = {
            what: Gauge(
                f"signalyard_last_{what}_timestamp_seconds",
                f"When the route's last {what} was recorded, the journal's time; 0 if never",
                ["route"],
                registry=registry,
            )
            for what in ("snapshot", "answer", "signal")
        }
        self._signals = Counter(
            "signalyard_signals_total",
            "Emitted signals, by instrument; beyond the first thousand instruments the symbol is 'other'",
            ["route", "symbol", "direction"],
            registry=registry,
        )
        self._surges: dict[str, set[str]] = {}
        self._own: set[tuple[str, str]] = set()
        self._children: dict[tuple[str, str, str], Counter] = {}

    def initialise(self, route: str, kinds: list[AlertKind]) -> None:
        """Start a route's series at zero; those that are there already stay as they are."""
        self._open.labels(route)
        for kind in kinds:
            self._alert.labels(route, kind)
            self._value.labels(route, kind)
        for cause in SilenceCause:
            self._silence.labels(route, cause)
        for gauge in self._last.values():
            gauge.labels(route)

    def remove(self, route: str, kinds: list[AlertKind]) -> None:
        """End the series that speak of the present; counters stay."""
        self._open.remove(route)
        for kind in kinds:
            self.remove_alert(route, kind)
        for cause in SilenceCause:
            self._silence.remove(route, cause)
        self.surging(route, [])
        for gauge in self._last.values():
            gauge.remove(route)

    def remove_alert(self, route: str, kind: AlertKind) -> None:
        """A route no longer has this alert."""
        self._alert.remove(route, kind)
        self._value.remove(route, kind)
        if kind is AlertKind.NO_SIGNAL:
            self._silent(route, None)
        elif kind is AlertKind.SURGE:
            self.surging(route, [])

    def session(self, route: str, *, is_open: bool) -> None:
        """Whether a route's session is open."""
        self._open.labels(route).set(int(is_open))

    def found(self, alert: Alert) -> None:
        """How an alert stands after a look."""
        firing = alert.state is AlertState.FIRING
        self._alert.labels(alert.route, alert.alert).set(int(firing))
        self._value.labels(alert.route, alert.alert).set(math.nan if alert.value is None else alert.value)
        if alert.alert is AlertKind.NO_SIGNAL:
            self._silent(alert.route, alert.cause if firing else None)

    def _silent(self, route: str, because: SilenceCause | None) -> None:
        for cause in SilenceCause:
            self._silence.labels(route, cause).set(int(cause is because))

    def surging(self, route: str, surges: list[Surge]) -> None:
        """The contracts of a route that give too many signals, the worst first."""
        worst = {surge.symbol: surge.count for surge in surges[:SURGING]}
        for symbol in self._surges.pop(route, set()) - worst.keys():
            self._surging.remove(route, symbol)
        if worst:
            self._surges[route] = set(worst)
        for symbol, count in worst.items():
            self._surging.labels(route, symbol).set(count)

    def last(self, route: str, activity: Activity) -> None:
        """When a route last saw something."""
        for what, at in (
            ("snapshot", activity.last_snapshot),
            ("answer", activity.last_answer),
            ("signal", activity.last_signal),
        ):
            self._last[what].labels(route).set(at / 1e9)

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
