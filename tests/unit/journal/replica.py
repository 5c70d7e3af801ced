"""A replica's journal with what belongs to it, whatever its world and its log are."""

from prometheus_client import CollectorRegistry

from signalyard_router.journal.membership import Membership
from signalyard_router.journal.replicated import ReplicatedJournal


class Replica:
    """``kind`` is the class of its journal; ``records`` are the decisions that the journal told."""

    def __init__(self, world, log, settings, sharing, *, kind=ReplicatedJournal):
        self.world, self.log, self.settings = world, log, settings
        self.registry = CollectorRegistry()
        self.journal = kind(world, settings, sharing, log, self.registry, "test")
        self.membership = Membership(world, settings, sharing, self.journal, log)
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
