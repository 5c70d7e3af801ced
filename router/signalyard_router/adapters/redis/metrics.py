"""What the wires over Redis say of themselves."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Counter
from signalyard.problems import Problem

_REASONS = (
    Problem.INVALID_REQUEST,
    Problem.INVALID_BUDGET,
    Problem.BODY_TOO_LARGE,
    Problem.MALFORMED_BODY,
    Problem.TOO_MANY_ROWS,
    Problem.INTERNAL,
)


class RedisMetrics:
    """One of these for all wires; counters start at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        failures = Counter(
            "signalyard_redis_failures",
            "Commands that got no answer (lost), or an error for one (refused), by what they were for.",
            ("wire", "kind"),
            registry=registry,
        )
        wires = ("source", "replies", "channel", "sink-stream", "sink-pubsub")
        self._failures = {(wire, kind): failures.labels(wire, kind) for wire in wires for kind in ("lost", "refused")}
        entries = Counter(
            "signalyard_redis_entries",
            "Entries of the stream of snapshots: settled, set aside, left unfinished at a shutdown, or gone before they were done.",
            ("result",),
            registry=registry,
        )
        self.settled = entries.labels("settled")
        self.set_aside = entries.labels("set_aside")
        self.left = entries.labels("left")
        self.gone = entries.labels("gone")
        reasons = Counter(
            "signalyard_redis_entries_set_aside",
            "Entries that were set aside, by the problem with them.",
            ("problem",),
            registry=registry,
        )
        self.reasons = {problem: reasons.labels(problem) for problem in _REASONS}
        self.reclaimed = Counter(
            "signalyard_redis_entries_reclaimed",
            "Entries taken over from a consumer that did not finish them.",
            registry=registry,
        ).labels()
        self.again = Counter(
            "signalyard_redis_entries_tried_again",
            "Attempts to decide on an entry that ended without a record, and are made again.",
            registry=registry,
        ).labels()
        self.unanswered = Counter(
            "signalyard_redis_replies_refused", "Replies that the server did not take.", registry=registry
        ).labels()
        messages = Counter(
            "signalyard_redis_messages",
            "Messages of Pub/Sub: decided, bad, not recorded, or dropped because too many were under way.",
            ("result",),
            registry=registry,
        )
        self.decided = messages.labels("decided")
        self.bad = messages.labels("bad")
        self.unrecorded = messages.labels("unrecorded")
        self.dropped = messages.labels("dropped")
        self.lag = Gauge(
            "signalyard_redis_lag", "Entries that no consumer of the group has been given.", registry=registry
        )
        self.pending = Gauge(
            "signalyard_redis_pending",
            "Entries that were given to a consumer of the group and are not finished.",
            registry=registry,
        )
        self._in_flight = Gauge("signalyard_redis_in_flight", "Entries and messages under way here.", registry=registry)
        self._flying: list[Callable[[], float]] = []
        self._in_flight.set_function(lambda: sum(count() for count in self._flying))
        self._connected = Gauge(
            "signalyard_redis_connected",
            "1 while the last command was answered, by what it was for.",
            ("wire",),
            registry=registry,
        )

    def watch(self, in_flight: Callable[[], float]) -> None:
        """Count what ``in_flight`` tells with the rest."""
        self._flying.append(in_flight)

    def failed(self, wire: str, *, lost: bool) -> None:
        """A command of a wire failed."""
        self._failures[wire, "lost" if lost else "refused"].inc()
        self._connected.labels(wire).set(0)

    def fine(self, wire: str) -> None:
        """A command of a wire was answered."""
        self._connected.labels(wire).set(1)
