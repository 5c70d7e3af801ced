"""A replica's journal on a real server."""

from prometheus_client import CollectorRegistry

from signalyard_router.adapters.redis.log.settings import RedisLogSettings
from signalyard_router.adapters.redis.log.shared import RedisLog
from signalyard_router.journal.membership import Membership
from signalyard_router.journal.replicated import ReplicatedJournal
from signalyard_router.journal.settings import JournalSettings, SharingSettings
from signalyard_router.world.real import RealWorld


class Replica:
    """Its journal in ``folder``, of the class ``kind``. Patience is long: the machine that the tests run on may be busy."""

    def __init__(
        self, url, name, folder, *, world=None, prefix="test", clock="wall", log=None, kind=ReplicatedJournal, **sharing
    ):
        self.world = world or RealWorld()
        self.log = RedisLog(
            self.world, RedisLogSettings(url=url, prefix=prefix, **(log or {"connect_seconds": 20, "call_seconds": 20}))
        )
        settings = JournalSettings(folder=str(folder), clock=clock)
        sharing = SharingSettings(replica=name, **({"patience_seconds": 20, "election_seconds": 0.05} | sharing))
        self.registry = CollectorRegistry()
        self.journal = kind(self.world, settings, sharing, self.log, self.registry, "test")
        self.membership = Membership(self.world, settings, sharing, self.journal, self.log)
        self.records = []
        self.journal.subscribe(self.records.extend)

    async def start(self):
        await self.membership.start()
        return self

    async def close(self):
        await self.journal.close()
        await self.membership.close()

    async def commit(self, *proposals):
        return [settled.decision for settled in await self.journal.commit(proposals)]

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)
