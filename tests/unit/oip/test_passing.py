"""Calls that are passed on to a model server: whose answer it is, and what is held against the endpoint."""

from typing import Any

import msgspec
import pytest

from signalyard.problems import CallerError, Problem
from signalyard_router.ports import CallFailed, Passed
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.inference import Inference
from signalyard_router.rules.route import Endpoint
from signalyard_router.rules.tensors import Tensor
from signalyard_router.testing.model_server import Behaviour


def question(*values: float, **more: Any) -> Inference:
    data = msgspec.json.encode([value for value in values or (0.5,) for value in (value, None)])
    tensor = Tensor(
        name="features",
        datatype="FP64",
        shape=(len(values) or 1, 2),
        written=data,
        parameters={"columns": '["close","ret_5"]'},
    )
    return Inference(model="rb-trend", version=None, id="mine", inputs=(tensor,), parameters={"a": 1}, **more)


async def infer(stage: Any, *values: float, seconds: float = 0.1) -> Passed:
    card = stage.upstream.card(stage.target)
    passed: Passed = await stage.upstream.infer(stage.target, card, question(*values), stage.now + round(seconds * 1e9))
    return passed


async def ready(stage: Any) -> None:
    await stage.upstream.start([stage.target])
    await stage.upstream.first_round.wait()


def test_tensors_go_as_they_are_under_an_id_of_our_own(play: Any) -> None:
    async def scenario(stage: Any) -> None:
        await ready(stage)
        passed = await infer(stage, 0.25, 0.75)
        answer = passed.answer
        assert (answer.model, answer.version, answer.digest) == ("rb-trend", "7", "sha256:aa")
        assert [output.name for output in answer.outputs] == ["score", "row_error"]
        assert answer.outputs[0].as_written() == b"[0.25,0.75]"
        assert passed.endpoint == str(stage.endpoint)
        sent = stage.server.inferences[-1]
        body = msgspec.json.decode(sent.body)
        assert body["id"] != "mine"
        assert body["parameters"] == {"a": 1}
        assert body["inputs"][0]["data"] == [0.25, None, 0.75, None]
        assert 0 < int(sent.headers["signalyard-budget-us"]) <= 100_000
        assert stage.result("ok") == 1

    play(scenario)


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        (Behaviour.WRONG_ID, Problem.MODEL_ANSWER_WRONG_ID),
        (Behaviour.WRONG_VERSION, Problem.MODEL_ANSWER_WRONG_VERSION),
        (Behaviour.NOT_JSON, Problem.MODEL_ANSWER_MALFORMED),
        (Behaviour.NOT_TEXT, Problem.MODEL_ANSWER_MALFORMED),
        (Behaviour.GARBAGE, Problem.MODEL_ANSWER_MALFORMED),
        (Behaviour.HALF, Problem.MODEL_ANSWER_MALFORMED),
        (Behaviour.HANG, Problem.MODEL_TIMEOUT),
        (Behaviour.FAIL, Problem.MODEL_FAILED),
        (Behaviour.RESET, Problem.MODEL_UNREACHABLE),
    ],
)
def test_no_answer_but_its_own(play: Any, behaviour: Behaviour, problem: Problem) -> None:
    async def scenario(stage: Any) -> None:
        await ready(stage)
        stage.server.behaviour = behaviour
        started = stage.now
        with pytest.raises(CallFailed) as caught:
            await infer(stage)
        assert caught.value.problem is problem
        assert stage.now - started <= 100_000_000
        assert [tried.problem for tried in caught.value.tries][-1] is problem
        stage.server.behaviour = Behaviour.GOOD
        assert (await infer(stage, 0.125)).answer.outputs[0].as_written() == b"[0.125]"

    play(scenario)


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [
        (Behaviour.FAIL, BreakerState.CLOSED),
        (Behaviour.HANG, BreakerState.CLOSED),
        (Behaviour.RESET, BreakerState.OPEN),
    ],
)
def test_what_tensors_may_have_caused_opens_no_breaker(play: Any, behaviour: Behaviour, state: BreakerState) -> None:
    async def scenario(stage: Any) -> None:
        await ready(stage)
        stage.server.behaviour = behaviour
        for _ in range(12):
            with pytest.raises(CallFailed):
                await infer(stage)
        (endpoint,) = stage.upstream.endpoints(stage.target)
        assert endpoint.breaker is state

    play(scenario)


def test_a_bad_input_is_the_callers_and_asks_nobody_else(play: Any) -> None:
    async def scenario(stage: Any) -> None:
        await ready(stage)
        stage.server.behaviour = Behaviour.BAD_INPUT
        for _ in range(12):
            with pytest.raises(CallerError) as caught:
                await infer(stage)
            assert caught.value.problem is Problem.INVALID_INFERENCE
            assert "no such column" in caught.value.detail
        assert len(stage.server.inferences) == 12
        (endpoint,) = stage.upstream.endpoints(stage.target)
        assert endpoint.breaker is BreakerState.CLOSED
        stage.server.behaviour = Behaviour.GOOD
        assert await stage.score(0.5)

    play(scenario)


def test_packed_tensors_become_json(play: Any) -> None:
    async def scenario(stage: Any) -> None:
        await ready(stage)
        tensor = Tensor(name="features", datatype="FP64", shape=(1, 2), packed=bytes(8) + b"\0\0\0\0\0\0\xf8\x7f")
        asked = Inference(model="rb-trend", version=None, id="", inputs=(tensor,))
        card = stage.upstream.card(stage.target)
        await stage.upstream.infer(stage.target, card, asked, stage.now + 10**8)
        assert msgspec.json.decode(stage.server.inferences[-1].body)["inputs"][0]["data"] == [0.0, None]

    play(scenario)


def test_calls_do_not_move_what_is_known_of_rows(play: Any) -> None:
    async def scenario(stage: Any) -> None:
        await ready(stage)
        before = stage.upstream.chunk(stage.target, 10**6), stage.upstream.share(stage.target, 100)
        stage.server.behaviour, stage.server.late_seconds = Behaviour.LATE, 0.09
        for _ in range(20):
            await infer(stage)
        assert (stage.upstream.chunk(stage.target, 10**6), stage.upstream.share(stage.target, 100)) == before
        assert Endpoint("models", stage.server.port) == stage.endpoint

    play(scenario)
