"""All that a router has of its cluster, wired."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from signalyard_router.adapters.kube.access import Access, from_kubeconfig, in_cluster
from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.discovery import SliceDiscovery
from signalyard_router.adapters.kube.errors import ApiError
from signalyard_router.adapters.kube.lease import LeaseHolder
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.adapters.kube.objects import EndpointSlice, RouteObject, Service
from signalyard_router.adapters.kube.reflector import Kept, Reflector, Resource
from signalyard_router.adapters.kube.routes import KubeRouteStore
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.adapters.kube.status import StatusWriter
from signalyard_router.control.documents import Documents
from signalyard_router.ports import Journal, World
from signalyard_router.router import Router

_log = logging.getLogger("signalyard.router.kube")

_ROUTES = "/apis/signalyard.io/v1alpha1"
_SLICES = "/apis/discovery.k8s.io/v1"
_CORE = "/api/v1"

_T = TypeVar("_T")


class Cluster:
    """Follows the API server from `start` to `close`. ``store`` has the documents, ``discovery`` the addresses."""

    def __init__(
        self, world: World, settings: KubeSettings, registry: CollectorRegistry, access: Access | None = None
    ) -> None:
        if access is None:
            access = from_kubeconfig(settings.kubeconfig) if settings.kubeconfig is not None else in_cluster()
        self._world = world
        self._settings = settings
        self._metrics = KubeMetrics(registry)
        self._api = Api(world.network, access, settings)
        self._tasks: list[asyncio.Task[None]] = []
        identity = settings.identity or socket.gethostname()
        self._lease = LeaseHolder(world, self._api, access.namespace, identity, settings, self._metrics)
        self._reflectors: list[Reflector[Any]] = []
        self.namespaces = settings.namespaces or (access.namespace,)
        self.store = KubeRouteStore(self._metrics)
        self.discovery = SliceDiscovery()
        self._routes: list[Reflector[RouteObject]] = []
        groups: list[Reflector[RouteObject]] = []
        for namespace in self.namespaces:
            self._routes.append(self._reflector(_ROUTES, "signalroutes", namespace, RouteObject, self.store.changed))
            groups.append(self._reflector(_ROUTES, "signalgroups", namespace, RouteObject, self.store.changed))
            self.discovery.follow(
                self._reflector(
                    _CORE, "services", namespace, Service, partial(self.discovery.service_changed, namespace)
                ),
                self._reflector(
                    _SLICES,
                    "endpointslices",
                    namespace,
                    EndpointSlice,
                    partial(self.discovery.slice_changed, namespace),
                ),
            )
        self.store.follow(self._routes, groups)

    async def start(self) -> None:
        """Begin to follow, and give the first lists a moment; who starts without an API server starts without them."""
        for reflector in self._reflectors:
            self._begin(reflector.run())
        for namespace in self.namespaces:
            self._begin(self._tell_when_listed(namespace))
        listed = [reflector.answered.wait() for reflector in self._reflectors]
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await asyncio.gather(*listed)
        except TimeoutError:
            problems = sorted({reflector.problem for reflector in self._reflectors if reflector.problem})
            _log.error('event=kube_not_listed detail="%s"', "; ".join(problems))

    def tell(self, router: Router, journal: Journal, documents: Documents) -> None:
        """Write from now on, as far as the lease is held, what becomes of the routes."""
        writer = StatusWriter(
            self._world,
            self._api,
            self._settings,
            self._metrics,
            self._routes,
            self.store,
            self.discovery,
            self._lease,
            router,
            journal,
            documents,
        )
        self._begin(self._lease.run())
        self._begin(writer.run())

    async def close(self) -> None:
        """Follow no more, and let another one have the lease."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._lease.release()
        except ApiError as exc:
            _log.warning("event=lease_kept detail=%s", json.dumps(str(exc)))
        self._api.close()

    async def _tell_when_listed(self, namespace: str) -> None:
        for reflector in self._reflectors:
            if reflector.resource.namespace == namespace:
                await reflector.answered.wait()
        self.discovery.listed(namespace)

    def _reflector(
        self,
        group: str,
        plural: str,
        namespace: str,
        kind: type[Kept],
        changed: Callable[[Kept | None, Kept | None], None],
    ) -> Reflector[Kept]:
        metrics = self._metrics.of(plural, namespace)
        resource = Resource(group, plural, namespace)
        reflector = Reflector(self._world, self._api, resource, kind, self._settings, metrics, changed)
        self._reflectors.append(reflector)
        return reflector

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_say_if_failed)
        self._tasks.append(task)


def _say_if_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("event=kube_task_failed", exc_info=task.exception())
