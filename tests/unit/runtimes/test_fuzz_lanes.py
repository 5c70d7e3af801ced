"""The fast lane against MLServer's own path, on requests that are nearly good: never another answer, and never a number where
that one gives an error. With FUZZ_SECONDS new rounds until the time is over."""

import copy
import json
import os
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from signalyard._server.testing import exchange
from signalyard_runtimes.lanes.fast import FastLane
from signalyard_runtimes.lanes.front import Front
from signalyard_runtimes.lanes.target import SMALL_BYTES, Targets
from signalyard_runtimes.mlserver.metrics import HttpMetrics

LONG = "FUZZ_SECONDS" in os.environ
PATH = "/v2/models/rb-trend/infer"
GOOD = {
    "id": "r-1",
    "inputs": [
        {
            "name": "features",
            "shape": [2, 2],
            "datatype": "FP64",
            "parameters": {"columns": '["close","ret_5"]'},
            "data": [3500.0, 0.1, 3501, None],
        }
    ],
}
TEXT = json.dumps(GOOD).encode()
# what JSON parsers, and those of numbers, take differently
NASTY = [
    *(b"NaN", b"Infinity", b"-", b"-0", b"1e999", b"1e-999", b"1E5", b"1e+5", b"0.1e1", b"00", b"1.", b".1", b"9" * 30, b"9" * 400),
    *(b"18446744073709551616", b"9223372036854775808", b"-9223372036854775809", b"9007199254740993", b"1.0000000000000002"),
    *(b"null", b"true", b"false", b"{}", b"[]", b'""', b'"1"', b"[[", b"]]", b"[" * 1100, b'{"a":' * 300, b"\\ud800", b"\\u0000"),
    *(b"\xff", b"\xc3\x28", b"\xef\xbb\xbf", b"\x00", b"\x1f", b"\t", b"\r\n", b"//", b"/**/", b"'", b",", b",,", b":", b'"x":1,'),
    *(b'"numbers"', b'"data":"numbers",', b'"data":null,', b'"d\\u0061ta":[1,2],'),
    *(b'"id":"x",', b'"inputs":[],', b'"data":[1,2,3,4],', b'"shape":[1,4],', b'"datatype":"INT32",', b'"name":"x",'),
]  # fmt: skip
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 4, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, 0.5, 2.0, -0.0, 1e308, 5e-324, 1e23),
    *("", "x", "1", "FP64", "INT32", "fp64", "features", '["close"]', '["ret_5","close"]', '["close","ret_5","close"]', "[]"),
    *([], {}, [1], [2, 2], [4, 1], [1, 4], [2.0, 2.0], ["2", "2"], [True, 2], [[3500.0, 0.1], [1.0, None]], [[1.0] * 4], {"columns": 1}),
]  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    data = bytearray(TEXT)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.sampled_from([0, 0, 1, 2, 4, 8])))
        data[place:end] = draw(
            st.one_of(st.sampled_from(NASTY), st.binary(max_size=2), st.just(bytes(data[place:end] * 2)))
        )
    return bytes(data)


def places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        found.append((tree, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


@st.composite
def rebuilt(draw: st.DrawFn) -> bytes:
    tree = json.loads(TEXT)
    for _ in range(draw(st.integers(1, 3))):
        choices = places(tree)
        if not choices:
            break
        holder, key = draw(st.sampled_from(choices))
        value = draw(
            st.one_of(st.sampled_from(VALUES), st.floats(allow_nan=False, allow_infinity=False), st.integers())
        )
        value = copy.deepcopy(value)  # the tree that it is put into is changed on
        if draw(st.booleans()):
            holder[key] = value
        elif isinstance(holder, dict):
            if draw(st.booleans()):
                del holder[key]
            else:
                holder[draw(st.sampled_from(["id", "parameters", "outputs", "data", "x", "content_type"]))] = value
        else:
            holder.insert(key, value)
    return json.dumps(tree).encode()


@st.composite
def numbers(draw: st.DrawFn) -> bytes:
    """Rows whose numbers are written in any way that a number can be."""
    digits = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    texts = draw(st.lists(digits, min_size=4, max_size=4))
    return TEXT.replace(b"[3500.0, 0.1, 3501, null]", f"[{', '.join(texts)}]".encode())


# The numbers of larger bodies are read another way.
SPACES = b" " * SMALL_BYTES


def large(body: bytes) -> bytes:
    """The same with spaces before its numbers, if there still are any."""
    return body.replace(b'"data": [', b'"data": [' + SPACES, 1)


class Pair:
    def __init__(self, rest: Any) -> None:
        metrics = HttpMetrics()
        self.own = Front(rest.app, (), metrics, 1 << 20)
        self.fast = Front(rest.app, [FastLane(Targets(rest.registry, rest.data_plane))], metrics, 1 << 20)

    def same(self, body: bytes, *headers: bytes) -> None:
        lines = [b"POST %s HTTP/1.1" % PATH.encode(), b"host: x", b"content-length: %d" % len(body), *headers, b"", b""]
        raw = b"\r\n".join(lines) + body
        own, fast = (
            re.sub(rb'"id":"[0-9a-f-]{36}"', b'"id":"?"', exchange(front, raw, max_body_bytes=1 << 20))
            for front in (self.own, self.fast)
        )
        assert fast == own
        assert int(own.split(b" ", 2)[1]) in (200, 400)


@pytest.fixture(scope="session")
def pair(rest: Any) -> Pair:
    return Pair(rest)


def fuzz(examples: int) -> Any:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=examples, deadline=None, derandomize=not LONG, database=None, suppress_health_check=slow
    )


@fuzz(150)
@given(body=mangled())
@example(body=b"")
def test_bytes_that_are_nearly_a_request(pair: Pair, body: bytes) -> None:
    pair.same(body)
    pair.same(large(body))


@fuzz(150)
@given(body=rebuilt())
def test_trees_that_are_nearly_a_request(pair: Pair, body: bytes) -> None:
    pair.same(body)
    pair.same(large(body))


@fuzz(100)
@given(body=numbers())
@example(body=TEXT.replace(b"3501", b"-0"))
def test_numbers_however_they_are_written(pair: Pair, body: bytes) -> None:
    pair.same(body)
    pair.same(large(body))


@fuzz(50)
@given(raw=st.lists(st.binary(max_size=40), max_size=6), split=st.integers(0, 300))
def test_whatever_comes_on_a_connection_ends_in_an_answer(pair: Pair, raw: list[bytes], split: int) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), len(TEXT))
    stream = head + TEXT + b"".join(raw)
    written = [exchange(front, stream[:split], stream[split:]) for front in (pair.own, pair.fast)]
    assert written[0] == written[1]
    assert written[0].startswith(b"HTTP/1.1 200 ")
