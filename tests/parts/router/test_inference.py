"""Inference calls through a router process: the protocol's paths, binary tensors, the deaths, and what the journal has of it."""

import json
import struct
import time

PATIENCE = 20.0


def infer(router, body, path="/v2/models/rb-trend/infer", headers=None):
    connection = router.connection()
    try:
        data = body if isinstance(body, bytes) else json.dumps(body)
        connection.request("POST", path, data, headers or {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def question(*rows, **more):
    tensor = {
        "name": "features",
        "shape": [len(rows), 2],
        "datatype": "FP64",
        "data": [value for row in rows for value in row],
        "parameters": {"columns": '["p","x"]'},
    }
    return {"inputs": [tensor]} | more


def test_a_call_its_record_and_the_way_to_find_it(router, models):
    router.start()
    status, _, body = infer(router, question([0.7, None], [0.3, 1.0], id="mine"))
    answer = json.loads(body)
    assert status == 200, answer
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("rb-trend", "7", "mine")
    assert answer["outputs"][0]["data"] == [0.7, 0.3]
    (record,) = router.records("call")
    assert answer["parameters"]["call"] == record["id"]
    assert (record["version"], record["digest"]) == ("7", f"sha256:{'7' * 64}")
    assert infer(router, question([0.7, None]), "/v2/models/rb-trend/versions/6/infer")[0] == 200
    models.behave("7", "hang")
    late = json.loads(infer(router, question([0.4, None]))[2])
    assert late["model_version"] == "6"
    models.behave("7", "good")
    assert router.ask(0.7)["outcome"] == "emitted"
    shown = json.loads(router.run("journal", "show", record["id"], "--journal", str(router.journal)).stdout)
    assert shown["input"] == record["input"]
    tail = router.run("journal", "tail", "--journal", str(router.journal)).stdout
    assert tail.count(" call ") == 3
    assert router.terminate() == 0
    verified = router.run("journal", "verify", "--journal", str(router.journal))
    assert "(call 3, decision 1, route 1, start 1), chain verified" in verified.stdout
    assert [record.get("failover", False) for record in router.records("call")] == [
        False,
        False,
        True,
    ]
    assert "internal_error" not in router.said()


def test_binary_tensors_both_ways(router):
    router.start()
    packed = struct.pack("<4d", 0.7, 1.0, 0.3, 1.0)
    head = {
        "inputs": [
            {
                "name": "features",
                "shape": [2, 2],
                "datatype": "FP64",
                "parameters": {"columns": '["p","x"]', "binary_data_size": len(packed)},
            }
        ],
        "outputs": [{"name": "score", "parameters": {"binary_data": True}}, {"name": "row_error"}],
    }
    text = json.dumps(head).encode()
    status, headers, body = infer(router, text + packed, headers={"Inference-Header-Content-Length": str(len(text))})
    assert status == 200, body
    cut = int(headers["inference-header-content-length"])
    answer = json.loads(body[:cut])
    score, row_error = answer["outputs"]
    assert struct.unpack("<2d", body[cut:]) == (0.7, 0.3)
    assert score["parameters"]["binary_data_size"] == 16
    assert "data" not in score
    assert row_error["data"] == ["", ""]
    written = infer(router, question([0.7, 1.0], [0.3, 1.0]))
    assert json.loads(written[2])["outputs"][0]["data"] == [0.7, 0.3]
    first, second = router.records("call")
    assert (first["input"], first["output"]) == (second["input"], second["output"])


def test_what_the_protocol_says_of_server_and_models(router, models):
    router.start()
    status, server = router.get("/v2")
    assert (status, server["name"]) == (200, "signalyard")
    assert router.get("/v2/health/live") == (200, {"live": True})
    assert router.get("/v2/health/ready") == (200, {"ready": True})
    assert router.get("/v2/models/rb-trend/ready") == (200, {"ready": True, "name": "rb-trend"})
    status, model = router.get("/v2/models/rb-trend")
    assert (status, model["versions"], model["inputs"][0]["name"]) == (200, ["7", "6"], "features")
    assert router.get("/v2/models/rb-trend/versions/6")[0] == 200
    status, error = router.get("/v2/models/nope")
    assert (status, error["code"]) == (404, "unknown_model")
    assert error["error"].startswith("unknown_model: ")
    assert router.get("/v2/models/rb-trend/versions/9/ready")[0] == 404
    models.stop_one("7")
    models.stop_one("6")
    until = time.monotonic() + PATIENCE
    while router.get("/v2/models/rb-trend/ready")[0] == 200 and time.monotonic() < until:
        time.sleep(0.05)
    status, error = router.get("/v2/models/rb-trend/ready")
    assert (status, error["code"]) == (503, "not_ready")
    status, _, body = infer(router, question([0.7, None]))
    assert (status, json.loads(body)["code"]) == (502, "model_unreachable")
    (record,) = router.records("call")
    assert record["problem"]["code"] == "model_unreachable"


def bad_calls():
    good = question([0.7, 1.0])
    yield "malformed", b"{nope", {}, 400, "malformed_body"
    yield "not text", b'{"id": "\xff", "inputs": []}', {}, 400, "malformed_body"
    yield "deep", b'{"inputs":[{"data":' + b"[" * 100_000, {}, 400, "malformed_body"
    yield "no inputs", {}, {}, 400, "invalid_inference"
    yield "a tensor that is none", {"inputs": [7]}, {}, 400, "invalid_inference"
    yield "no data", {"inputs": [{"name": "a", "shape": [1], "datatype": "FP64"}]}, {}, 400, "invalid_inference"
    yield "wrong length", question([0.7]), {}, 400, "invalid_inference"
    yield "an overflowing shape", wrong(good, shape=[2**40, 2**40]), {}, 400, "invalid_inference"
    yield "a shape of text", wrong(good, shape=["2"]), {}, 400, "invalid_inference"
    yield "an unknown type", wrong(good, datatype="FP8"), {}, 400, "invalid_inference"
    yield "whole numbers that are none", wrong(good, datatype="INT32"), {}, 400, "invalid_inference"
    yield "bytes that do not follow", wrong(good, binary=5), {}, 400, "invalid_inference"
    yield "a header beyond the body", good, {"inference-header-content-length": "99999"}, 400, "invalid_inference"
    yield "a header of text", good, {"inference-header-content-length": "x"}, 400, "invalid_inference"
    yield "bytes too many", json.dumps(good).encode() + b"1234", {"inference-header-content-length": "2"}, 400, None
    yield "gzip", good, {"content-encoding": "gzip"}, 415, "unsupported_media_type"
    yield "a budget of text", good, {"signalyard-budget-us": "soon"}, 400, "invalid_budget"
    yield "an unknown instrument", good | {"parameters": {"symbol": "cu1.SHFE"}}, {}, 404, "no_route"
    yield "an instrument of numbers", good | {"parameters": {"symbol": 5}}, {}, 400, "invalid_inference"


def wrong(good, binary=None, **more):
    tensor = good["inputs"][0] | more
    if binary is not None:
        del tensor["data"]
        tensor["parameters"] = tensor["parameters"] | {"binary_data_size": binary}
    return {"inputs": [tensor]}


def test_bad_calls_are_told_what_is_wrong_and_reach_nobody(router, models):
    router.start()
    for what, body, headers, status, code in bad_calls():
        got, kinds, text = infer(router, body, headers=headers)
        told = json.loads(text)
        assert (got, kinds["content-type"]) == (status, "application/json"), (what, told)
        assert code in (None, told["code"]), (what, told)
        assert told["error"], what
    assert router.get("/v2/models/rb-trend/infer")[0] == 405
    assert models.servers["7"].inferences == []
    assert router.records("call") == []
    assert "internal_error" not in router.said()
    models.behave("7", "bad_input")
    status, _, text = infer(router, question([0.7, 1.0]))
    assert (status, json.loads(text)["code"]) == (400, "invalid_inference")
    assert models.servers["6"].inferences == []
    assert router.records("call")[0]["problem"]["code"] == "invalid_inference"
