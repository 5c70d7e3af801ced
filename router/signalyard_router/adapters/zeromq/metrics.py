"""What is counted of ZeroMQ."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Counter
from signalyard_router.adapters.zeromq.messages import Flaw


class ZeromqMetrics:
    """Children are resolved once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        messages = Counter(
            "signalyard_zeromq_messages_total",
            "Messages that came, by socket and what became of them",
            ["socket", "result"],
            registry=registry,
        )
        self.answered = messages.labels("requests", "answered")
        self.refused = messages.labels("requests", "refused")
        self.beats = messages.labels("requests", "beat")
        self.flawed = {flaw: messages.labels("requests", flaw.value) for flaw in Flaw}
        self.decided = messages.labels("snapshots", "decided")
        self.undecided = messages.labels("snapshots", "refused")
        self.flawed_snapshots = {flaw: messages.labels("snapshots", flaw.value) for flaw in Flaw}
        dropped = Counter(
            "signalyard_zeromq_dropped_total",
            "Messages that a peer lost because it read too slowly or was gone; signals count once, however many subscribers lost them",
            ["socket"],
            registry=registry,
        )
        self.lost_answers = dropped.labels("requests")
        self.lost_signals = dropped.labels("signals")
        refused = Counter(
            "signalyard_zeromq_refused_connections_total",
            "Connections that were not let in: by an unknown key, or because the handshake failed, as without CURVE",
            ["reason"],
            registry=registry,
        )
        self.strangers = refused.labels("key")
        self.failed_handshakes = refused.labels("handshake")
        loads = Counter(
            "signalyard_zeromq_clients_loads_total",
            "Loads of the file that says who may connect, by result",
            ["result"],
            registry=registry,
        )
        self._accepted_clients = loads.labels("accepted")
        self._refused_clients = loads.labels("refused")
        self._current_clients = Gauge(
            "signalyard_zeromq_clients_current",
            "1 while those who may connect are those whom the file names, also where there is none, else 0",
            registry=registry,
        )
        self._current_clients.set(1)
        self._peers = Gauge("signalyard_zeromq_peers", "Peers that were heard of lately", registry=registry)
        self._subscriptions = Gauge(
            "signalyard_zeromq_subscriptions", "Subscriptions of all subscribers together", registry=registry
        )

    def take_clients(self) -> None:
        """The file that says who may connect is in force."""
        self._accepted_clients.inc()
        self._current_clients.set(1)

    def refuse_clients(self) -> None:
        """It cannot be used; those of the last good one may connect."""
        self._refused_clients.inc()
        self._current_clients.set(0)

    def watch(self, peers: Callable[[], float]) -> None:
        """Ask ``peers`` how many there are, whenever somebody looks."""
        self._peers.set_function(peers)

    def watch_subscriptions(self, subscriptions: Callable[[], float]) -> None:
        """The same for subscriptions."""
        self._subscriptions.set_function(subscriptions)
