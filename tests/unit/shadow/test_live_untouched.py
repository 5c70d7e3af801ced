"""In virtual time: whatever a shadow does, every live answer is the same, at the same nanosecond."""

import asyncio

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from signalyard import Outcome, Snapshot
from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.adapters.oip import OipSettings, OipUpstream
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.model_server import Behaviour, ModelServer, ServedModel
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation

SCHEMA = FeatureSchema((Feature(name="p"),))
COUNT = 300
PRESSED = 0.00001013
"""Seconds between snapshots under pressure; no multiple of it is a latency, so that no two things fall on one nanosecond."""


def served(version):
    card = ModelCard(
        model="rb-trend", version=version, digest=f"sha256:{version * 64}", calibrated=False, schema=SCHEMA
    )
    return ModelServer([ServedModel(card=card, score=lambda rows: [row[0] for row in rows])])


def story(doc, behaviour, *, every=0.0005, durability="os", **more):
    """What a desk sees: each decision, and the virtual time at which it had it. ``behaviour`` is the shadow server's."""
    simulation = Simulation(7)
    simulation.network.weather.latency = (0.0001, 0.0001)
    data = doc(shadows=() if behaviour is None else ({"version": "9"},), **more)
    for track in data["spec"]["tracks"]:
        track["endpoint"]["service"] = track["name"]
    if behaviour is None:
        data["spec"].pop("shadow", None)
    figures = {}

    async def scenario():
        for name, version in (("stable", "7"), ("standby", "6"), ("shadow", "9")):
            server = served(version)
            if behaviour != "away" or name != "shadow":
                node = Node(name)
                await node.run(
                    lambda s=server, n=node: asyncio.ensure_future(s.start(simulation.network.of(n), port=1))
                )
            if name == "shadow" and behaviour in list(Behaviour):
                server.behaviour = behaviour
                server.dribble_seconds = 0.01
        registry = CollectorRegistry()
        world = simulation.world(Node("router"), simulation.disk())
        journal = LocalJournal(world, JournalSettings(folder="journal", durability=durability), registry)
        routes = await journal.accept([(parse_document(data, "test"), "test")])
        upstream = OipUpstream(world, OipSettings(), registry)
        router = Router(world, RouterSettings(), routes, journal, upstream, registry)
        await upstream.start(router.table.live_targets())
        upstream.retarget(router.table.targets())
        await upstream.first_round.wait()
        router.asked()
        await asyncio.sleep(3.0)  # all cards are learnt, or have been given up
        answers = []

        async def ask(number):
            await asyncio.sleep(number * every)
            p = (0.7, 0.5, 0.3, 0.55, 0.45)[number % 5]
            rows = [
                Snapshot(symbol=f"rb{number % 7 + more}.SHFE", ts_event=world.clock.wall(), features={"p": p})
                for more in range(1 + number % 3)
            ]
            decisions = await router.predict(rows)
            answers.append((number, simulation.loop.now, [bare(decision) for decision in decisions]))

        await asyncio.gather(*(ask(number) for number in range(COUNT)))

        await asyncio.sleep(1.0)
        for comparison in router.shadow().comparisons:
            figures[comparison.name] = comparison
        await router.close()
        await upstream.close()
        await journal.close()
        return answers

    answers = simulation.run(scenario)
    assert simulation.unhandled == []
    return answers, figures


def bare(decision):
    """A decision without the document's revision, which differs with the shadow in it."""
    signal = decision.signal and msgspec.structs.replace(decision.signal, revision="")
    return msgspec.structs.replace(decision, signal=signal)


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour.GOOD,
        Behaviour.HANG,
        Behaviour.LATE,
        Behaviour.DRIBBLE,
        Behaviour.RESET,
        Behaviour.GARBAGE,
        Behaviour.HUGE,
        Behaviour.OVERLOADED,
        Behaviour.WRONG_ID,
        "away",
    ],
)
def test_no_shadow_changes_a_live_answer_by_a_nanosecond(doc, behaviour):
    alone, _ = story(doc, None)
    beside, figures = story(doc, behaviour)
    assert beside == alone
    assert all(decision.outcome is not Outcome.UNKNOWN for _, _, decisions in alone for decision in decisions)
    total = figures["9"].windows["total"]
    assert total.selected == sum(len(decisions) for _, _, decisions in alone)
    assert total.selected == total.paired + sum(total.excluded.values())
    assert (total.coverage == 1.0) is (behaviour is Behaviour.GOOD)
    assert figures["9"].waiting == 0


@pytest.mark.parametrize("behaviour", [Behaviour.GOOD, Behaviour.HANG])
def test_nor_does_one_that_cannot_keep_up(doc, behaviour):
    narrow = {"shadow": {"queue": 5, "concurrency": 1, "deadline": "20ms", "journal": True}}
    alone, _ = story(doc, None, every=PRESSED)
    beside, figures = story(doc, behaviour, every=PRESSED, **narrow)
    assert beside == alone
    assert figures["9"].windows["total"].excluded["queue_full"] > 0


def test_nor_where_the_journal_syncs(doc):
    alone, _ = story(doc, None, durability="fsync")
    beside, _ = story(doc, Behaviour.HANG, durability="fsync")
    assert beside == alone


def test_the_same_mapping_on_the_same_scores_never_disagrees(doc):
    _, figures = story(doc, Behaviour.GOOD)
    total = figures["9"].windows["total"]
    assert (total.disagreement, total.score.mean_absolute) == (0.0, 0.0)
    assert total.signals["live"] == total.signals["other"] > 0
