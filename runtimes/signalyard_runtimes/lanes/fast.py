"""The fast lane: one plain JSON request to one of our bundles, from bytes to bytes.

Its form is narrower than the protocol: no field that it does not know, one flat tensor, no request outputs. What does not fit
it is no error here but somebody else's: MLServer's path answers it.
"""

import struct
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from orjson import dumps

from signalyard import profile
from signalyard._remembering import remembered
from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard.problems import SignalyardError
from signalyard.profile import ScoredRows
from signalyard.wire import BUDGET_HEADER
from signalyard_runtimes.features import Matrix
from signalyard_runtimes.lanes.target import (
    JSON,
    SMALL_BYTES,
    Lookup,
    Target,
    asked,
    error_answer,
    request_id,
    scored_body,
)
from signalyard_runtimes.mlserver import budget

_BUDGET_HEADER = BUDGET_HEADER.encode()
# With these a body is not what it seems.
_ENCODED = frozenset((b"content-encoding", b"inference-header-content-length"))


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    columns: str


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    name: Literal["features"]
    shape: tuple[int, int]
    datatype: Literal["FP64"]
    parameters: msgspec.Raw
    """The same bytes in every request of a client, so they are read once."""
    data: list[float | None]


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    inputs: tuple[_Tensor]
    id: str | None = None


_decode = msgspec.json.Decoder(_Plain).decode
_decode_parameters = msgspec.json.Decoder(_Parameters).decode


class _Query(msgspec.Struct, frozen=True, gc=False):
    """A request of this lane: ``data`` is flat, ``rows`` times one value a column."""

    target: Target
    call: budget.Call
    columns: tuple[str, ...]
    rows: int
    data: list[float | None]
    id: str | None


class FastLane:
    """Answers the plain requests."""

    def __init__(self, targets: Lookup) -> None:
        self._targets = targets
        self._last: tuple[msgspec.Raw, tuple[str, ...] | None] = msgspec.Raw(), None

    def at_once(self, request: Request) -> Answer | None:
        """The answer to a request for a single row, None to any other one: nothing has been scored or counted then."""
        query = self._read(request)
        return None if query is None or query.rows != 1 else _answer_row(query)

    async def answer(self, request: Request) -> Answer | None:
        """The answer, None where it is not for this lane: nothing has been scored or counted then."""
        query = self._read(request)
        if query is None:
            return None
        if query.rows == 1:
            return _answer_row(query)
        try:
            scored = await query.target.score(query.call, query.columns, _matrix(query))
        except SignalyardError as exc:
            return error_answer(exc)
        return Answer(200, JSON, dumps(scored_body(scored, query.id)))

    def _read(self, request: Request) -> _Query | None:
        path = asked(request.path)
        if path is None or request.method != "POST":
            return None
        seconds = None
        for name, value in request.headers:
            if name in _ENCODED or (name == b"content-type" and value != JSON):
                return None
            if name == _BUDGET_HEADER and seconds is None:
                try:
                    seconds = budget.parse(value)
                except SignalyardError:
                    return None
        target = self._targets.find(path)
        if target is None:
            return None
        try:
            plain = _decode(request.body)
        except (ValueError, RecursionError):
            return None
        tensor = plain.inputs[0]
        parameters, columns = self._last
        if parameters != tensor.parameters:  # compared in a tenth of the time that it takes to look so long a text up
            columns = _columns(bytes(tensor.parameters))
            self._last = tensor.parameters.copy(), columns
        if columns is None:
            return None
        rows, width = tensor.shape
        if rows < 1 or width != len(columns) or len(tensor.data) != rows * width:
            return None
        arrived = request.received / 1e9
        call = budget.Call(arrived, None if seconds is None else arrived + seconds)
        return _Query(target, call, columns, rows, tensor.data, plain.id)


@remembered(longest=SMALL_BYTES, most=256)
def _columns(parameters: bytes) -> tuple[str, ...] | None:
    """The columns that a tensor's parameters name, None where these are not of the profile."""
    try:
        return profile.decode_columns(_decode_parameters(parameters).columns)
    except (ValueError, RecursionError, SignalyardError):
        return None


def _matrix(query: _Query) -> Matrix:
    """The values, NaN for missing."""
    data = query.data
    values = np.empty((query.rows, len(query.columns)))
    try:
        # It takes a third of the time in which numpy reads a list.
        struct.pack_into(f"{len(data)}d", values.data, 0, *data)
    except struct.error:  # some are missing
        values[:] = np.array(data, dtype=np.float64).reshape(values.shape)
    return values


def _answer_row(query: _Query) -> Answer:
    try:
        scored = query.target.score_row(query.call, query.columns, query.data)
    except SignalyardError as exc:
        return error_answer(exc)
    parts = _parts(scored.model, scored.version, scored.digest, scored.confidence is not None)
    written, score, row_error = dumps(request_id(query.id)), dumps(scored.score[0]), dumps(scored.row_error[0])
    if scored.confidence is None:
        body = b"".join((parts[0], written, parts[1], score, parts[2], row_error, parts[3]))
    else:
        confidence = dumps(scored.confidence[0])
        body = b"".join((parts[0], written, parts[1], score, parts[2], confidence, parts[3], row_error, parts[4]))
    return Answer(200, JSON, body)


@lru_cache(maxsize=256)
def _parts(model: str, version: str, digest: str, calibrated: bool) -> list[bytes]:
    """The body for a single row, in pieces: between them stand its id, its score, its confidence where the model is calibrated, and its
    error."""
    place = "\0"  # which no model may be called
    confidence: list[float | None] | None = [None] if calibrated else None
    scored = ScoredRows(
        model=model, version=version, digest=digest, score=[None], confidence=confidence, row_error=[""]
    )
    body = scored_body(scored, place)
    for output in body["outputs"]:
        output["data"] = [place]
    return dumps(body).split(dumps(place))
