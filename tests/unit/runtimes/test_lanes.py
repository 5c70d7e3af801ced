"""One suite for MLServer's own path and the fast lane: the same bytes to both, the same bytes and the same counts from both."""

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from prometheus_client import REGISTRY

from signalyard._server.testing import exchange
from signalyard_runtimes.lanes import asgi
from signalyard_runtimes.lanes.fast import FastLane
from signalyard_runtimes.lanes.front import Front
from signalyard_runtimes.lanes.target import SMALL_BYTES, Targets
from signalyard_runtimes.mlserver.metrics import HttpMetrics

PATH = "/v2/models/rb-trend/versions/7/infer"
COLUMNS = '["close","ret_5"]'
MOST = 131_072


class Fronts(NamedTuple):
    own: Front
    fast: Front


@pytest.fixture(scope="session")
def fronts(rest: Any) -> Fronts:
    metrics = HttpMetrics()
    lane = FastLane(Targets(rest.registry, rest.data_plane))
    return Fronts(Front(rest.app, (), metrics, MOST), Front(rest.app, [lane], metrics, MOST))


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that went to MLServer's app."""
    paths: list[str] = []
    call = asgi.call

    async def noting(app: Any, request: Any) -> Any:
        paths.append(request.path)
        return await call(app, request)

    monkeypatch.setattr("signalyard_runtimes.lanes.asgi.call", noting)
    return paths


def plain(*data: object, **more: Any) -> dict[str, Any]:
    """A request for rows of two features; what is given by name replaces or adds to the tensor, what is None leaves it."""
    tensor = {
        "name": "features",
        "shape": [len(data) // 2, 2],
        "datatype": "FP64",
        "parameters": {"columns": COLUMNS},
        "data": list(data),
    } | more
    return {"id": "r-1", "inputs": [{name: value for name, value in tensor.items() if value is not ...}]}


def literal(numbers: bytes) -> bytes:
    """A request for one row whose numbers are written just so."""
    return json.dumps(plain(71, 72)).encode().replace(b"[71, 72]", numbers)


GOOD = plain(3500.0, 0.1)


def post(body: object, path: str = PATH, *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/{version}", "host: x", f"content-length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def counts() -> dict[Any, float]:
    """Every counter of requests, ours and MLServer's; times are not compared."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith(("model_infer", "signalyard_model")) and sample.name.endswith(("_total", "_count"))
    }


def asked(front: Front, *parts: bytes) -> tuple[bytes, dict[Any, float]]:
    before = counts()
    written = exchange(front, *parts, max_body_bytes=MOST)
    after = counts()
    return written, {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}


_OWN_ID = re.compile(rb'"id":"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"')
_LATE = re.compile(rb"content-length: \d+(?=.*run out)|(?<=run out )\d+", re.DOTALL)


def same(fronts: Fronts, *parts: bytes) -> bytes:
    """What both paths answer. Ids that the server made up, and by how much a budget was missed, are not compared."""
    (own, own_counts), (fast, fast_counts) = (asked(front, *parts) for front in fronts)
    own, fast = (_LATE.sub(b"", _OWN_ID.sub(b'"id":"?"', written)) for written in (own, fast))
    assert fast == own
    assert fast_counts == own_counts
    return fast


def status(written: bytes) -> int:
    return int(written.split(b" ", 2)[1])


def fast_cases() -> Iterator[tuple[str, bytes]]:
    """What the fast lane has to answer itself."""
    yield "one row", post(GOOD)
    yield "rows", post(plain(3500.0, 0.1, 3501.0, -0.2, 3502.0, 0.0))
    yield "no version", post(GOOD, "/v2/models/rb-trend/infer")
    yield "no confidence", post(GOOD, "/v2/models/rb-base/infer")
    yield "a query", post(GOOD, PATH + "?x=1")
    yield "an escaped path", post(GOOD, PATH.replace("rb-trend", "rb%2Dtrend"))
    yield "whole numbers", post(plain(3500, 0))
    yield "large whole numbers", post(plain(2**53 + 1, 2**63, 2**64 - 1, -(2**63)))
    yield (
        "larger ones",
        post(literal(b"[123456789012345678901234567890, 1e22]")),
    )
    yield "zeros", post(literal(b"[-0, -0.0]"))
    yield "tiny", post(literal(b"[1e-400, 5e-324]"))
    yield (
        "digits",
        post(literal(b"[3512.12345678901234567890123, 4.9e-324]")),
    )
    yield "missing", post(plain(3500.0, None, None, 0.5))
    yield "out of range", post(plain(-1.0, 0.5))
    yield "another order", post(plain(0.1, 3500.0, parameters={"columns": '["ret_5","close"]'}))
    yield "one column", post(plain(3500.0, shape=[1, 1], parameters={"columns": '["close"]'}))
    yield "batch on a thread", post(plain(*[3500.0, 0.1] * 600))
    many: list[Any] = [round(3500 + row / 7, row % 16) for row in range(2400)]
    assert len(json.dumps(many)) > SMALL_BYTES
    yield "many numbers", post(plain(*many))
    yield "many, some missing", post(plain(*many, None, 0.1, 3500.0, None))
    yield "many, one of them large", post(plain(*many, 2**70, 0.1))
    yield "many, with a name that is a place of ours", post({**plain(*many), "id": "numbers"})
    yield "many in one row", post(json.dumps(GOOD).encode() + b" " * SMALL_BYTES)
    yield "unknown feature", post(plain(1.0, 2.0, parameters={"columns": '["close","open"]'}))
    yield "missing feature", post(plain(1.0, shape=[1, 1], parameters={"columns": '["ret_5"]'}))
    names = json.dumps([f"{number:04x}" for number in range(10_000)], separators=(",", ":"))
    yield "ten thousand features", post(plain(*[1] * 10_000, shape=[1, 10_000], parameters={"columns": names}))
    for value in ("", "x", None, "日本", "a\r\nx-evil: 1", "\u2028", '"\\', "x" * 5000):
        yield f"id {str(value)[:8]!r}", post({**GOOD, "id": value})
    yield "no id", post({"inputs": GOOD["inputs"]})
    yield "content type", post(GOOD, PATH, "content-type: application/json")
    yield "budget", post(GOOD, PATH, "signalyard-budget-us: 60000000")
    yield "two budgets", post(GOOD, PATH, "signalyard-budget-us: 60000000", "signalyard-budget-us: 1")
    yield "expired", post(GOOD, PATH, "signalyard-budget-us: 1")
    yield "last on its connection", post(GOOD, PATH, "connection: close")
    yield "http 1.0", post(GOOD, version="1.0")
    yield "white space", post(json.dumps(GOOD, indent=3).encode() + b"\n")
    yield "gzip", post(gzip.compress(json.dumps(GOOD).encode()), PATH, "content-encoding: gzip")
    yield "GZIP", post(gzip.compress(json.dumps(GOOD).encode()), PATH, "content-encoding: GZIP")
    yield "not encoded", post(GOOD, PATH, "content-encoding: identity")
    yield "twice the same key", post(json.dumps(GOOD).encode().replace(b'"id": "r-1"', b'"id": "r-1", "id": "r-2"'))


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in fast_cases()])
def test_the_fast_lane_answers_as_mlserver_does(fronts: Fronts, handed_on: list[str], raw: bytes) -> None:
    same(fronts, raw)
    assert len(handed_on) == 1  # by the front that has no lane


def odd_cases() -> Iterator[tuple[str, bytes, int]]:
    """What is MLServer's to answer, and with which status."""
    for datatype in (
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP16",
        "FP32",
        "BYTES",
    ):
        for data in ([1, 2], [1.5, 2.5], [True, False], ["1", "2"]):
            # MLServer's codecs would make 1 and 2 of 1.5 and 2.5 declared as INT32; both paths refuse all but FP64
            yield f"{datatype} {data}", post(plain(*data, datatype=datatype)), 400
    for datatype in ("fp64", "FP128", 64, None, ...):
        yield f"datatype {datatype}", post(plain(1.0, 2.0, datatype=datatype)), 400
    for shape in (
        [1, 3],
        [2, 2],
        [2],
        [],
        [1, 2, 1],
        [-1, 2],
        [0, 2],
        [2**31, 2**31],
        [2**62, 4],
        [2**64, 2],
        [1.5, 2],
        "12",
        None,
        ...,
    ):
        yield f"shape {shape}", post(plain(1.0, 2.0, shape=shape)), 400
    for data in (
        ["1.0", 2.0],
        [True, 2.0],
        [[1.0, 2.0, 3.0]],
        [[1.0], [2.0]],
        [[[1.0, 2.0]]],
        [{}, 1.0],
        {"a": 1},
        "AAAA",
        5,
        None,
        ...,
        [1.0],
        [10**400, 1.0],
    ):
        yield f"data {str(data)[:30]}", post(plain(1.0, 2.0, data=data, shape=[1, 2])), 400
    spaces = b" " * SMALL_BYTES
    for numbers in (
        b"[1,2,]",
        b"[1,[2]]",
        b"[1,true]",
        b"[NaN,1]",
        b"[01,2]",
        b"[1,nulll]",
        b"[1e999,1]",
        b"[1]",
        b'["1",2]',
        b"[1,2],2",
    ):
        yield f"large {numbers!r}", post(literal(numbers[:1] + spaces + numbers[1:])), 400
    for more in (b'"data": null', b'"data": []', b'"data": "numbers"', b'"d\\u0061ta": [1]'):
        yield f"large, then {more!r}", post(literal(b"[" + spaces + b"1,2], " + more)), 400
    yield "nested rows", post(plain(1.0, 2.0, data=[[3500.0, 0.1], [3501.0, None]], shape=[2, 2])), 200
    yield "a shape of floats", post(plain(1.0, 2.0, shape=[1.0, 2.0])), 200
    for number in (
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"-1e999",
        b"01",
        b".5",
        b"1.",
        b"+1",
        b"0x1",
        b"1_0",
        b"1e",
        b"\xff",
    ):
        yield f"number {number!r}", post(literal(b"[%s, 2]" % number)), 400
    for parameters in (
        {},
        None,
        ...,
        {"columns": ["close"]},
        {"columns": "close"},
        {"columns": None},
        {"columns": "[1]"},
        {"columns": '["close","close"]'},
        {"columns": COLUMNS, "content_type": 5},
    ):
        yield f"parameters {parameters}", post(plain(1.0, 2.0, parameters=parameters)), 400
    yield (
        "more parameters",
        post(plain(3500.0, 0.1, parameters={"columns": COLUMNS, "x": [1], "content_type": "np"})),
        200,
    )
    yield "request parameters", post({**GOOD, "parameters": {"x": 1}}), 200
    yield "wrong request parameters", post({**GOOD, "parameters": 5}), 400
    yield "an unknown field", post({**GOOD, "x": [[[]]]}), 200
    yield "an unknown field of the tensor", post(plain(3500.0, 0.1, x=1)), 200
    yield "a deep field", post(b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"," + json.dumps(GOOD).encode()[1:]), 400
    yield "no outputs", post({**GOOD, "outputs": []}), 200
    yield "outputs", post({**GOOD, "outputs": [{"name": "score"}, {"name": "row_error"}]}), 200
    yield "unknown outputs", post({**GOOD, "outputs": [{"name": "x"}]}), 400
    yield "wrong outputs", post({**GOOD, "outputs": "score"}), 400
    for value in (5, 1.5, True, [], {}):
        yield f"id {value}", post({**GOOD, "id": value}), 400
    yield "two inputs", post({"inputs": GOOD["inputs"] * 2}), 400
    yield "no input", post({"inputs": []}), 400
    yield "an object of inputs", post({"inputs": GOOD["inputs"][0]}), 400
    yield "another input", post(plain(1.0, 2.0, name="x")), 400
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b"\xff",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode() + b"x",
        b'{"id":"\\ud800","inputs":[]}',
    ):
        yield f"body {body[:9]!r}", post(body), 400
    for path in (
        "/v2/models/none/infer",
        "/v2/models/rb-trend/versions/8/infer",
        "/v2/models/rb-trend/versions//infer",
        "/v2/models/RB-TREND/infer",
        "/v2/models/a%2Fb/infer",
        "//v2/models/rb-trend/infer",
    ):
        yield path, post(GOOD, path), 404
    yield "a slash at the end", post(GOOD, PATH + "/"), 307
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        yield method, post(b"", method=method), 405
    for kind, code in (
        ("text/plain", 400),
        ("application/octet-stream", 400),
        ("multipart/form-data; boundary=x", 400),
        ("x", 400),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/cloudevents+json", 200),
        ("", 200),
    ):
        yield f"content type {kind}", post(GOOD, PATH, f"content-type: {kind}"), code
    for budget in ("0", "-5", "1.5", "soon", "", "9" * 16):
        yield f"budget {budget}", post(GOOD, PATH, f"signalyard-budget-us: {budget}"), 400
    yield "no gzip", post(GOOD, PATH, "content-encoding: gzip"), 400
    yield "half a gzip", post(gzip.compress(json.dumps(GOOD).encode())[:-9], PATH, "content-encoding: gzip"), 400
    yield "a gzip and more", post(gzip.compress(json.dumps(GOOD).encode()) + b"x", PATH, "content-encoding: gzip"), 400
    yield "a gzip that swells", post(gzip.compress(b" " * (MOST + 1)), PATH, "content-encoding: gzip"), 413
    yield "another encoding", post(GOOD, PATH, "content-encoding: br"), 415
    yield "oversize", post(b" " * (MOST + 1)), 413
    yield "an endless header", post(GOOD, PATH, "x: " + "y" * 70_000), 431
    yield "no http", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40, 400
    yield "two lengths", post(GOOD, PATH, "content-length: 3"), 400
    yield "length and chunks", post(GOOD, PATH, "transfer-encoding: chunked"), 400
    yield "ready", post(b"", PATH.replace("infer", "ready"), method="GET"), 200
    yield "metadata", post(b"", "/v2/models/rb-trend", method="GET"), 200


@pytest.mark.parametrize(("raw", "code"), [pytest.param(raw, code, id=name) for name, raw, code in odd_cases()])
def test_what_is_odd_or_wrong_gets_mlservers_answer(fronts: Fronts, raw: bytes, code: int) -> None:
    written = same(fronts, raw)
    assert status(written) == code
    assert b"Traceback" not in written


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_bodies_in_chunks(fronts: Fronts, handed_on: list[str]) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    whole = same(fronts, post(GOOD))
    for size in (1, 7, 1000):
        assert same(fronts, head + chunked(json.dumps(GOOD).encode(), size)) == whole
    assert len(handed_on) == 4


def test_a_connection_is_kept_and_its_requests_are_answered_in_order(fronts: Fronts, handed_on: list[str]) -> None:
    requests = [post({**GOOD, "id": f"r-{number}"}) for number in range(4)]
    wrong = post(plain(1.0, 2.0, datatype="INT32"))
    ready = post(b"", "/v2/health/ready", method="GET")
    stream = b"".join([requests[0], wrong, requests[1], ready, requests[2], requests[3]])
    written = same(fronts, stream)  # all of them in one packet
    assert re.findall(rb'"id":"(.*?)"', written) == [b"r-0", b"r-1", b"r-2", b"r-3"]
    assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", written)] == [200, 400, 200, 200, 200, 200]
    assert len(handed_on) == 6 + 2
    pieces = [stream[start : start + 37] for start in range(0, len(stream), 37)]
    closing = b"\r\nconnection: close"  # said as soon as it is known that the client sends no more
    assert same(fronts, *pieces).replace(closing, b"") == written.replace(closing, b"")


def test_a_model_that_fails_fails_alike(fronts: Fronts, rest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(matrix: object) -> None:
        raise RuntimeError("tree 3 is hollow")

    monkeypatch.setattr(rest.engine, "score", fail)
    assert status(same(fronts, post(GOOD, "/v2/models/golden/infer"))) == 500


def test_what_nobody_foresaw_is_a_500_without_its_text(
    fronts: Fronts, monkeypatch: pytest.MonkeyPatch, unforeseen: Any
) -> None:
    def fail(*_: object) -> None:
        raise unforeseen("a secret")

    async def fail_later(*_: object) -> None:
        fail()

    monkeypatch.setattr("signalyard_runtimes.mlserver.model.BundleModel.score", fail_later)
    monkeypatch.setattr("signalyard_runtimes.mlserver.model.BundleModel.score_row", fail)
    for body in (GOOD, plain(3500.0, 0.1, 3501.0, 0.2)):
        written = same(fronts, post(body))
        assert status(written) == 500
        assert b"secret" not in written
