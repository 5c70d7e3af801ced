"""The fast lane: one plain JSON request to one of our bundles, from bytes to bytes.

Its form is narrower than the protocol: no field that it does not know, one flat tensor, no request outputs. What does not fit
it is no error here but somebody else's: MLServer's path answers it.
"""

from typing import Literal

import msgspec
import numpy as np
import orjson

from signalyard import profile
from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard.problems import SignalyardError
from signalyard.wire import BUDGET_HEADER
from signalyard_runtimes.lanes.target import JSON, Targets, asked, error_answer, scored_body
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
    parameters: _Parameters
    data: list[float | None]


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    inputs: tuple[_Tensor]
    id: str | None = None


_decode = msgspec.json.Decoder(_Plain).decode


class FastLane:
    """Answers the plain requests."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    async def answer(self, request: Request) -> Answer | None:
        """The answer, None where it is not for this lane: nothing has been scored or counted then."""
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
        target = await self._targets.find(path)
        if target is None:
            return None
        try:
            plain = _decode(request.body)
            tensor = plain.inputs[0]
            columns = profile.decode_columns(tensor.parameters.columns)
        except (ValueError, RecursionError, SignalyardError):
            return None
        rows, width = tensor.shape
        if rows < 1 or width != len(columns) or len(tensor.data) != rows * width:
            return None
        values = np.array(tensor.data, dtype=np.float64).reshape(rows, width)
        arrived = request.received / 1e9
        call = budget.Call(arrived, None if seconds is None else arrived + seconds)
        try:
            scored = await target.score(call, columns, values)
        except SignalyardError as exc:
            return error_answer(exc)
        return Answer(200, JSON, orjson.dumps(scored_body(scored, plain.id)))
