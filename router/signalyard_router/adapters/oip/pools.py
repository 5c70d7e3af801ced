"""The pools of all endpoints."""

from collections.abc import Iterable

from signalyard_router.adapters.oip.metrics import OipMetrics
from signalyard_router.adapters.oip.pool import Pool
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World
from signalyard_router.rules.route import Endpoint


class Pools:
    """One pool an endpoint, kept for the life of the process: a new routing table does not cost a connection."""

    def __init__(self, world: World, settings: OipSettings, metrics: OipMetrics) -> None:
        self._world = world
        self._settings = settings
        self._metrics = metrics
        self._pools: dict[Endpoint, Pool] = {}
        self._leaving: list[Pool] = []

    def of(self, endpoint: Endpoint) -> Pool:
        """The endpoint's pool."""
        pool = self._pools.get(endpoint)
        if pool is None:
            made = _channel() if endpoint.grpc else Pool
            pool = self._pools[endpoint] = made(self._world, self._settings, endpoint.host, endpoint.port)
            self._metrics.watch_pool(str(endpoint), pool)
        return pool

    def keep(self, endpoints: Iterable[Endpoint]) -> None:
        """Keep idle connections to these endpoints, and to no others."""
        wanted = set(endpoints)
        for endpoint, pool in self._pools.items():
            if endpoint in wanted:
                pool.revive()
            else:
                pool.retire()

    def forget(self, endpoint: Endpoint) -> None:
        """Give an endpoint's pool up: what is under way there ends as it ends."""
        pool = self._pools.pop(endpoint)
        pool.retire()
        self._metrics.forget_pool(str(endpoint))
        self._leaving = [left for left in (*self._leaving, pool) if left.busy]

    async def close(self) -> None:
        """Close all of them."""
        for pool in (*self._pools.values(), *self._leaving):
            pool.close()
            await pool.closed()


def _channel() -> type[Pool]:
    from signalyard_router.adapters.oip.channel import Channel

    return Channel
