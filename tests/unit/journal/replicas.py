"""Replicas in virtual time, on one shared log in memory."""

from tests.unit.journal.replica import Replica

from signalyard.words import Direction
from signalyard_router.journal.settings import JournalSettings, SharingSettings
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.proposal import Answer, Input, Proposal, columns_json
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import SECOND
from signalyard_router.testing.shared_log import MemoryLog, MemoryServer
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation

RULES = GateRules(window=5 * SECOND, valid_for=SECOND)


def signal(number, direction="long", *, symbol="rb.X", route="r", ts_event=None, rules=RULES, **more):
    """A proposal whose direction is settled already."""
    return Proposal(
        proposal_id=f"{number:032x}",
        symbol=symbol,
        ts_event=1_000 + number if ts_event is None else ts_event,
        ts_recv=1,
        received=0,
        route=route,
        revision="1",
        direction=Direction(direction),
        answer=Answer(0.5, 0.75, "m", "7", "sha256:7", "stable", False),
        commit_by=2**62,
        rules=rules,
        **{"input": Input(columns_json(("a",)), (float(number),)), **more},
    )


def document(deadline="100ms", window="5s", name="r"):
    """A route's document."""
    return parse_document(
        {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalRoute",
            "metadata": {"name": name},
            "spec": {
                "model": "m",
                "instruments": ["*"],
                "deadline": deadline,
                "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "a", "port": 1}}],
                "dedupe": {"window": window},
                "mapping": {"long": {"enter": 0.6}},
            },
        },
        "r.yaml",
    )


class SimulatedReplica(Replica):
    """One replica's journal. ``disk`` is one of another process's, ``real`` a disk that is not simulated, and its folder."""

    def __init__(
        self, sim, server, name, *, disk=None, real=None, most=0.0004, clock="wall", durability="os", **sharing
    ):
        self.name = name
        self.disk = disk or sim.disk()
        world = sim.world(Node(name), self.disk)
        folder = "j"
        if real is not None:
            world.disk, folder = real[0], str(real[1])
        rng = sim.rng
        remember = sharing.pop("remember", 1_000)
        super().__init__(
            world,
            MemoryLog(server, lambda: rng.uniform(0.00005, most)),
            JournalSettings(folder=folder, clock=clock, durability=durability, remember=remember),
            SharingSettings(replica=name, **sharing),
        )


async def replicas(sim, *names, server=None, **more):
    """So many replicas, joined, on one server; recovery from the log's beginning is over."""
    server = server or MemoryServer()
    started = [SimulatedReplica(sim, server, name, **more) for name in names]
    for replica in started:
        await replica.start()
    return server, *started


def run(scenario, seed=1):
    """Play a scenario of a simulation to its end."""
    sim = Simulation(seed)
    return sim.run(lambda: scenario(sim))
