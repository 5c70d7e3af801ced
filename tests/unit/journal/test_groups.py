"""Groups in the journal: recorded as routes are, in force after a restart, from a checkpoint too, and told by `explain`."""

import asyncio
import json

import pytest
from tests.unit.journal.conftest import Bench, scored

from signalyard import Direction, Reason, SignalyardError
from signalyard.problems import Problem
from signalyard_router.adapters.files.store import FileRouteStore
from signalyard_router.journal.explain import explain
from signalyard_router.rules.documents import GroupDocument, parse_any
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.rules.units import SECOND


def route(name="r", **spec):
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalRoute",
        "metadata": {"name": name},
        "spec": {
            "model": "m",
            "instruments": ["*.X"],
            "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "a", "port": 1}}],
            "mapping": {"long": {"enter": 0.6}},
        }
        | spec,
    }


def group(*routes, name="g", **spec):
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalGroup",
        "metadata": {"name": name},
        "spec": {"routes": list(routes)} | spec,
    }


def taken(*documents):
    return [(parse_any(data, "desk.yaml"), "desk.yaml") for data in documents]


async def say(bench, number, name, direction):
    """What becomes of a proposal of a route: its record."""
    proposal = scored(number, symbol="A.X")
    proposal.route, proposal.direction, proposal.abstain, proposal.answer = name, Direction(direction), None, None
    proposal.generation = 1
    bench.world.clock.advance(SECOND)
    await bench.journal.commit([proposal])
    return json.loads(bench.lines()[-1])


@pytest.mark.parametrize("durability", ["os", "fsync"])
@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_group_binds_after_a_restart(tmp_path, durability, checkpoints):
    async def run():
        bench = Bench(tmp_path, durability=durability, segment_bytes=2_000 if checkpoints else 1_000_000)
        bench.open()
        documents = taken(route("r"), route("s"), group("s", "r", conflict="priority"))
        await bench.journal.accept(documents)
        assert (await say(bench, 1, "s", "long"))["outcome"] == "emitted"
        if checkpoints:
            await bench.fill(2)
        lost = await say(bench, 1_000, "r", "short")
        assert (lost["reason"], lost["group"], lost["against"]) == ("conflict", "g", "s")
        standing = bench.journal.groups()
        await bench.close()
        bench.open()
        assert bool(bench.journal.restored) is checkpoints
        assert bench.journal.groups() == standing
        assert [document.metadata.name for document, _ in bench.journal.documents()] == ["r", "s", "g"]
        assert (await say(bench, 1_001, "r", "short"))["reason"] == "conflict"
        before = len(bench.lines())
        await bench.journal.accept(documents)
        assert len(bench.lines()) == before, "what is known is not recorded again"
        await bench.journal.accept(documents[:2])
        assert json.loads(bench.lines()[-1]) | {"t": 0, "seq": 0, "prev": ""} == {
            "kind": "group", "v": 1, "seq": 0, "t": 0, "name": "g", "revision": "", "place": "", "document": None,
            "prev": "",
        }  # fmt: skip
        assert (await say(bench, 1_002, "r", "short"))["outcome"] == "emitted"
        await bench.close()

    asyncio.run(run())


def test_groups_come_into_force_before_the_routes(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        bench.open(upkeep=False)
        await bench.journal.accept(taken(route("r"), route("s"), group("s", "r")))
        assert [json.loads(line)["kind"] for line in bench.lines()] == ["start", "group", "route", "route"]
        await bench.close()

    asyncio.run(run())


def test_a_group_that_cannot_be_recorded_does_not_bind(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        bench.open(upkeep=False)
        await bench.journal.accept(taken(route("r"), route("s")))
        bench.disk.room = 0
        with pytest.raises(SignalyardError):
            await bench.journal.accept(taken(route("r"), route("s"), group("s", "r")))
        assert bench.journal.groups() == []
        await bench.close()

    asyncio.run(run())


def test_a_route_in_two_groups_is_refused_and_nothing_is_recorded(tmp_path):
    async def run():
        bench = Bench(tmp_path)
        bench.open(upkeep=False)
        with pytest.raises(SignalyardError) as refused:
            await bench.journal.accept(taken(route(), group("r", "a"), group("b", "r", name="h")))
        assert (refused.value.problem, refused.value.pointer) == (Problem.INVALID_DOCUMENT, "/spec/routes/1")
        assert len(bench.lines()) == 1
        await bench.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"reason": "conflict", "against": "s"}, "gate      conflict, by the group g: its route s says something else"),
        (
            {"reason": "duplicate", "duplicate_of": "s-1"},
            "gate      duplicate, by the group g: duplicate of s-1 within the window that its routes share",
        ),
        (
            {"reason": "rate_limited"},
            "gate      rate_limited, by the group g: the limit that its routes share was reached; it is latched until a reset",
        ),
    ],
)
def test_explain_names_the_group_and_who_won(more, line):
    fields = {
        "v": 1, "seq": 1, "t": 1, "proposal_id": "p", "outcome": "suppressed", "symbol": "A.X", "ts_event": 1,
        "ts_recv": 1, "direction": "short", "group": "g", "prev": "",
    }  # fmt: skip
    record = DecisionRecord(**fields | more | {"reason": Reason(more["reason"]), "direction": Direction.SHORT})
    told = list(explain(record, None))
    assert line in told
    assert told[0].startswith(f"decision  suppressed, {more['reason']}: ")


# A folder


def write(folder, name, *documents):
    (folder / name).write_text("\n---\n".join(json.dumps(data) for data in documents))


def test_a_folder_holds_both_kinds(tmp_path):
    write(tmp_path, "a.yaml", route("r"), group("r", "later"))
    write(tmp_path, "b.yaml", route("g"))
    documents = asyncio.run(FileRouteStore(tmp_path).load())
    assert [(type(document) is GroupDocument, document.metadata.name, place) for document, place in documents] == [
        (False, "r", "a.yaml, document 1"),
        (True, "g", "a.yaml, document 2"),
        (False, "g", "b.yaml"),
    ]


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([group("r", "s"), group("t", "u")], "the group 'g' is defined in a.yaml, document 2 already"),
        ([group("r", "s"), group("t", "s", name="h")], "the route 's' is in the group 'g' already"),
        ([group("r", "r")], "the route 'r' is named twice"),
        ([group("r", "s") | {"kind": "SignalGruppe"}], "must be SignalRoute or SignalGroup, not 'SignalGruppe'"),
    ],
)
def test_a_folder_with_a_bad_group_is_refused(tmp_path, documents, says):
    write(tmp_path, "a.yaml", route("r"), *documents)
    with pytest.raises(SignalyardError) as refused:
        asyncio.run(FileRouteStore(tmp_path).load())
    assert refused.value.problem is Problem.INVALID_DOCUMENT
    assert says in str(refused.value)
