"""The REST side of a runtime, in process: what a caller gets for what it sends."""

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from signalyard import profile
from signalyard.problems import Problem
from signalyard_runtimes.mlserver.errors import status
from signalyard_runtimes.mlserver.readiness import Readiness
from signalyard_runtimes.mlserver.rest import rest_app

PATH = "/v2/models/rb-trend/versions/7/infer"


def body(*data: object, columns: object = '["close","ret_5"]', shape: object = None, datatype: object = "FP64") -> Any:
    return {
        "id": "r-1",
        "inputs": [
            {
                "name": "features",
                "shape": [len(data) // 2, 2] if shape is None else shape,
                "datatype": datatype,
                "data": list(data),
                "parameters": {"columns": columns},
            }
        ],
    }


def counted(result: str, model: str = "rb-trend", version: str = "7") -> float:
    labels = {"model": model, "version": version, "result": result}
    return REGISTRY.get_sample_value("signalyard_model_requests_total", labels) or 0.0


def test_an_answer_can_be_read_by_the_other_half(rest: Any, ask: Any) -> None:
    request = profile.encode_request("r-7", ("ret_5", "close"), [[0.1, 3500.0], [None, 3500.0], [0.1, None]])
    answer = ask(rest.app, "POST", PATH, request)
    rows = profile.decode_response(answer.body, request_id="r-7", model="rb-trend", version="7", rows=3)
    assert [score is None for score in rows.score] == [False, False, True]
    assert rows.confidence is not None
    assert rows.row_error == ["", "", "close: is missing and the model needs it"]
    metadata = ask(rest.app, "GET", "/v2/models/rb-trend/versions/7").body
    card = profile.decode_metadata(metadata, model="rb-trend", version="7")
    assert card.digest == rows.digest
    assert card.calibrated


def test_which_version_is_there_can_be_asked_without_naming_one(rest: Any, ask: Any) -> None:
    # the router does, while pods roll
    assert ask(rest.app, "GET", "/v2/models/rb-trend/versions/8").status == 404
    card = profile.decode_metadata(ask(rest.app, "GET", "/v2/models/rb-trend").body, model="rb-trend")
    assert card.version == "7"


def test_an_uncalibrated_model_has_no_confidence(rest: Any, ask: Any) -> None:
    answer = ask(rest.app, "POST", "/v2/models/rb-base/infer", body(3500.0, None, 3500.0, 0.0))
    assert [tensor["name"] for tensor in answer.json["outputs"]] == ["score", "row_error"]
    score = answer.json["outputs"][0]["data"]
    assert score[0] == score[1]  # the gap is filled with 0.0
    assert answer.json["model_version"] == "1"


def test_a_large_batch_goes_by_a_thread_and_answers_alike(rest: Any, ask: Any) -> None:
    rows = [[3450.0 + row / 10, 0.1] for row in range(1000)]
    whole = ask(rest.app, "POST", PATH, profile.encode_request("x", ("close", "ret_5"), rows)).json
    first, second = (
        ask(rest.app, "POST", PATH, profile.encode_request("x", ("close", "ret_5"), rows[start : start + 500])).json
        for start in (0, 500)
    )
    for index in (0, 1):
        assert whole["outputs"][index]["data"] == first["outputs"][index]["data"] + second["outputs"][index]["data"]


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        (b"{", "malformed_body"),
        (b"", "invalid_snapshot"),
        (b"[]", "invalid_snapshot"),
        ({"inputs": []}, "exactly one, named 'features'"),
        (body(1.0, 2.0, datatype="FP16X"), "/inputs/0/datatype"),
        (body(1, 2, datatype="INT32"), "must be FP64, not INT32"),
        (body("1.0", 2.0), "not a str"),
        (body(1.0, 2.0, shape=[1, 3]), "/inputs/0/shape"),
        (body(1.0, 2.0, shape=[2]), "/inputs/0/shape"),
        (body(1.0, 2.0, shape=[2, 2]), "asks for 4 values, there are 2"),
        (body(shape=[0, 2]), "at least one row"),
        (body(1.0, 2.0, shape=[-1, 2]), "/inputs/0/shape"),
        (body(1.0, 2.0, columns='["close","open"]'), "'open'"),
        (body(1.0, columns='["ret_5"]', shape=[1, 1]), "missing_feature at /inputs/0/parameters/columns: the feature 'close'"),
        (body(1.0, 2.0, columns='["close","close"]'), "'close' is given twice"),
        (body(1.0, 2.0, columns="close,ret_5"), "not a JSON array"),
        (body(1.0, 2.0, columns=None), "must be a string"),
        (b'{"inputs":[{"name":"features","shape":[1,1],"datatype":"FP64","data":[1e999]}]}', "malformed_body"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_what_is_wrong(rest: Any, ask: Any, request_body: object, words: str) -> None:
    answer = ask(rest.app, "POST", PATH, request_body)
    assert answer.status == 400
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]
    assert "Traceback" not in answer.json["error"]


def test_what_is_not_there(rest: Any, ask: Any) -> None:
    for path in ("/v2/models/none/infer", "/v2/models/rb-trend/versions/8/infer", "/nowhere"):
        answer = ask(rest.app, "POST", path, body(1.0, 2.0))
        assert (answer.status, list(answer.json)) == (404, ["error"])
    assert ask(rest.app, "GET", PATH).status == 405


def test_asking_for_models_that_are_not_there_makes_no_metrics(rest: Any, ask: Any) -> None:
    ask(rest.app, "POST", "/v2/models/none/infer", body(1.0, 2.0))
    assert REGISTRY.get_sample_value("model_infer_request_failure_total", {"model": "none", "version": "None"}) is None


def test_nobody_loads_or_unloads_a_model_from_outside(rest: Any, ask: Any) -> None:
    for verb in ("load", "unload"):
        assert ask(rest.app, "POST", f"/v2/repository/models/rb-trend/{verb}").status == 405
    index = ask(rest.app, "POST", "/v2/repository/index", {}).json
    assert {(item["name"], item["version"], item["state"]) for item in index} == {
        ("rb-trend", "7", "READY"),
        ("rb-base", "1", "READY"),
        ("golden", "7", "READY"),
    }


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "1e3", "", "abc", "9" * 16, "٣"])
def test_a_malformed_budget(rest: Any, ask: Any, value: str) -> None:
    answer = ask(rest.app, "POST", PATH, body(3500.0, 0.1), signalyard_budget_us=value)
    assert answer.status == 400
    assert answer.json["error"].startswith("invalid_budget: signalyard-budget-us must be a positive whole number")


def test_work_whose_budget_has_run_out_is_dropped_unscored(rest: Any, ask: Any) -> None:
    calls, expired = rest.engine.calls, counted("expired", "golden")
    answer = ask(rest.app, "POST", "/v2/models/golden/infer", body(3500.0, 0.1), signalyard_budget_us="1")
    assert answer.status == 504
    assert answer.json["error"].startswith("deadline_exceeded: dropped unscored")
    assert rest.engine.calls == calls
    assert counted("expired", "golden") == expired + 1
    answer = ask(rest.app, "POST", "/v2/models/golden/infer", body(3500.0, 0.1), signalyard_budget_us="5000000")
    assert answer.status == 200


def test_every_request_is_counted_by_its_result(rest: Any, ask: Any) -> None:
    def rows(name: str) -> float:
        return REGISTRY.get_sample_value(f"signalyard_model_{name}_total", {"model": "rb-trend", "version": "7"}) or 0.0

    before = counted("ok"), counted("rejected"), rows("rows"), rows("row_errors")
    ask(rest.app, "POST", "/v2/models/rb-trend/infer", body(3500.0, 0.1, -1.0, 0.1, 3500.0, None))
    ask(rest.app, "POST", PATH, body(1.0, 2.0, columns='["close","open"]'))
    assert (counted("ok"), counted("rejected"), rows("rows"), rows("row_errors")) == (
        before[0] + 1,
        before[1] + 1,
        before[2] + 3,
        before[3] + 1,
    )
    labels = {"model": "rb-trend", "version": "7"}
    assert REGISTRY.get_sample_value("signalyard_model_request_seconds_bucket", {**labels, "le": "0.1"}) is not None
    assert REGISTRY.get_sample_value("signalyard_model_load_seconds", labels) is not None


def test_errors_are_counted_by_their_reason(rest: Any, ask: Any) -> None:
    def errors(reason: str) -> float | None:
        labels = {"model": "rb-trend", "version": "7", "reason": reason}
        return REGISTRY.get_sample_value("signalyard_model_errors_total", labels)

    before = errors("unknown_feature"), errors("model_failed")
    assert None not in before  # the first of them must be an increase
    ask(rest.app, "POST", PATH, body(1.0, 2.0, columns='["close","open"]'))
    assert (errors("unknown_feature"), errors("model_failed")) == ((before[0] or 0.0) + 1, before[1])


def test_a_model_that_fails_is_its_own_fault_and_shows_no_traceback(
    rest: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(matrix: object) -> None:
        raise RuntimeError("tree 3 is hollow")

    monkeypatch.setattr(rest.engine, "score", fail)
    failed = counted("failed", "golden")
    answer = ask(rest.app, "POST", "/v2/models/golden/infer", body(3500.0, 0.1))
    assert (answer.status, answer.json) == (
        500,
        {"error": "model_failed: the model raised RuntimeError: tree 3 is hollow"},
    )
    assert counted("failed", "golden") == failed + 1


def test_an_unforeseen_error_is_json_too(
    rest: Any, ask: Any, unforeseen: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(payload: object) -> None:
        raise unforeseen("a secret")

    monkeypatch.setattr("signalyard_runtimes.mlserver.model._read", fail)
    answer = ask(rest.app, "POST", PATH, body(3500.0, 0.1))
    assert (answer.status, list(answer.json)) == (500, ["error"])
    assert "secret" not in answer.json["error"]


def test_not_ready_before_it_is_warm_nor_when_it_stops(rest: Any, ask: Any) -> None:
    readiness = Readiness()
    app = rest_app(rest.settings, rest.data_plane, rest.handlers, readiness)
    paths = ("/v2/health/ready", "/v2/models/rb-trend/ready", "/v2/models/rb-trend/versions/7/ready")
    for path in paths:
        answer = ask(app, "GET", path)
        assert (answer.status, answer.json) == (503, {"error": "not_ready: loading and warming up"})
    assert ask(app, "GET", "/v2/health/live").status == 200
    assert ask(app, "POST", PATH, body(3500.0, 0.1)).status == 200
    readiness.admit()
    assert [ask(app, "GET", path).status for path in paths] == [200] * 3
    assert ask(app, "GET", "/v2/models/none/ready").status == 404
    readiness.close()
    assert [ask(app, "GET", path).status for path in paths] == [503] * 3


def test_every_problem_has_a_status() -> None:
    assert all(400 <= status(problem) < 600 for problem in Problem)


def test_a_lone_row_need_not_wait_for_a_large_batch(rest: Any) -> None:
    """The loop is free while the batch is scored: a task that only yields gets its turns."""
    request = json.loads(profile.encode_request("x", ("close", "ret_5"), [[3500.0, 0.1]] * 2000))

    async def both() -> int:
        from mlserver.types import InferenceRequest

        scoring = asyncio.create_task(rest.data_plane.infer(InferenceRequest(**request), "rb-trend", "7"))
        turns = 0
        while not scoring.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(both()) > 2
