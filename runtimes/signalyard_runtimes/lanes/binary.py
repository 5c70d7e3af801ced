"""The protocol's binary tensor data extension, which MLServer's REST server does not know: Triton's clients use it unasked.

The body is JSON of ``inference-header-content-length`` bytes, then the tensors' bytes in order; a tensor that has its data
there says how long it is (``binary_data_size``). The answer has the same form where the request asks for it. Source:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

import struct
from typing import Any

import msgspec
import numpy as np
import orjson

from signalyard import profile
from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard.problems import Problem, SignalyardError, error
from signalyard.profile import ScoredRows
from signalyard.wire import BUDGET_HEADER
from signalyard_runtimes.features import Matrix, to_values
from signalyard_runtimes.lanes.target import Target, Targets, asked, error_answer, scored_body
from signalyard_runtimes.mlserver import budget

_LENGTH = b"inference-header-content-length"
_SIZE = "binary_data_size"
_BUDGET_HEADER = BUDGET_HEADER.encode()
_VALUE_BYTES = 8
_MOST_DIGITS = 15


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class _Output(msgspec.Struct, frozen=True):
    name: str
    parameters: dict[str, Any] = {}


class _Head(msgspec.Struct, frozen=True):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decode = msgspec.json.Decoder(_Head).decode


class _Query(msgspec.Struct, frozen=True, gc=False):
    """A request of this lane: ``values`` are [rows, one a column], ``binary`` the outputs to give, and whether as bytes."""

    target: Target
    call: budget.Call
    columns: tuple[str, ...]
    values: Matrix
    id: str | None
    binary: dict[str, bool]


class BinaryLane:
    """Answers the requests that carry the extension's header."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    def at_once(self, request: Request) -> Answer | None:
        """The answer to a request for a single row, None to any other one: nothing has been scored or counted then."""
        try:
            query = self._query(request)
            if query is None or len(query.values) != 1:
                return None
            scored = query.target.score_row(query.call, query.columns, query.values[0].tolist())
        except SignalyardError as exc:
            return error_answer(exc)
        return _answer(scored, query.id, query.binary)

    async def answer(self, request: Request) -> Answer | None:
        """The answer, None where the request is none of the extension's, or there is no such model."""
        try:
            query = self._query(request)
            if query is None:
                return None
            scored = await query.target.score(query.call, query.columns, query.values)
        except SignalyardError as exc:
            return error_answer(exc)
        return _answer(scored, query.id, query.binary)

    def _query(self, request: Request) -> _Query | None:
        """What is asked for, None as `answer` says. Raises CallerError."""
        length = next((value for name, value in request.headers if name == _LENGTH), None)
        path = asked(request.path)
        if length is None or path is None or request.method != "POST":
            return None
        if any(name == b"content-encoding" for name, _ in request.headers):
            return None  # it comes again, unpacked
        target = self._targets.find(path)
        if target is None:
            return None
        seconds = next((budget.parse(value) for name, value in request.headers if name == _BUDGET_HEADER), None)
        head, rest = _split(length, request.body)
        columns, values = _read(head, rest)
        arrived = request.received / 1e9
        return _Query(
            target=target,
            call=budget.Call(arrived, None if seconds is None else arrived + seconds),
            columns=columns,
            values=values,
            id=head.id,
            binary=_wanted(head, target.model.scorer.outputs),
        )


def _split(length: bytes, body: bytes) -> tuple[_Head, bytes]:
    """The JSON, and the bytes behind it. Raises CallerError."""
    if not length.isdigit() or len(length) > _MOST_DIGITS or int(length) > len(body):
        shown = length[:40].decode("latin-1")
        raise error(
            Problem.INVALID_REQUEST,
            f"{_LENGTH.decode()} must say how many of the body's {len(body)} bytes are JSON, not {shown!r}",
        )
    size = int(length)
    try:
        return _decode(body[:size]), body[size:]
    except msgspec.ValidationError as exc:
        raise error(Problem.INVALID_SNAPSHOT, str(exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise error(Problem.MALFORMED_BODY, f"the JSON part: {exc}") from exc


def _read(head: _Head, rest: bytes) -> tuple[tuple[str, ...], Matrix]:
    """The columns and the values, of one tensor of features or of one a feature. Raises CallerError."""
    names = [tensor.name for tensor in head.inputs]
    if names == [profile.INPUT]:
        tensor = head.inputs[0]
        given = tensor.parameters.get(profile.COLUMNS_PARAMETER, head.parameters.get(profile.COLUMNS_PARAMETER))
        columns = profile.decode_columns(given)
        shapes: tuple[list[int], ...] = ([max(tensor.shape[:1], default=0), len(columns)],)
    elif names and profile.INPUT not in names:
        columns = tuple(names)
        rows = max(head.inputs[0].shape[:1], default=0)
        shapes = ([rows], [rows, 1])
    else:
        raise error(Problem.INVALID_SNAPSHOT, f"must be exactly one, named '{profile.INPUT}', not {names}", "/inputs")
    parts, used = [], 0
    for index, tensor in enumerate(head.inputs):
        if tensor.datatype != "FP64":
            raise error(Problem.INVALID_SNAPSHOT, f"must be FP64, not {tensor.datatype}", f"/inputs/{index}/datatype")
        if tensor.shape not in shapes or tensor.shape[0] < 1:
            raise error(
                Problem.INVALID_SNAPSHOT,
                f"must be {' or '.join(map(str, shapes))} with at least one row; it is {tensor.shape}",
                f"/inputs/{index}/shape",
            )
        values, size = _values(tensor, index, rest[used:])
        parts.append(values)
        used += size
    if used != len(rest):
        raise error(Problem.INVALID_SNAPSHOT, f"{len(rest) - used} bytes follow that no tensor claims", "/inputs")
    return columns, np.hstack(parts)


def _values(tensor: _Tensor, index: int, rest: bytes) -> tuple[Matrix, int]:
    """[rows, width], and how many bytes of ``rest`` they took. Raises CallerError."""
    rows, width = tensor.shape[0], 1 if len(tensor.shape) == 1 else tensor.shape[1]
    size = tensor.parameters.get(_SIZE)
    if size is None:
        return to_values(tensor.data or [], rows, width), 0
    needed = rows * width * _VALUE_BYTES
    if size != needed or len(rest) < needed or tensor.data is not None:
        raise error(
            Problem.INVALID_SNAPSHOT,
            f"the shape {tensor.shape} of FP64 needs {needed} bytes; {_SIZE} is {size}, and there are {len(rest)} bytes",
            f"/inputs/{index}/parameters/{_SIZE}",
        )
    return np.frombuffer(rest, dtype="<f8", count=rows * width).reshape(rows, width), needed


def _wanted(head: _Head, known: tuple[str, ...]) -> dict[str, bool]:
    """The names of the outputs to give, and whether as bytes. Raises CallerError."""
    default = head.parameters.get("binary_data_output") is True
    wanted = {}
    for index, output in enumerate(head.outputs):
        if output.name not in known:
            raise error(
                Problem.INVALID_SNAPSHOT,
                f"{output.name!r} is no output of this model: {', '.join(known)}",
                f"/outputs/{index}/name",
            )
        wanted[output.name] = output.parameters.get("binary_data", default) is True
    return wanted or dict.fromkeys(known, default)


def _answer(scored: ScoredRows, given_id: str | None, binary: dict[str, bool]) -> Answer:
    body = scored_body(scored, given_id)
    body["outputs"] = [output for output in body["outputs"] if output["name"] in binary]
    parts = []
    for output in body["outputs"]:
        if binary[output["name"]]:
            data = output.pop("data")
            part = _texts(data) if output["datatype"] == "BYTES" else np.array(data, dtype="<f8").tobytes()
            output["parameters"] = {_SIZE: len(part)}
            parts.append(part)
    head = orjson.dumps(body)
    if not parts:
        return Answer(200, b"application/json", head)
    return Answer(200, b"application/octet-stream", head + b"".join(parts), ((_LENGTH, b"%d" % len(head)),))


def _texts(texts: list[str]) -> bytes:
    """Each behind its length."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
