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
    """A SignalRoute; its parts are decoded when they are needed."""

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


class SliceEndpoint(_Object, frozen=True):
    """One pod; its addresses are alternatives to one another."""

    addresses: list[str] = []
    conditions: SliceConditions = SliceConditions()


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
