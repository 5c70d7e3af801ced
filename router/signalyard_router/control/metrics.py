"""What the alerts measure, for the rules of Prometheus, which see the same things from outside."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from signalyard_router.rules.activity import Activity
from signalyard_router.rules.alarm import AlertKind

OTHER = "other"


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
        self._own: set[tuple[str, str]] = set()
        self._children: dict[tuple[str, str, str], Counter] = {}

    def initialise(self, route: str, kinds: list[AlertKind]) -> None:
        """Start a route's series at zero; those that are there already stay as they are."""
        self._open.labels(route)
        for kind in kinds:
            self._alert.labels(route, kind)
        for gauge in self._last.values():
            gauge.labels(route)

    def remove(self, route: str, kinds: list[AlertKind]) -> None:
        """End the series that speak of the present; counters stay."""
        self._open.remove(route)
        for kind in kinds:
            self.remove_alert(route, kind)
        for gauge in self._last.values():
            gauge.remove(route)

    def remove_alert(self, route: str, kind: AlertKind) -> None:
        """A route no longer has this alert."""
        self._alert.remove(route, kind)

    def session(self, route: str, *, is_open: bool) -> None:
        """Whether a route's session is open."""
        self._open.labels(route).set(int(is_open))

    def alert(self, route: str, kind: AlertKind, *, firing: bool) -> None:
        """Whether an alert fires."""
        self._alert.labels(route, kind).set(int(firing))

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
