"""Calls that are passed through, in process: who answers, by when, and what the journal says of it."""

import asyncio
import copy
import hashlib
import json
import struct

import pytest
from click.testing import CliRunner
from tests.unit.flow.test_router import NAME, Desk, document

from signalyard import Problem, SignalyardError
from signalyard_router.cli import journal
from signalyard_router.control.board import Board
from signalyard_router.flow.call_metrics import CallMetrics
from signalyard_router.flow.catalogue import Catalogue
from signalyard_router.flow.passthrough import Passthrough
from signalyard_router.rules.inference import Inference
from signalyard_router.rules.levers import Order
from signalyard_router.rules.tensors import Tensor
from signalyard_router.rules.units import MILLISECOND


def question(*rows, model="rb-trend", version=None, call_id="", **parameters):
    rows = rows or ((0.7, 1.0),)
    flat = [value for row in rows for value in row]
    tensor = Tensor(name="features", datatype="FP64", shape=(len(rows), 2), packed=struct.pack(f"<{len(flat)}d", *flat))
    return Inference(model=model, version=version, id=call_id, inputs=(tensor,), parameters=parameters)


def weighted(canary, **more):
    made = copy.deepcopy(document(**more))
    made["spec"]["tracks"][0]["weight"], made["spec"]["tracks"][1]["weight"] = 100 - canary, canary
    return made


class Passing(Desk):
    async def open(self, **settings):
        await super().open()
        self.passthrough = Passthrough(
            self.world,
            lambda: self.router.table,
            self.journal,
            self.upstream,
            CallMetrics(self.registry),
            **settings,
        )
        self.catalogue = Catalogue(lambda: self.router.table, self.upstream)

    async def infer(self, asked=None, **more):
        received = self.world.clock.monotonic()
        return await self.passthrough.infer(asked or question(), received=received, **more)

    async def refused(self, asked=None, **more):
        with pytest.raises(SignalyardError) as caught:
            await self.infer(asked, **more)
        return caught.value

    async def close(self):
        await self.passthrough.close()
        await self.journal.close()

    def sample(self, name, **labels):
        return self.registry.get_sample_value(name, labels) or 0


def run(folder, body, *documents, settings=None, **more):
    async def all_of_it():
        desk = Passing(folder, *documents, **more)
        await desk.open(**settings or {})
        await body(desk)
        await desk.close()

    asyncio.run(all_of_it())


def test_an_answer_and_its_record(tmp_path):
    async def body(desk):
        answered = await desk.infer(question((0.7, 1.0), (0.2, 1.0), call_id="mine"))
        answer, record = answered.answer, answered.record
        assert json.loads(answer.outputs[0].as_written()) == [0.7, 0.2]
        (kept,) = desk.records("call")
        assert kept["id"] == record.id == f"c-{kept['seq']}"
        assert (kept["route"], kept["asked"], kept["model"], kept["version"]) == (
            "rb-trend",
            "rb-trend",
            "rb-trend",
            "7",
        )
        assert (kept["digest"], kept["track"], kept["assigned"]) == (answer.digest, "stable", "7")
        assert (kept["client_id"], kept["wire"]) == ("mine", "rest")
        told = hashlib.sha256(b'["features","FP64",[2,2]]\n' + struct.pack("<4d", 0.7, 1.0, 0.2, 1.0))
        assert kept["input"] == f"sha256:{told.hexdigest()}"
        told = hashlib.sha256(b'["score","FP64",[2]]\n' + struct.pack("<2d", 0.7, 0.2))
        assert kept["output"] == f"sha256:{told.hexdigest()}"
        assert [step["result"] for step in kept["steps"]] == ["answered"]
        assert "inputs" not in kept
        assert desk.sample("signalyard_calls_total", route="rb-trend", result="answered") == 1
        # nothing of it is a decision
        assert desk.records() == []
        assert desk.router.state().opinions == []

    run(tmp_path, body)


def test_inputs_are_kept_where_that_is_asked_for(tmp_path):
    async def body(desk):
        await desk.infer()
        (kept,) = desk.records("call")
        assert kept["inputs"][0]["name"] == "features"
        assert kept["inputs"][0]["packed"]

    run(tmp_path, body, settings={"keep_inputs": True})


def test_the_ladder_answers_where_the_track_does_not(tmp_path):
    async def body(desk):
        desk.upstream.fail["7"] = Problem.MODEL_UNREACHABLE
        answered = await desk.infer()
        assert answered.answer.version == "6"
        (kept,) = desk.records("call")
        assert (kept["version"], kept["track"], kept["assigned"], kept["failover"]) == ("6", "standby", "7", True)
        assert [step["result"] for step in kept["steps"]] == ["model_unreachable", "answered"]
        assert desk.sample("signalyard_calls_total", route="rb-trend", result="failover") == 1

    run(tmp_path, body)


def test_where_nobody_answers_the_problem_is_recorded_and_raised(tmp_path):
    async def body(desk):
        desk.upstream.fail |= {"7": Problem.MODEL_UNREACHABLE, "6": Problem.MODEL_TIMEOUT}
        refused = await desk.refused()
        assert refused.problem is Problem.MODEL_TIMEOUT
        (kept,) = desk.records("call")
        assert kept["problem"]["code"] == "model_timeout"
        assert "version" not in kept
        assert "output" not in kept
        assert desk.sample("signalyard_calls_total", route="rb-trend", result="model_timeout") == 1

    run(tmp_path, body)


def test_a_model_of_another_name_may_stand_in(tmp_path):
    rung = {"model": {"name": "rule", "version": "1", "endpoint": {"service": "rule", "port": 1}}}

    async def body(desk):
        desk.upstream.fail["7"] = Problem.MODEL_UNREACHABLE
        answered = await desk.infer()
        assert (answered.answer.model, answered.answer.version) == ("rule", "1")
        (kept,) = desk.records("call")
        assert (kept["asked"], kept["model"], kept["failover"]) == ("rb-trend", "rule", True)
        assert "track" not in kept

    run(tmp_path, body, document(ladder=[{"flat": {"after": "1s"}}, rung, {"skip": {}}]))


def test_a_version_that_is_named_answers_or_nobody_does(tmp_path):
    async def body(desk):
        for version in ("6", "8"):
            assert (await desk.infer(question(version=version))).answer.version == version
        desk.upstream.fail["8"] = Problem.MODEL_UNREACHABLE
        assert (await desk.refused(question(version="8"))).problem is Problem.MODEL_UNREACHABLE
        assert [version for version, _ in desk.upstream.calls] == ["6", "8", "8"]
        refused = await desk.refused(question(version="5"))
        assert refused.problem is Problem.UNKNOWN_MODEL
        assert "6, 7, 8" in refused.detail

    run(tmp_path, body)


def test_an_instrument_goes_where_its_snapshots_go(tmp_path):
    async def body(desk):
        for number in range(60):
            symbol = f"rb{number}.SHFE"
            decision = await desk.ask(0.7, symbol=symbol)
            answered = await desk.infer(question(symbol=symbol))
            assert answered.answer.version == decision.signal.version
        assert {record["version"] for record in desk.records("call")} == {"7", "8"}
        assert desk.records("call")[0]["symbol"] == "rb0.SHFE"

    run(tmp_path, body, weighted(50))


def test_without_an_instrument_the_id_decides_and_without_an_id_chance(tmp_path):
    async def body(desk):
        found = {}
        for number in range(60):
            call_id = f"call-{number}"
            versions = {(await desk.infer(question(call_id=call_id))).answer.version for _ in range(3)}
            assert len(versions) == 1
            found[call_id] = versions.pop()
        assert set(found.values()) == {"7", "8"}
        assert {(await desk.infer()).answer.version for _ in range(60)} == {"7", "8"}

    run(tmp_path, body, weighted(50))


def test_a_rollback_holds_for_calls_too(tmp_path):
    async def body(desk):
        board = Board(desk.router, desk.journal, desk.upstream, None)
        await board.pull(Order(action="rollback", by="ann", why="test", route="rb-trend", version="6"))
        assert (await desk.infer()).answer.version == "6"
        assert desk.records("call")[0]["assigned"] == "6"

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("asked", "problem", "pointer"),
    [
        (question(model="nope"), Problem.UNKNOWN_MODEL, ""),
        (question(symbol="cu1.SHFE"), Problem.NO_ROUTE, "/parameters/symbol"),
        (question(symbol="nodot"), Problem.INVALID_INSTRUMENT, "/parameters/symbol"),
        (question(symbol=7), Problem.INVALID_INFERENCE, "/parameters/symbol"),
        (question(route="nope"), Problem.UNKNOWN_ROUTE, "/parameters/route"),
        (question(route="nope", symbol=NAME), Problem.UNKNOWN_ROUTE, "/parameters/route"),
        (question(timeout="soon"), Problem.INVALID_INFERENCE, "/parameters/timeout"),
        (
            Inference(
                model="rb-trend",
                version=None,
                id="",
                inputs=(Tensor(name="features", datatype="FP64", shape=(2,), written=b"[1]"),),
            ),
            Problem.INVALID_INFERENCE,
            "/inputs",
        ),
    ],
)
def test_a_bad_call_is_told_what_is_wrong_and_reaches_nobody(tmp_path, asked, problem, pointer):
    async def body(desk):
        refused = await desk.refused(asked)
        assert (refused.problem, refused.pointer) == (problem, pointer)
        assert desk.upstream.calls == []
        assert desk.records("call") == []

    run(tmp_path, body)


def test_the_time_of_a_call_is_the_shortest_that_anybody_says(tmp_path):
    async def body(desk):
        await desk.infer()
        await desk.infer(remaining=50 * MILLISECOND)
        await desk.infer(question(timeout=20_000), remaining=50 * MILLISECOND)
        await desk.infer(question(timeout=0))
        assert [record["budget_us"] for record in desk.records("call")] == [100_000, 50_000, 20_000, 100_000]
        received = desk.world.clock.monotonic()
        desk.world.clock.advance(99 * MILLISECOND)
        with pytest.raises(SignalyardError) as late:
            await desk.passthrough.infer(question(), received=received)
        assert late.value.problem is Problem.MODEL_TIMEOUT
        assert len(desk.upstream.calls) == 4

    run(tmp_path, body)


def test_an_answer_that_cannot_be_recorded_is_not_given(tmp_path):
    async def body(desk):
        desk.disk.room = 10
        assert (await desk.refused()).problem is Problem.JOURNAL_UNAVAILABLE
        desk.disk.room = None
        await desk.infer()
        assert len(desk.records("call")) == 1

    run(tmp_path, body)


SHADOW = {"name": "shadow", "version": "9", "mirror": 100, "endpoint": {"service": "shadow", "port": 1}}


def shadowed(**more):
    made = copy.deepcopy(document(**more))
    made["spec"]["tracks"].append(SHADOW)
    return made


def test_shadows_get_copies_and_are_compared(tmp_path):
    async def body(desk):
        await desk.infer()
        await settle(desk)
        assert [version for version, _ in desk.upstream.calls] == ["7", "9"]
        assert copies(desk) == {"same": 1}
        desk.upstream.fail["9"] = Problem.MODEL_FAILED
        await desk.infer()
        await settle(desk)
        assert copies(desk) == {"same": 1, "failed": 1}
        del desk.upstream.fail["9"]
        values = iter([0.1, 0.2])
        desk.upstream.function = lambda row: next(values)
        await desk.infer()
        await settle(desk)
        assert copies(desk) == {"same": 1, "failed": 1, "different": 1}

    run(tmp_path, body, shadowed())


def test_a_shadow_that_hangs_costs_copies_alone(tmp_path):
    async def body(desk):
        desk.upstream.fail["9"] = "hang"
        for _ in range(5):
            await desk.infer()
            await settle(desk)
        assert len(desk.records("call")) == 5
        assert copies(desk) == {"dropped": 3}

    run(tmp_path, body, shadowed(shadow={"concurrency": 2}))


async def settle(desk):
    for _ in range(10):
        await asyncio.sleep(0)


def copies(desk):
    found = {}
    for result in ("same", "different", "failed", "dropped"):
        number = desk.sample("signalyard_call_copies_total", route="rb-trend", version="9", result=result)
        if number:
            found[result] = int(number)
    return found


def test_a_journal_with_calls_opens_again(tmp_path):
    async def body(desk):
        await desk.ask(0.7)
        await desk.infer()

    run(tmp_path, body)

    async def again(desk):
        assert [opinion.signal for opinion in desk.router.state(NAME).opinions] == ["long"]
        await desk.infer()
        assert len(desk.records("call")) == 2

    run(tmp_path, again)


def test_what_is_said_of_models(tmp_path):
    async def body(desk):
        described = desk.catalogue.metadata("rb-trend", None)
        assert (described.name, described.versions) == ("rb-trend", ["7", "8", "6"])
        assert described.inputs[0].name == "features"
        assert desk.catalogue.ready("rb-trend", None)
        assert desk.catalogue.ready("rb-trend", "6")
        desk.upstream.unknown |= {"7", "8"}
        assert not desk.catalogue.ready("rb-trend", "7")
        assert desk.catalogue.ready("rb-trend", None)
        with pytest.raises(SignalyardError, match="not_ready"):
            desk.catalogue.metadata("rb-trend", "7")
        for unknown in (("nope", None), ("rb-trend", "5")):
            with pytest.raises(SignalyardError, match="unknown_model"):
                desk.catalogue.metadata(*unknown)
            with pytest.raises(SignalyardError, match="unknown_model"):
                desk.catalogue.ready(*unknown)

    run(tmp_path, body)


def test_calls_are_found_by_query(tmp_path):
    async def body(desk):
        await desk.ask(0.7)
        await desk.infer(question(call_id="mine"))
        desk.upstream.fail |= {"7": Problem.MODEL_UNREACHABLE, "6": Problem.MODEL_TIMEOUT}
        await desk.refused()

    run(tmp_path, body)
    statement = "SELECT id, version, track, problem, client_id, input, steps FROM calls ORDER BY seq"
    told = CliRunner().invoke(
        journal, ["query", "--journal", str(tmp_path), "--format", "json", "--sql", statement], catch_exceptions=False
    )
    good, bad = map(json.loads, told.stdout.splitlines())
    assert (good["version"], good["track"], good["problem"], good["client_id"]) == ("7", "stable", None, "mine")
    assert good["input"].startswith("sha256:")
    assert (bad["version"], bad["problem"]) == (None, "model_timeout")
    shown = CliRunner().invoke(journal, ["show", good["id"], "--journal", str(tmp_path)], catch_exceptions=False)
    assert json.loads(shown.stdout)["client_id"] == "mine"
