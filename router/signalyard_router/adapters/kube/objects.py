"""Kubernetes' objects, as far as the router reads them."""

import msgspec


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Meta(_Object, frozen=True):
    """What every object has. ``generation`` counts changes of the spec."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    labels: dict[str, str] = {}


class RouteObject(_Object, frozen=True):
    """A SignalRoute, or a SignalGroup; its parts are decoded when they are needed."""

    metadata: Meta
    spec: msgspec.Raw = msgspec.Raw(b"null")
    status: msgspec.Raw = msgspec.Raw(b"null")


class ServicePort(_Object, frozen=True):
    """A port of a Service. Slices know it by its name alone."""

    port: int
    name: str = ""


class ServiceSpec(_Object, frozen=True):
    """``external_name`` is of the type of this name, ``ip_families`` in the order of preference."""

    type: str = "ClusterIP"
    ports: list[ServicePort] | None = None
    external_name: str = ""
    ip_families: list[str] | None = None


class Service(_Object, frozen=True):
    """A Service."""

    metadata: Meta
    spec: ServiceSpec = ServiceSpec()


class SliceConditions(_Object, frozen=True):
    """Unknown (null) readiness is to be taken for ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Reference(_Object, frozen=True):
    """Another object of the same namespace."""

    kind: str = ""
    name: str = ""


class SliceEndpoint(_Object, frozen=True):
    """One pod; its addresses are alternatives to one another."""

    addresses: list[str] = []
    conditions: SliceConditions = SliceConditions()
    target_ref: Reference | None = None


class SlicePort(_Object, frozen=True):
    """The port that pods listen on, by the name that it has in the Service."""

    name: str | None = None
    port: int | None = None


class EndpointSlice(_Object, frozen=True):
    """A part of the pods behind a Service, of one family of addresses."""

    metadata: Meta
    address_type: str = "IPv4"
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class Terminated(_Object, frozen=True):
    """How a container ended; ``message`` is what it left itself, or the end of its log."""

    exit_code: int
    reason: str = ""
    message: str = ""


class Waiting(_Object, frozen=True):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class ContainerState(_Object, frozen=True):
    """One of the two, or neither: it runs."""

    terminated: Terminated | None = None
    waiting: Waiting | None = None


class ContainerStatus(_Object, frozen=True):
    """How a container is, and how it was before its last start."""

    name: str
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(_Object, frozen=True):
    """Containers in the order in which they run."""

    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None


class Pod(_Object, frozen=True):
    """A pod; nothing of its spec is read."""

    status: PodStatus = PodStatus()


class LeaseSpec(_Object, frozen=True, omit_defaults=True):
    """Who holds a Lease. Times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseMeta(_Object, frozen=True, omit_defaults=True):
    """What of a Lease's metadata is written; its resource version makes a write that comes second fail."""

    name: str
    namespace: str = ""
    resource_version: str = ""


class Lease(_Object, frozen=True):
    """A Lease of coordination.k8s.io."""

    metadata: LeaseMeta
    spec: LeaseSpec = LeaseSpec()
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
