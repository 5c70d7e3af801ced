"""Who writes statuses: the holder of a Lease, one at a time. It is no part of a decision, and losing it changes none."""

import asyncio
import json
import logging
from datetime import UTC, datetime

import msgspec

from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.errors import ApiError, GarbledError, StatusError
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.adapters.kube.objects import Lease, LeaseMeta, LeaseSpec
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.ports import World

_log = logging.getLogger("signalyard.router.kube")

_decoder = msgspec.json.Decoder(Lease)
_FREE_AT_ONCE = 1


class LeaseHolder:
    """Tries to hold the lease ``name`` of ``namespace`` as ``identity``.

    Whether another holder is gone is judged by how long its record has not changed here, by the monotonic clock: its times are
    those of another machine. A holder whose renewals fail stops in time for that.
    """

    def __init__(
        self, world: World, api: Api, namespace: str, identity: str, settings: KubeSettings, metrics: KubeMetrics
    ) -> None:
        self._clock = world.clock
        self._api = api
        self._settings = settings
        self._metrics = metrics
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._identity = identity
        self._until = 0
        self._seen: tuple[str, int] = ("", 0)
        self._problem = ""
        self._was_held = False

    @property
    def held(self) -> bool:
        """Whether statuses may be written now."""
        return self._clock.monotonic() < self._until

    async def run(self) -> None:
        """Hold it, or wait for it, for ever."""
        while True:
            try:
                await self._round()
                self._problem = ""
            except ApiError as exc:
                if str(exc) != self._problem:
                    _log.warning("event=lease_failed lease=%s detail=%s", self._settings.lease, json.dumps(str(exc)))
                self._problem = str(exc)
            self._tell()
            await asyncio.sleep(self._settings.lease_renew_seconds)

    async def release(self) -> None:
        """Let another one have it at once. Raises ApiError."""
        if self.held:
            self._until = 0
            # Read once more: a renewal may have been under way.
            lease = _read(await self._api.call("GET", f"{self._path}/{self._settings.lease}"))
            if lease.spec.holder_identity == self._identity:
                spec = msgspec.structs.replace(
                    lease.spec, holder_identity="", lease_duration_seconds=_FREE_AT_ONCE, renew_time=self._time()
                )
                await self._put(lease, spec)
        self._tell()

    async def _round(self) -> None:
        began = self._clock.monotonic()
        name = self._settings.lease
        try:
            lease = _read(await self._api.call("GET", f"{self._path}/{name}"))
        except StatusError as exc:
            if exc.status != 404:
                raise
            spec = self._mine(LeaseSpec())
            new = Lease(metadata=LeaseMeta(name=name, namespace=self._namespace), spec=spec)
            await self._api.call("POST", self._path, body=msgspec.json.encode(new))
        else:
            if not self._free(lease, began):
                self._until = 0
                return
            await self._put(lease, self._mine(lease.spec))
        self._until = began + int(self._settings.lease_deadline_seconds * 1e9)

    def _free(self, lease: Lease, now: int) -> bool:
        """Whether it may be taken: it is ours, nobody's, or its holder has been silent for too long."""
        if self._seen[0] != lease.metadata.resource_version:
            self._seen = (lease.metadata.resource_version, now)
        holder = lease.spec.holder_identity
        if not holder or holder == self._identity:
            return True
        silent = now - self._seen[1]
        return silent >= (lease.spec.lease_duration_seconds or self._settings.lease_seconds) * 1e9

    def _mine(self, spec: LeaseSpec) -> LeaseSpec:
        now, same = self._time(), spec.holder_identity == self._identity
        return LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=int(self._settings.lease_seconds),
            acquire_time=spec.acquire_time if same else now,
            renew_time=now,
            lease_transitions=(spec.lease_transitions or 0) + (0 if same else 1),
        )

    async def _put(self, lease: Lease, spec: LeaseSpec) -> None:
        changed = Lease(metadata=lease.metadata, spec=spec)
        await self._api.call("PUT", f"{self._path}/{self._settings.lease}", body=msgspec.json.encode(changed))

    def _time(self) -> str:
        return datetime.fromtimestamp(self._clock.wall() / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _tell(self) -> None:
        held = self.held
        self._metrics.leader.set(held)
        if held != self._was_held:
            _log.info("event=%s lease=%s", "lease_held" if held else "lease_lost", self._settings.lease)
        self._was_held = held


def _read(body: bytes) -> Lease:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise GarbledError(f"the lease cannot be read: {exc}") from exc
