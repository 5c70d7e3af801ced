"""Tells each SignalRoute what became of it. Only what changed is written, by the holder of the lease, and never in a burst."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.conditions import Sight, TrackSight, told
from signalyard_router.adapters.kube.discovery import SliceDiscovery
from signalyard_router.adapters.kube.errors import ApiError, StatusError
from signalyard_router.adapters.kube.lease import LeaseHolder
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.adapters.kube.objects import RouteObject
from signalyard_router.adapters.kube.pods import PodName, PodReasons
from signalyard_router.adapters.kube.reflector import Reflector
from signalyard_router.adapters.kube.routes import Judgement, KubeRouteStore
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.adapters.kube.told import Told
from signalyard_router.control.documents import Documents
from signalyard_router.ports import Journal, World
from signalyard_router.router import Router, TrackStatus
from signalyard_router.rules.documents import API_VERSION
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.route import Endpoint, Route, ShadowRung, TrackRung

_log = logging.getLogger("signalyard.router.kube")

_SHARE = 20
"""A look at all routes is followed by a pause this many times as long, at least: it must not take a core's time from decisions."""
_QUIET = 5.0
"""Seconds between two writes to one route, unless a condition turned."""

_SHOWN = 2
"""Pods of a track whose failures are told: those of one version mostly fail alike."""

_decoder: msgspec.json.Decoder[Told | None] = msgspec.json.Decoder(Told | None)

Key = tuple[str, str]


class Written(msgspec.Struct, frozen=True):
    """What was told last to the object of this uid, and when, seconds of the loop."""

    uid: str
    told: Told
    at: float


class StatusWriter:
    """Looks at every route each second, and writes the statuses that changed."""

    def __init__(
        self,
        world: World,
        api: Api,
        settings: KubeSettings,
        metrics: KubeMetrics,
        routes: Sequence[Reflector[RouteObject]],
        store: KubeRouteStore,
        discovery: SliceDiscovery,
        lease: LeaseHolder,
        router: Router,
        journal: Journal,
        documents: Documents,
    ) -> None:
        self._clock = world.clock
        self._api = api
        self._reasons = PodReasons(api, world.clock)
        self._awaited: dict[PodName, None] = {}
        self._settings = settings
        self._metrics = metrics
        self._routes = {reflector.resource.namespace: reflector for reflector in routes}
        self._store = store
        self._discovery = discovery
        self._lease = lease
        self._router = router
        self._journal = journal
        self._documents = documents
        self._written: dict[Key, Written] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._counted = float("-inf")
        self._problem = ""
        self._spent = 0.0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._spent = 0.0
            if self._lease.held:
                await self._look()
            await asyncio.sleep(max(self._settings.status_seconds, _SHARE * self._spent))

    async def _look(self) -> None:
        """One look at all routes; it ends early where the API server is away."""
        loop = asyncio.get_running_loop()
        await self._count()
        awaited, self._awaited = self._awaited, {}
        await self._reasons.look(awaited)
        levers = [lever for lever in self._journal.levers if not lever.expired(self._journal.now)]
        judgements = dict(self._store.judgements)
        for key in self._written.keys() - judgements.keys():
            del self._written[key]
        for key, judgement in sorted(judgements.items(), key=lambda pair: pair[0]):
            await asyncio.sleep(0)  # so that a decision meets one of them at most on its way
            item = self._routes[key[0]].objects.get(key[1])
            if item is None or item.metadata.uid != judgement.uid:
                continue  # it is gone, or another one took its place a moment ago
            began = loop.time()
            before = self._before(key, item)
            now = self._told(key, judgement, before, levers)
            due = now is not None and self._due(key, before, now)
            self._spent += loop.time() - began  # what others could not run in; waiting for the API server takes nothing
            if now is None or not due:
                continue
            if not self._lease.held or not await self._write(key, judgement.uid, now):
                return
            await asyncio.sleep(self._settings.status_pause_seconds)

    def _told(self, key: Key, judgement: Judgement, before: Told | None, levers: Sequence[Lever]) -> Told | None:
        route = self._router.table.routes.get(key[1])
        sight = None
        if route is not None:
            sight = Sight(
                route=route,
                tracks=[
                    self._track(status, rung.target.endpoints)
                    for status, rung in zip(self._router.tracks(route), _rungs(route), strict=True)
                ],
                levers=levers,
                progress=self._journal.plans.get(route.name),
                assignment=self._counts.get(route.name, {}),
            )
        time = datetime.fromtimestamp(self._clock.wall() // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = before.conditions if before is not None else ()
        return told(judgement, sight, conditions, time, self._documents.problem)

    def _track(self, status: TrackStatus, endpoints: Sequence[Endpoint]) -> TrackSight:
        coming = [pod for endpoint in endpoints for pod in self._discovery.coming(endpoint)]
        self._awaited.update(dict.fromkeys(coming))
        failures = {f"{pod.name}: {why}" for pod in coming if (why := self._reasons.of(pod))}
        return TrackSight(
            status,
            coming=len(coming),
            failures=tuple(sorted(failures)[:_SHOWN]),
            objections=tuple(filter(None, map(self._discovery.objection, endpoints))),
        )

    def _before(self, key: Key, item: RouteObject) -> Told | None:
        """What was told last: by us, or else by whoever wrote before us."""
        written = self._written.get(key)
        if written is not None and written.uid == item.metadata.uid:
            return written.told
        try:
            return _decoder.decode(item.status)
        except msgspec.DecodeError:
            return None  # of another version of ours; it is written anew

    def _due(self, key: Key, before: Told | None, now: Told) -> bool:
        """Whether to write now: at once where a condition turned, soon where anything else did, and for counts alone at leisure."""
        if now == before:
            return False
        if before is None or _turns(before) != _turns(now):
            return True
        written = self._written.get(key)
        since = asyncio.get_running_loop().time() - written.at if written is not None else float("inf")
        counts_alone = msgspec.structs.replace(now, assignment=before.assignment) == before
        return since >= (self._settings.status_counts_seconds if counts_alone else _QUIET)

    async def _write(self, key: Key, uid: str, status: Told) -> bool:
        """Apply the status; False where the API server is away."""
        namespace, name = key
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/signalroutes/{name}/status"
        body = {
            "apiVersion": API_VERSION,
            "kind": "SignalRoute",
            "metadata": {"name": name, "uid": uid},
            "status": status,
        }
        try:
            await self._api.call(
                "PATCH",
                path,
                {"fieldManager": "signalyard-router", "force": "true"},
                msgspec.json.encode(body),
                "application/apply-patch+yaml",
            )
        except ApiError as exc:
            self._metrics.unwritten.inc()
            if isinstance(exc, StatusError) and exc.status in (404, 409):
                return True  # it was deleted, perhaps made anew, a moment ago
            if str(exc) != self._problem:
                _log.warning("event=status_unwritten route=%s/%s detail=%s", *key, json.dumps(str(exc)))
            self._problem = str(exc)
            # One that is refused does not keep the others from theirs; an API server that is away or busy does.
            return isinstance(exc, StatusError) and exc.status < 429
        self._problem = ""
        self._metrics.written.inc()
        self._written[key] = Written(uid, status, asyncio.get_running_loop().time())
        return True

    async def _count(self) -> None:
        """Count the instruments by track, now and then: it looks at every one of them."""
        now = asyncio.get_running_loop().time()
        if now - self._counted < self._settings.status_counts_seconds:
            return
        self._counted = now
        signalled = self._router.signalled()
        counts: dict[str, dict[str, int]] = {}
        for name, route in self._router.table.routes.items():
            counts[name] = dict(Counter(map(str, self._router.assignment(route, signalled.get(name, set())).values())))
            await asyncio.sleep(0)
        self._counts = counts


def _rungs(route: Route) -> list[TrackRung | ShadowRung]:
    return [*route.tracks.values(), *route.standbys, *route.shadows]


def _turns(status: Told) -> tuple[int, Mapping[str, tuple[str, str]]]:
    """What is never kept waiting: which spec was judged, and each condition's state and reason."""
    return status.observed_generation, {one.type: (one.status, one.reason) for one in status.conditions}
