"""The binary tensor data extension: the numbers that JSON gets, and a clear word where the bytes do not fit."""

import asyncio
import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest

from signalyard._server.request import Request
from signalyard._server.testing import exchange
from signalyard_runtimes.lanes.binary import BinaryLane
from signalyard_runtimes.lanes.front import Front
from signalyard_runtimes.lanes.target import Targets
from signalyard_runtimes.mlserver.metrics import HttpMetrics

COLUMNS = '["close","ret_5"]'
ROWS = np.array([[3500.0, 0.1], [3501.0, np.nan], [3502.0, np.inf]])


@pytest.fixture(scope="session")
def front(rest: Any) -> Front:
    return Front(rest.app, [BinaryLane(Targets(rest.registry, rest.data_plane))], HttpMetrics(), 65_536)


def head(rows: Any = ROWS, **more: Any) -> dict[str, Any]:
    tensor = {
        "name": "features",
        "shape": list(rows.shape),
        "datatype": "FP64",
        "parameters": {"binary_data_size": rows.nbytes, "columns": COLUMNS},
    }
    return {"id": "r-1", "inputs": [{**tensor, **more.pop("tensor", {})}], **more}


def ask(front: Front, document: Any, rest: bytes, *headers: str, length: object = None, packed: bool = False) -> Any:
    """(status, JSON, bytes behind it)"""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    body = gzip.compress(text + rest) if packed else text + rest
    lines = [
        "POST /v2/models/rb-trend/infer HTTP/1.1",
        f"inference-header-content-length: {len(text) if length is None else length}",
        f"content-length: {len(body)}",
        *headers,
        "",
        "",
    ]
    written = exchange(front, "\r\n".join(lines).encode() + body)
    top, _, content = written.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in top.split(b"\r\n")[1:])
    size = int(fields.get(b"inference-header-content-length", len(content)))
    return int(top.split()[1]), json.loads(content[:size]), content[size:]


def test_bytes_in_numbers_out(front: Front) -> None:
    status, answer, rest = ask(front, head(), ROWS.tobytes())
    assert (status, rest, answer["id"]) == (200, b"", "r-1")
    score, confidence, row_error = (output["data"] for output in answer["outputs"])
    assert row_error == ["", "", "ret_5: inf is not finite"]
    assert score[2] is confidence[2] is None
    data = [{"name": "features", "shape": [2, 2], "datatype": "FP64", "data": [3500.0, 0.1, 3501.0, None]}]
    data[0]["parameters"] = {"columns": COLUMNS}
    status, plain, _ = ask(front, {"inputs": data}, b"")
    assert (status, plain["outputs"][0]["data"]) == (200, score[:2])


def test_bytes_out(front: Front) -> None:
    _, plain, _ = ask(front, head(), ROWS.tobytes())
    status, answer, rest = ask(front, head(parameters={"binary_data_output": True}), ROWS.tobytes())
    assert status == 200
    sizes = [output["parameters"]["binary_data_size"] for output in answer["outputs"]]
    assert sizes == [24, 24, 12 + len("ret_5: inf is not finite")]
    scores = np.frombuffer(rest[:24], "<f8")
    assert scores[:2].tolist() == plain["outputs"][0]["data"][:2]
    assert np.isnan(scores[2])
    assert rest[48:56] == struct.pack("<II", 0, 0)
    assert rest[60:] == b"ret_5: inf is not finite"


def test_the_outputs_that_are_asked_for_in_the_form_that_is(front: Front) -> None:
    outputs = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "row_error"}]
    status, answer, rest = ask(front, head(outputs=outputs), ROWS.tobytes())
    assert (status, len(rest)) == (200, 24)
    assert [output["name"] for output in answer["outputs"]] == ["score", "row_error"]
    assert "data" in answer["outputs"][1]


def test_columns_of_the_request_and_a_packed_body(front: Front) -> None:
    asked = head(tensor={"parameters": {"binary_data_size": 48}}, parameters={"columns": COLUMNS})
    assert ask(front, asked, ROWS.tobytes(), "content-encoding: gzip", packed=True)[0] == 200


def test_a_tensor_a_feature(front: Front) -> None:
    inputs = [
        {"name": name, "shape": [3, 1], "datatype": "FP64", "parameters": {"binary_data_size": 24}}
        for name in ("ret_5", "close")
    ]
    rest = ROWS[:, 1].tobytes() + ROWS[:, 0].tobytes()
    _, whole, _ = ask(front, head(), ROWS.tobytes())
    status, answer, _ = ask(front, {"inputs": inputs}, rest)
    assert status == 200
    assert answer["outputs"] == whole["outputs"]


@pytest.mark.parametrize(
    ("document", "tail", "words"),
    [
        (head(), ROWS.tobytes()[:-1], "there are 47 bytes"),
        (head(), ROWS.tobytes() + b"x", "1 bytes follow"),
        (head(tensor={"shape": [2, 2]}), ROWS.tobytes(), "needs 32 bytes"),
        (head(tensor={"shape": [2**62, 2]}), ROWS.tobytes(), "bytes"),
        (head(tensor={"shape": [-3, 2]}), ROWS.tobytes(), "at least one row"),
        (head(tensor={"shape": []}), ROWS.tobytes(), "at least one row"),
        (head(tensor={"datatype": "INT32"}), ROWS.tobytes(), "must be FP64, not INT32"),
        (head(tensor={"datatype": "FP32"}), ROWS.tobytes(), "must be FP64, not FP32"),
        (head(tensor={"data": [1.0] * 6}), ROWS.tobytes(), "needs 48 bytes"),
        (head(tensor={"parameters": {"binary_data_size": "48", "columns": COLUMNS}}), ROWS.tobytes(), "needs 48"),
        (head(tensor={"parameters": {"binary_data_size": 48}}), ROWS.tobytes(), "the parameter 'columns'"),
        (head(outputs=[{"name": "x"}]), ROWS.tobytes(), "'x' is no output"),
        (head(inputs=[]), b"", "exactly one"),
        (head(inputs=5), b"", "invalid_snapshot"),
        (b"{", b"", "malformed_body"),
        (b"\xff", b"", "malformed_body"),
        (b"[" * 3000, b"", "400"),
    ],
    ids=map(str, range(17)),
)
def test_what_does_not_fit_is_told(front: Front, document: Any, tail: bytes, words: str) -> None:
    status, answer, _ = ask(front, document, tail)
    assert status == 400
    assert words in f"{status} {answer['error']}"


@pytest.mark.parametrize("length", ["-1", "x", "", "99999", "9" * 5000])
def test_a_length_that_is_none(front: Front, length: str) -> None:
    status, answer, _ = ask(front, head(), ROWS.tobytes(), length=length)
    assert status == 400
    assert "must say how many of the body's" in answer["error"]


def test_a_row_alone_gets_what_it_gets_among_others_and_at_once(rest: Any) -> None:
    lane = BinaryLane(Targets(rest.registry, rest.data_plane))

    def request(rows: Any) -> Request:
        text = json.dumps(head(rows)).encode()
        headers = ((b"inference-header-content-length", str(len(text)).encode()),)
        return Request("POST", "/v2/models/rb-trend/infer", headers=headers, body=text + rows.tobytes())

    together = asyncio.run(lane.answer(request(ROWS)))
    assert together is not None
    assert lane.at_once(request(ROWS)) is None
    for place in range(len(ROWS)):
        alone = lane.at_once(request(ROWS[place : place + 1]))
        assert alone is not None
        outputs = [output["data"][0] for output in json.loads(alone.body)["outputs"]]
        assert outputs == [output["data"][place] for output in json.loads(together.body)["outputs"]]
