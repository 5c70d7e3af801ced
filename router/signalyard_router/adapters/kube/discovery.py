"""Which pods stand behind a Service, by its EndpointSlices."""

from collections.abc import Callable, Collection

from signalyard_router.adapters.kube.objects import EndpointSlice, Service, SliceEndpoint
from signalyard_router.adapters.kube.pods import PodName
from signalyard_router.adapters.kube.reflector import Reflector
from signalyard_router.rules.route import Endpoint

_SERVICE = "kubernetes.io/service-name"


class SliceDiscovery:
    """Implements `ports.Discovery` for endpoints called SERVICE.NAMESPACE.svc; others are addresses themselves.

    Pods that are ready are asked; where none is, those that still serve while they terminate, as kube-proxy does it. As long as
    a namespace was not listed, a Service is asked by its name in the cluster's DNS, so that a router which starts without the API
    server can decide.
    """

    def __init__(self) -> None:
        self._services: dict[str, Reflector[Service]] = {}
        self._slices: dict[str, Reflector[EndpointSlice]] = {}
        self._by_service: dict[tuple[str, str], dict[str, EndpointSlice]] = {}
        self._known: dict[Endpoint, tuple[Endpoint, ...]] = {}
        self._observers: list[Callable[[Collection[Endpoint]], None]] = []

    def follow(self, services: Reflector[Service], slices: Reflector[EndpointSlice]) -> None:
        """Where a namespace's objects are; their changes are told to the two methods below."""
        namespace = services.resource.namespace
        self._services[namespace], self._slices[namespace] = services, slices

    def service_changed(self, namespace: str, before: Service | None, now: Service | None) -> None:
        """A Service came, changed or went."""
        item = now or before
        if item is not None:
            self._look(namespace, item.metadata.name)

    def slice_changed(self, namespace: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """A slice came, changed or went."""
        touched: dict[str, None] = {}
        for item, there in ((before, False), (now, True)):
            service = item.metadata.labels.get(_SERVICE) if item is not None else None
            if item is None or service is None:
                continue
            slices = self._by_service.setdefault((namespace, service), {})
            if there:
                slices[item.metadata.name] = item
            else:
                slices.pop(item.metadata.name, None)
            touched[service] = None
        for service in touched:
            self._look(namespace, service)

    def listed(self, namespace: str) -> None:
        """A namespace may be known whole from now on: names give way to addresses."""
        self._again([endpoint for endpoint in self._known if _parts(endpoint.host)[1] == namespace])

    def addresses(self, endpoint: Endpoint) -> tuple[Endpoint, ...]:
        known = self._known.get(endpoint)
        if known is None:
            known = self._known[endpoint] = self._resolved(endpoint)
        return known

    def subscribe(self, observer: Callable[[Collection[Endpoint]], None]) -> None:
        self._observers.append(observer)

    def coming(self, endpoint: Endpoint) -> tuple[PodName, ...]:
        """The pods that are not ready and are not on their way out: a new version that loads, or one that fails to.

        Where a slice does not say which pod it is, its name is "".
        """
        name, namespace = _parts(endpoint.host)
        slices = self._by_service.get((namespace, name), {})
        return tuple(
            PodName(namespace, pod.target_ref.name if pod.target_ref is not None else "")
            for item in slices.values()
            if item.address_type == self._family(namespace, name)
            for pod in item.endpoints or ()
            if not _ready(pod) and not pod.conditions.terminating
        )

    def objection(self, endpoint: Endpoint) -> str:
        """Why nothing can stand behind an endpoint, as far as the Service itself is to blame; "" where it is not."""
        name, namespace = _parts(endpoint.host)
        if not self._knows(namespace):
            return ""
        service = self._services[namespace].objects.get(name)
        if service is None:
            return f"there is no Service {name}"
        ports = service.spec.ports or []
        if service.spec.type != "ExternalName" and not any(port.port == endpoint.port for port in ports):
            there = ", ".join(str(port.port) for port in ports) or "none"
            return f"the Service {name} has no port {endpoint.port}; it has: {there}"
        return ""

    def _look(self, namespace: str, service: str) -> None:
        host = f"{service}.{namespace}.svc"
        self._again([endpoint for endpoint in self._known if endpoint.host == host])

    def _again(self, endpoints: Collection[Endpoint]) -> None:
        moved: dict[Endpoint, None] = {}
        for endpoint in endpoints:
            addresses = self._resolved(endpoint)
            if addresses != self._known[endpoint]:
                self._known[endpoint] = addresses
                moved[endpoint] = None
        if moved:
            for observer in self._observers:
                observer(moved)

    def _knows(self, namespace: str) -> bool:
        return (
            namespace in self._services
            and self._services[namespace].listed.is_set()
            and self._slices[namespace].listed.is_set()
        )

    def _family(self, namespace: str, name: str) -> str:
        """One family of addresses, the Service's first: a pod of two must not be counted twice."""
        service = self._services[namespace].objects.get(name)
        families = service.spec.ip_families if service is not None else None
        return families[0] if families else "IPv4"

    def _resolved(self, endpoint: Endpoint) -> tuple[Endpoint, ...]:
        name, namespace = _parts(endpoint.host)
        if not self._knows(namespace):
            return (endpoint,)
        service = self._services[namespace].objects.get(name)
        if service is None:
            return ()
        if service.spec.type == "ExternalName":
            return (Endpoint(service.spec.external_name, endpoint.port),)
        names = [port.name for port in service.spec.ports or () if port.port == endpoint.port]
        family = self._family(namespace, name)
        ready: set[Endpoint] = set()
        leaving: set[Endpoint] = set()
        for item in self._by_service.get((namespace, name), {}).values():
            numbers = [port.port for port in item.ports or () if (port.name or "") in names and port.port is not None]
            if item.address_type != family:
                continue
            for pod in item.endpoints or ():
                into = ready if _ready(pod) else leaving if _serves_to_the_end(pod) else None
                if into is not None:
                    into.update(Endpoint(address, number) for address in pod.addresses[:1] for number in numbers)
        return tuple(sorted(ready or leaving, key=lambda address: (address.host, address.port)))


def _parts(host: str) -> tuple[str, str]:
    """The Service and the namespace of SERVICE.NAMESPACE.svc; the namespace is "" for any other host."""
    parts = host.split(".")
    return (parts[0], parts[1]) if len(parts) == 3 and parts[2] == "svc" else (host, "")


def _ready(pod: SliceEndpoint) -> bool:
    return pod.conditions.ready is not False


def _serves_to_the_end(pod: SliceEndpoint) -> bool:
    return pod.conditions.serving is True and pod.conditions.terminating is True
