"""What the way to the API server says of itself. Labels are bounded: resources and namespaces are those of the settings."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReflectorMetrics:
    """Those of one resource in one namespace."""

    def __init__(self, all_of_them: "KubeMetrics", resource: str, namespace: str) -> None:
        labels = (resource, namespace)
        self.current = all_of_them.current.labels(*labels)
        self.lists = all_of_them.lists.labels(*labels)
        self.events = all_of_them.events.labels(*labels)
        self.failures = all_of_them.failures.labels(*labels)
        self.objects = all_of_them.objects.labels(*labels)


class KubeMetrics:
    """All of them, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        which = ["resource", "namespace"]
        self.current = Gauge(
            "signalyard_kube_current",
            "1 while what is known of a resource follows the API server, 0 while it is what was known last",
            which,
            registry=registry,
        )
        self.lists = Counter("signalyard_kube_lists_total", "Lists that were read whole", which, registry=registry)
        self.events = Counter("signalyard_kube_events_total", "Events that a watch brought", which, registry=registry)
        self.failures = Counter(
            "signalyard_kube_failures_total", "Lists and watches that failed", which, registry=registry
        )
        self.objects = Gauge("signalyard_kube_objects", "Objects that are known", which, registry=registry)
        self.leader = Gauge(
            "signalyard_kube_leader", "1 while this router holds the lease and writes conditions", registry=registry
        )
        writes = Counter(
            "signalyard_kube_status_writes_total", "Statuses written, by result", ["result"], registry=registry
        )
        self.written = writes.labels("ok")
        self.unwritten = writes.labels("failed")
        self.refused = Gauge(
            "signalyard_kube_routes_refused",
            "SignalRoutes and SignalGroups whose newest spec is not in force",
            registry=registry,
        )

    def of(self, resource: str, namespace: str) -> ReflectorMetrics:
        """The metrics of one resource in one namespace, all there at zero."""
        return ReflectorMetrics(self, resource, namespace)
