"""Inference calls over gRPC: packed or as typed contents, the same call as over REST."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rules.test_tensors import values_of

from signalyard import Problem, SignalyardError, protobuf
from signalyard_router.rules.inference import Inferred, digest_of
from signalyard_router.rules.tensors import DATATYPES, Tensor, pack
from signalyard_router.wire.tensors_proto import (
    _CONTENTS,
    read_inference,
    read_inferred,
    write_inference,
    write_inferred,
)

CALL = {"request_id": "r-1", "model": "m", "version": "7", "digest": "sha256:known"}


def question(datatype, values, *, raw):
    message = protobuf.ModelInferRequest(model_name="m", id="mine")
    item = message.inputs.add(name="t", datatype=datatype, shape=[len(values)])
    if raw:
        message.raw_input_contents.append(pack(datatype, (len(values),), values))
    elif datatype == "BYTES":
        item.contents.bytes_contents.extend(value.encode() for value in values)
    else:
        getattr(item.contents, _CONTENTS[datatype]).extend(values)
    return message


@given(st.data(), st.sampled_from(DATATYPES))
def test_packed_or_typed_it_is_the_same_call(data, datatype):
    values = data.draw(st.lists(values_of(datatype), max_size=5))
    packed = read_inference(question(datatype, values, raw=True))
    assert (packed.wire, packed.id, packed.version) == ("grpc", "mine", None)
    written = Tensor(name="t", datatype=datatype, shape=(len(values),), packed=pack(datatype, (len(values),), values))
    assert digest_of(packed.inputs) == digest_of([written])
    if datatype in _CONTENTS:
        typed = read_inference(question(datatype, values, raw=False))
        assert digest_of(typed.inputs) == digest_of(packed.inputs)
    answer = Inferred(model="m", version="7", digest="d", outputs=(written,), parameters={"digest": "d"})
    for raw in (True, False):
        message = write_inferred(answer, "r-1", "c-1", raw=raw)
        assert bool(message.raw_output_contents) == (raw or datatype not in _CONTENTS)
        back = read_inferred(message, **CALL)
        assert digest_of(back.outputs) == digest_of(answer.outputs)
        assert (back.digest, back.parameters["call"]) == ("d", "c-1")


def test_parameters_and_outputs_go_on():
    message = question("INT8", [1], raw=True)
    message.parameters["symbol"].string_param = "rb2410.SHFE"
    message.parameters["flag"].bool_param = True
    message.parameters["number"].int64_param = -5
    message.parameters["part"].double_param = 0.5
    message.parameters["nothing"].SetInParent()
    message.inputs[0].parameters["columns"].string_param = "[]"
    message.outputs.add(name="score")
    asked = read_inference(message)
    assert asked.parameters == {"symbol": "rb2410.SHFE", "flag": True, "number": -5, "part": 0.5}
    sent = write_inference(asked, "m", "7", "r-1")
    assert (sent.model_version, sent.id, sent.outputs[0].name) == ("7", "r-1", "score")
    assert sent.inputs[0].parameters["columns"].string_param == "[]"
    assert {name: sent.parameters[name] for name in sent.parameters} == {
        name: message.parameters[name] for name in message.parameters if name != "nothing"
    }
    assert list(sent.raw_input_contents) == [b"\x01"]


def test_an_answer_says_its_digest_or_has_the_known_one():
    answer = protobuf.ModelInferResponse(model_name="m", model_version="7", id="r-1")
    assert read_inferred(answer, **CALL).digest == "sha256:known"
    answer.parameters["digest"].string_param = "sha256:said"
    assert read_inferred(answer, **CALL).digest == "sha256:said"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": "r-2"}, Problem.MODEL_ANSWER_WRONG_ID),
        ({"model_name": "n"}, Problem.MODEL_ANSWER_WRONG_VERSION),
        ({"model_version": "8"}, Problem.MODEL_ANSWER_WRONG_VERSION),
        ({"raw_output_contents": [b"1"]}, Problem.MODEL_ANSWER_MALFORMED),
        (
            {
                "outputs": [{"name": "a", "datatype": "FP64", "shape": [2]}],
                "raw_output_contents": [struct.pack("<d", 1)],
            },
            Problem.MODEL_ANSWER_WRONG_SHAPE,
        ),
    ],
)
def test_no_answer_but_its_own(change, problem):
    answer = protobuf.ModelInferResponse(**{"model_name": "m", "model_version": "7", "id": "r-1"} | change)
    with pytest.raises(SignalyardError) as caught:
        read_inferred(answer, **CALL)
    assert caught.value.problem is problem


@pytest.mark.parametrize(
    ("inputs", "raw", "pointer"),
    [
        ([{"name": "a", "datatype": "FP64", "shape": [2]}], [b"12345678"], "/inputs/0/contents"),
        ([{"name": "a", "datatype": "FP64", "shape": [1]}], [], "/inputs/0/contents"),
        ([{"name": "a", "datatype": "FP16", "shape": [1]}], [], "/inputs/0/contents"),
        ([{"name": "a", "datatype": "FP8", "shape": [1]}], [b"1"], "/inputs/0/contents"),
        ([{"name": "a", "datatype": "INT8", "shape": [-1]}], [b"1"], "/inputs/0/contents"),
        ([{"name": "a", "datatype": "INT8", "shape": [1]}], [b"1", b"2"], "/raw_input_contents"),
    ],
)
def test_a_bad_call_is_told_where(inputs, raw, pointer):
    message = protobuf.ModelInferRequest(model_name="m", inputs=inputs, raw_input_contents=raw)
    with pytest.raises(SignalyardError) as caught:
        read_inference(message)
    assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_INFERENCE, pointer)


def test_int8_contents_beyond_the_type_are_refused():
    message = protobuf.ModelInferRequest(model_name="m")
    message.inputs.add(name="a", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    with pytest.raises(SignalyardError, match="no INT8"):
        read_inference(message)
