"""Inference calls and answers as the protocol's REST form has them, its binary tensors included.

Values that are written as JSON are passed on as they are written; packed ones follow the JSON, in the order of the tensors
that say ``binary_data_size``, and a header says where the JSON ends.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.rules.inference import Inference, Inferred, Requested
from signalyard_router.rules.tensors import Tensor, TensorError

BINARY_HEADER = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON; packed tensors follow."""

_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
_EDGE = (_SIZE, _BINARY, _ALL_BINARY)
"""What is said of this wire alone and goes no further."""

_Read = TypeVar("_Read")


class TensorForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tensor; ``data`` is flat in row-major order or nested, and missing where its bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Raw | UnsetType = UNSET


class RequestedForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An inference request."""

    inputs: list[TensorForm]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[RequestedForm] = []


class InferredForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An inference answer."""

    model_name: str
    outputs: list[TensorForm]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


_encode = msgspec.json.Encoder().encode
_asked = msgspec.json.Decoder(InferenceForm)
_answered = msgspec.json.Decoder(InferredForm)


def read_inference(body: bytes, json_bytes: int | None, model: str, version: str | None) -> Inference:
    """A call to ``model``; ``json_bytes`` is how many bytes of the body are JSON, None for all.

    Raises CallerError: malformed_body, invalid_inference.
    """
    head, tail = _split(body, json_bytes)
    form = _form(_asked.decode, head)
    return Inference(
        model=model,
        version=version,
        id=form.id,
        inputs=_tensors(form.inputs, tail),
        outputs=tuple(Requested(item.name, item.parameters) for item in form.outputs),
        parameters=form.parameters,
    )


def write_inference(asked: Inference, request_id: str) -> bytes:
    """The same as JSON alone, under an id of our own. Raises CallerError (invalid_inference) where JSON cannot carry a value."""
    return _encode(
        InferenceForm(
            id=request_id,
            parameters=_onwards(asked.parameters),
            inputs=[_written(tensor, "inputs", index) for index, tensor in enumerate(asked.inputs)],
            outputs=[
                RequestedForm(name=output.name, parameters=_onwards(output.parameters)) for output in asked.outputs
            ],
        )
    )


def read_inferred(body: bytes, *, request_id: str, model: str, version: str, digest: str) -> Inferred:
    """A model server's answer in JSON; ``digest`` is what the version is known to be, where the answer does not say it.

    Raises ModelError: model_answer_malformed, _wrong_id, _wrong_version, _wrong_shape.
    """
    try:
        form = _answered.decode(body)
    except (ValueError, RecursionError) as exc:
        raise error(Problem.MODEL_ANSWER_MALFORMED, f"not an inference response: {exc}") from exc
    parameters = form.parameters or {}
    check_answer(form.id, form.model_name, form.model_version, request_id=request_id, model=model, version=version)
    outputs = tuple(
        Tensor(
            name=item.name,
            datatype=item.datatype,
            shape=tuple(item.shape),
            written=b"[]" if isinstance(item.data, UnsetType) else bytes(item.data),
            parameters=item.parameters,
        )
        for item in form.outputs
    )
    said = parameters.get("digest")
    return Inferred(
        model=model,
        version=version,
        digest=said if isinstance(said, str) and said else digest,
        outputs=outputs,
        parameters=parameters,
    )


def answer_body(answer: Inferred, request_id: str) -> bytes:
    """A model server's answer as its REST form would have it. Raises ModelError (model_answer_malformed)."""
    try:
        outputs = [_tensor(item, Raw(item.as_written()), dict(item.parameters)) for item in answer.outputs]
    except TensorError as exc:
        raise error(Problem.MODEL_ANSWER_MALFORMED, str(exc), "/outputs") from exc
    return _encode(
        InferredForm(
            model_name=answer.model,
            model_version=answer.version,
            id=request_id,
            parameters=dict(answer.parameters),
            outputs=outputs,
        )
    )


def check_answer(
    answer_id: str | None, name: str, said: str | None, *, request_id: str, model: str, version: str
) -> None:
    """Whose answer it is. Raises ModelError: model_answer_wrong_id, model_answer_wrong_version."""
    if answer_id != request_id:
        text = f"asked as {request_id!r}, answered as {_shown(answer_id)}"
        raise error(Problem.MODEL_ANSWER_WRONG_ID, text, "/id")
    if name != model or said != version:
        text = f"asked for {model} {version}, answered by {_shown(name)} {_shown(said)}"
        raise error(Problem.MODEL_ANSWER_WRONG_VERSION, text, "/model_version")


def write_inferred(answer: Inferred, asked: Inference, call_id: str) -> tuple[bytes, int | None]:
    """An answer as its caller asked for it, and how many bytes of it are JSON, None where all are.

    Raises ModelError (model_answer_malformed) where a value cannot be carried.
    """
    wants = {output.name: output.parameters.get(_BINARY) for output in asked.outputs}
    every = asked.parameters.get(_ALL_BINARY) is True
    forms: list[TensorForm] = []
    tail: list[bytes] = []
    for tensor in answer.outputs:
        wanted = wants.get(tensor.name)
        binary = every if wanted is None else wanted is True
        try:
            if binary:
                packed = tensor.as_packed()
                tail.append(packed)
                parameters = {**tensor.parameters, _SIZE: len(packed)}
                forms.append(_tensor(tensor, UNSET, parameters))
            else:
                forms.append(_tensor(tensor, Raw(tensor.as_written()), dict(tensor.parameters)))
        except TensorError as exc:
            raise error(Problem.MODEL_ANSWER_MALFORMED, str(exc), f"/outputs/{tensor.name}") from exc
    head = _encode(
        InferredForm(
            model_name=answer.model,
            model_version=answer.version,
            id=asked.id or None,
            parameters={**answer.parameters, "call": call_id},
            outputs=forms,
        )
    )
    return (b"".join((head, *tail)), len(head)) if tail else (head, None)


def _split(body: bytes, json_bytes: int | None) -> tuple[bytes, bytes]:
    if json_bytes is None:
        return body, b""
    if json_bytes > len(body):
        text = f"{BINARY_HEADER} is {json_bytes}, and the body has {len(body)} bytes"
        raise error(Problem.INVALID_INFERENCE, text)
    return body[:json_bytes], body[json_bytes:]


def _form(decode: Callable[[bytes], _Read], body: bytes) -> _Read:
    try:
        return decode(body)
    except msgspec.ValidationError as exc:
        raise error(Problem.INVALID_INFERENCE, str(exc)) from exc
    except ValueError as exc:
        raise error(Problem.MALFORMED_BODY, str(exc)) from exc
    except RecursionError as exc:
        raise error(Problem.MALFORMED_BODY, "it is nested too deeply") from exc


def _tensors(forms: Sequence[TensorForm], tail: bytes) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    at = 0
    for index, form in enumerate(forms):
        size = form.parameters.get(_SIZE)
        if size is None:
            if isinstance(form.data, UnsetType):
                raise _bad(index, "data", f"it has neither data nor the parameter {_SIZE!r}")
            found.append(_neutral(form, written=bytes(form.data)))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - at:
            raise _bad(index, f"parameters/{_SIZE}", f"{_shown(size)} bytes, and {len(tail) - at} follow")
        if not isinstance(form.data, UnsetType):
            raise _bad(index, "data", f"it has data and the parameter {_SIZE!r}: give one of them")
        found.append(_neutral(form, packed=tail[at : at + size]))
        at += size
    if at != len(tail):
        raise error(Problem.INVALID_INFERENCE, f"{len(tail) - at} bytes follow that belong to no input", "/inputs")
    return tuple(found)


def _neutral(form: TensorForm, *, packed: bytes | None = None, written: bytes | None = None) -> Tensor:
    return Tensor(
        name=form.name,
        datatype=form.datatype,
        shape=tuple(form.shape),
        packed=packed,
        written=written,
        parameters=_onwards(form.parameters),
    )


def _written(tensor: Tensor, place: str, index: int) -> TensorForm:
    try:
        return _tensor(tensor, Raw(tensor.as_written()), dict(tensor.parameters))
    except TensorError as exc:
        raise error(Problem.INVALID_INFERENCE, str(exc), f"/{place}/{index}/data") from exc


def _tensor(tensor: Tensor, data: Raw | UnsetType, parameters: dict[str, Any]) -> TensorForm:
    return TensorForm(
        name=tensor.name, shape=list(tensor.shape), datatype=tensor.datatype, data=data, parameters=parameters
    )


def _onwards(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without those of this wire."""
    return {name: value for name, value in parameters.items() if name not in _EDGE}


def _bad(index: int, field: str, text: str) -> SignalyardError:
    return error(Problem.INVALID_INFERENCE, text, f"/inputs/{index}/{field}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
