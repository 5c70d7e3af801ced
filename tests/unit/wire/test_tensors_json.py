"""Inference calls over REST: JSON and packed tensors, what is wrong with them and where, and answers as they were asked for."""

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard import Problem, SignalyardError
from signalyard_router.rules.inference import Inferred, digest_of
from signalyard_router.rules.tensors import Tensor
from signalyard_router.wire.tensors_json import read_inference, read_inferred, write_inference, write_inferred

TENSOR = {"name": "a", "shape": [2], "datatype": "FP64", "data": [1.5, None]}
PACKED = struct.pack("<2d", 1.5, 2.5)
BINARY = {"name": "a", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": 16}}


def read(body, json_bytes=None):
    return read_inference(body if isinstance(body, bytes) else json.dumps(body).encode(), json_bytes, "m", None)


def packed(*tensors, tail=PACKED, **more):
    head = json.dumps({"inputs": list(tensors)} | more).encode()
    return head + tail, len(head)


def test_what_is_written_goes_on_as_it_is_written():
    asked = read({"id": "mine", "inputs": [TENSOR | {"parameters": {"k": [1]}}], "parameters": {"symbol": "a.B"}})
    assert (asked.id, asked.model, asked.version, asked.wire) == ("mine", "m", None, "rest")
    sent = json.loads(write_inference(asked, "r-1"))
    assert sent["id"] == "r-1"
    assert sent["inputs"][0] == TENSOR | {"parameters": {"k": [1]}}
    assert sent["parameters"] == {"symbol": "a.B"}
    assert b'"data":[1.50, 2e0]' in write_inference(
        read(b'{"inputs":[{"name":"a","shape":[2],"datatype":"FP64","data":[1.50, 2e0]}]}'), "r-1"
    )


def test_packed_tensors_are_json_to_a_server_that_knows_no_others():
    body, head = packed(BINARY, parameters={"binary_data_output": True}, outputs=[{"name": "s"}])
    asked = read(body, head)
    assert asked.inputs[0].packed == PACKED
    sent = json.loads(write_inference(asked, "r-1"))
    assert sent["inputs"][0]["data"] == [1.5, 2.5]
    assert "parameters" not in sent
    assert "parameters" not in sent["inputs"][0]
    assert sent["outputs"] == [{"name": "s"}]
    written = read({"inputs": [TENSOR | {"data": [1.5, 2.5]}]})
    assert digest_of(written.inputs) == digest_of(asked.inputs)


def test_tensors_of_both_kinds_in_one_call():
    text = {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["x"]}
    other = {"name": "c", "shape": [1], "datatype": "INT8", "parameters": {"binary_data_size": 1}}
    body, head = packed(BINARY, text, other, tail=PACKED + b"\x07")
    assert [tensor.as_packed() for tensor in read(body, head).inputs] == [PACKED, b"\x01\0\0\0x", b"\x07"]


@pytest.mark.parametrize(
    ("body", "head", "problem", "pointer"),
    [
        (b"{", None, Problem.MALFORMED_BODY, ""),
        (b'{"id": "\xff", "inputs": []}', None, Problem.MALFORMED_BODY, ""),
        (b'{"inputs":[{"data":' + b"[" * 10_000, None, Problem.MALFORMED_BODY, ""),
        (b"[]", None, Problem.INVALID_INFERENCE, ""),
        ({"inputs": [TENSOR | {"shape": "2"}]}, None, Problem.INVALID_INFERENCE, ""),
        ({"inputs": [BINARY]}, None, Problem.INVALID_INFERENCE, "/inputs/0/parameters/binary_data_size"),
        ({"inputs": [{**TENSOR, "data": 1} | BINARY]}, None, Problem.INVALID_INFERENCE, "/inputs/0/parameters/binary_data_size"),
        ({"inputs": [{"name": "a", "shape": [1], "datatype": "INT8"}]}, None, Problem.INVALID_INFERENCE, "/inputs/0/data"),
        (*packed(TENSOR), Problem.INVALID_INFERENCE, "/inputs"),
        (*packed(TENSOR | BINARY), Problem.INVALID_INFERENCE, "/inputs/0/data"),
        (*packed(BINARY, tail=PACKED + b"1"), Problem.INVALID_INFERENCE, "/inputs"),
        (b"{}", 3, Problem.INVALID_INFERENCE, ""),
    ],
)  # fmt: skip
def test_a_bad_call_is_told_where(body, head, problem, pointer):
    with pytest.raises(SignalyardError) as caught:
        read(body, head)
    assert (caught.value.problem, caught.value.pointer) == (problem, pointer)


def answer(**outputs):
    tensors = tuple(
        Tensor(name=name, datatype="FP64", shape=(len(values),), written=json.dumps(values).encode())
        for name, values in outputs.items()
    )
    return Inferred(model="m", version="7", digest="d", outputs=tensors, parameters={"digest": "d"})


@pytest.mark.parametrize(
    ("more", "binary"),
    [
        ({}, ()),
        ({"parameters": {"binary_data_output": True}}, ("s", "t")),
        ({"outputs": [{"name": "s", "parameters": {"binary_data": True}}, {"name": "t"}]}, ("s",)),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "s", "parameters": {"binary_data": False}}],
            },
            ("t",),
        ),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for(more, binary):
    asked = read({"id": "mine", "inputs": [TENSOR]} | more)
    body, head = write_inferred(answer(s=[0.5, None], t=[1.0]), asked, "c-1")
    assert (head is None) == (not binary)
    said = json.loads(body if head is None else body[:head])
    assert (said["id"], said["model_version"], said["parameters"]) == ("mine", "7", {"digest": "d", "call": "c-1"})
    tail = b"" if head is None else body[head:]
    values = {"s": 2, "t": 1}
    for output in said["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        assert (size is not None) == (output["name"] in binary) == ("data" not in output)
        if size is not None:
            assert size == 8 * values[output["name"]]
            tail = tail[size:]
    assert tail == b""


def test_an_answer_that_cannot_be_packed_is_malformed():
    asked = read({"inputs": [TENSOR], "parameters": {"binary_data_output": True}})
    with pytest.raises(SignalyardError) as caught:
        write_inferred(answer(s=["x"]), asked, "c-1")
    assert caught.value.problem is Problem.MODEL_ANSWER_MALFORMED


@given(st.binary(max_size=200), st.none() | st.integers(0, 300))
def test_whatever_comes_is_read_or_refused(body, head):
    for begin in (b"", b'{"inputs":[', b'{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","data":'):
        for call in (
            lambda text: read_inference(text, head, "m", None),
            lambda text: read_inferred(text, request_id="r", model="m", version="7", digest="d"),
        ):
            with suppress(SignalyardError):
                call(begin + body)
