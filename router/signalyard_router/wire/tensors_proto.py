"""Inference calls and answers as the protocol's gRPC form has them. Needs the extra ``grpc``.

Tensors come packed (``raw_input_contents``) or as typed contents; an answer has the form of its question.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from signalyard.problems import Problem, error
from signalyard.protobuf import ModelInferRequest, ModelInferResponse
from signalyard_router.rules.inference import Inference, Inferred, Requested
from signalyard_router.rules.tensors import (
    Tensor,
    TensorError,
    check_length,
    pack,
    pack_elements,
    unpack,
    unpack_elements,
)
from signalyard_router.wire.tensors_json import check_answer

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where each type's values are. FP16 has no place there and is packed."""


def read_inference(message: Any) -> Inference:
    """A ``ModelInferRequest``. Raises CallerError: invalid_inference."""
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        text = f"there are {len(message.inputs)} inputs and {len(raw)} raw contents"
        raise error(Problem.INVALID_INFERENCE, text, "/raw_input_contents")
    inputs: list[Tensor] = []
    for index, item in enumerate(message.inputs):
        try:
            inputs.append(_tensor(item, raw[index] if raw else None))
        except TensorError as exc:
            raise error(Problem.INVALID_INFERENCE, str(exc), f"/inputs/{index}/contents") from exc
    return Inference(
        model=message.model_name,
        version=message.model_version or None,
        id=message.id,
        inputs=tuple(inputs),
        outputs=tuple(Requested(item.name, parameters_of(item.parameters)) for item in message.outputs),
        parameters=parameters_of(message.parameters),
        wire="grpc",
    )


def write_inference(asked: Inference, model: str, version: str, request_id: str) -> Any:
    """The same as a ``ModelInferRequest`` to a version, under an id of our own. Raises CallerError (invalid_inference)."""
    message = ModelInferRequest(model_name=model, model_version=version, id=request_id)
    _set(message.parameters, asked.parameters)
    for index, tensor in enumerate(asked.inputs):
        try:
            message.raw_input_contents.append(tensor.as_packed())
        except TensorError as exc:
            raise error(Problem.INVALID_INFERENCE, str(exc), f"/inputs/{index}/data") from exc
        item = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _set(item.parameters, tensor.parameters)
    for output in asked.outputs:
        _set(message.outputs.add(name=output.name).parameters, output.parameters)
    return message


def read_inferred(message: Any, *, request_id: str, model: str, version: str, digest: str) -> Inferred:
    """A ``ModelInferResponse``; ``digest`` is what the version is known to be, where the answer does not say it.

    Raises ModelError: model_answer_malformed, _wrong_id, _wrong_version, _wrong_shape.
    """
    check_answer(
        message.id, message.model_name, message.model_version, request_id=request_id, model=model, version=version
    )
    raw = list(message.raw_output_contents)
    if raw and len(raw) != len(message.outputs):
        text = f"there are {len(message.outputs)} outputs and {len(raw)} raw contents"
        raise error(Problem.MODEL_ANSWER_MALFORMED, text, "/raw_output_contents")
    outputs: list[Tensor] = []
    for index, item in enumerate(message.outputs):
        try:
            outputs.append(_tensor(item, raw[index] if raw else None))
        except TensorError as exc:
            raise error(Problem.MODEL_ANSWER_WRONG_SHAPE, str(exc), f"/outputs/{item.name}") from exc
    parameters = parameters_of(message.parameters)
    said = parameters.get("digest")
    return Inferred(
        model=model,
        version=version,
        digest=said if isinstance(said, str) and said else digest,
        outputs=tuple(outputs),
        parameters=parameters,
    )


def write_inferred(answer: Inferred, client_id: str, call_id: str, *, raw: bool) -> Any:
    """An answer as a ``ModelInferResponse``, packed where its question was. Raises ModelError (model_answer_malformed)."""
    message = ModelInferResponse(model_name=answer.model, model_version=answer.version, id=client_id)
    _set(message.parameters, {**answer.parameters, "call": call_id})
    for tensor in answer.outputs:
        item = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _set(item.parameters, tensor.parameters)
        try:
            packed = tensor.as_packed()
            if raw or tensor.datatype not in _CONTENTS:
                message.raw_output_contents.append(packed)
            else:
                _fill(item.contents, tensor, packed)
        except TensorError as exc:
            raise error(Problem.MODEL_ANSWER_MALFORMED, str(exc), f"/outputs/{tensor.name}") from exc
    return message


def parameters_of(found: Any) -> dict[str, Any]:
    """Parameters as values; one that holds nothing is left out."""
    return {
        name: getattr(value, chosen)
        for name, value in found.items()
        if (chosen := value.WhichOneof("parameter_choice")) is not None
    }


def set_parameter(place: Any, name: str, value: object) -> None:
    """Set a parameter; the wire carries no lists and no objects, so what is neither text, number nor flag is left out."""
    if isinstance(value, bool):
        place[name].bool_param = value
    elif isinstance(value, str):
        place[name].string_param = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        place[name].int64_param = value
    elif isinstance(value, float):
        place[name].double_param = value


def _set(place: Any, parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        set_parameter(place, name, value)


def _tensor(item: Any, raw: bytes | None) -> Tensor:
    shape = tuple(item.shape)
    if raw is not None:
        check_length(item.datatype, shape, raw)
        packed = raw
    else:
        packed = _packed(item, shape)
    parameters = parameters_of(item.parameters)
    return Tensor(name=item.name, datatype=item.datatype, shape=shape, packed=packed, parameters=parameters)


def _packed(item: Any, shape: Sequence[int]) -> bytes:
    """Typed contents, little-endian."""
    field = _CONTENTS.get(item.datatype)
    if field is None:
        raise TensorError(f"{item.datatype[:40]!r} has no typed contents: send it raw")
    values = list(getattr(item.contents, field))
    return pack_elements(shape, values) if item.datatype == "BYTES" else pack(item.datatype, shape, values)


def _fill(contents: Any, tensor: Tensor, packed: bytes) -> None:
    values = (
        unpack_elements(tensor.shape, packed)
        if tensor.datatype == "BYTES"
        else unpack(tensor.datatype, tensor.shape, packed)
    )
    getattr(contents, _CONTENTS[tensor.datatype]).extend(values)
