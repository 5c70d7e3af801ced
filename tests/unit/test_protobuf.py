"""Our messages are those of the protocol: the same names, numbers and types as in code that others have generated."""

import pytest
from mlserver.grpc import dataplane_pb2

from signalyard import protobuf


def shape(descriptor):
    fields = {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else None,
            field.containing_oneof.name if field.containing_oneof else None,
        )
        for field in descriptor.fields
    }
    return fields, {inner.name: shape(inner) for inner in descriptor.nested_types}


def within(theirs, ours):
    (fields, nested), (more, deeper) = theirs, ours
    return fields.items() <= more.items() and all(within(nested[name], deeper[name]) for name in nested)


THEIRS = dataplane_pb2.DESCRIPTOR
OURS = protobuf.ModelInferRequest.DESCRIPTOR.file


@pytest.mark.parametrize("name", sorted(OURS.message_types_by_name))
def test_a_message_is_the_protocols(name):
    assert within(shape(THEIRS.message_types_by_name[name]), shape(OURS.message_types_by_name[name]))


def test_the_service_is_the_protocols():
    theirs, ours = (file.services_by_name["GRPCInferenceService"] for file in (THEIRS, OURS))
    assert ours.full_name == protobuf.INFERENCE
    for method in ours.methods:
        twin = theirs.methods_by_name[method.name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            twin.input_type.full_name,
            twin.output_type.full_name,
        )


def test_bytes_are_understood_on_the_other_side():
    asked = protobuf.ModelInferRequest(model_name="m", model_version="7", id="1", raw_input_contents=[b"12345678"])
    asked.parameters["symbol"].string_param = "rb2410.SHFE"
    asked.inputs.add(name="x", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.5)
    theirs = dataplane_pb2.ModelInferRequest.FromString(asked.SerializeToString())
    assert theirs.parameters["symbol"].string_param == "rb2410.SHFE"
    assert list(theirs.inputs[0].contents.fp64_contents) == [1.5]
    assert protobuf.ModelInferRequest.FromString(theirs.SerializeToString()) == asked
