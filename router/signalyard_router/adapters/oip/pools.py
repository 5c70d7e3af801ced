"""The pools of all endpoints."""

from collections.abc import Iterable

from signalyard_router.adapters.oip.metrics import OipMetrics
from signalyard_router.adapters.oip.pool import Pool
from signalyard_router.adapters.oip.request import endpoint_of
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World
from signalyard_router.rules.route import Target


class Pools:
    """One pool an endpoint, kept for the life of the process: a new routing table does not cost a connection."""

    def __init__(self, world: World, settings: OipSettings, metrics: OipMetrics) -> None:
        self._world = world
        self._settings = settings
        self._metrics = metrics
        self._pools: dict[tuple[str, int], Pool] = {}

    def of(self, target: Target) -> Pool:
        """The pool of the target's endpoint."""
        key = (target.host, target.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self._world, self._settings, target.host, target.port)
            self._metrics.watch_pool(endpoint_of(target), pool)
        return pool

    def keep(self, targets: Iterable[Target]) -> None:
        """Keep idle connections to the endpoints of ``targets``, and to no others."""
        wanted = {(target.host, target.port) for target in targets}
        for key, pool in self._pools.items():
            if key in wanted:
                pool.revive()
            else:
                pool.retire()

    def close(self) -> None:
        """Close all of them."""
        for pool in self._pools.values():
            pool.close()
