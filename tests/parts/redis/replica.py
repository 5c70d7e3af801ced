"""A replica's journal on a real server."""

from tests.unit.journal.replica import Replica

from signalyard_router.adapters.redis.log.settings import RedisLogSettings
from signalyard_router.adapters.redis.log.shared import RedisLog
from signalyard_router.journal.replicated import ReplicatedJournal
from signalyard_router.journal.settings import JournalSettings, SharingSettings
from signalyard_router.world.real import RealWorld


class RedisReplica(Replica):
    """Its journal in ``folder``. Patience is long: the machine that the tests run on may be busy."""

    def __init__(
        self, url, name, folder, *, world=None, prefix="test", clock="wall", log=None, kind=ReplicatedJournal, **sharing
    ):
        world = world or RealWorld()
        patient = {"connect_seconds": 20, "call_seconds": 20}
        super().__init__(
            world,
            RedisLog(world, RedisLogSettings(url=url, prefix=prefix, **(log or patient))),
            JournalSettings(folder=str(folder), clock=clock),
            SharingSettings(replica=name, **({"patience_seconds": 20, "election_seconds": 0.05} | sharing)),
            kind=kind,
        )
