"""The fast lane: one plain JSON request to one of our bundles, from bytes to bytes.

What is not of its form is no error here but somebody else's: MLServer's path answers it.
"""

import struct
from functools import lru_cache

import numpy as np
from orjson import dumps

from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard.problems import SignalyardError
from signalyard.profile import ScoredRows
from signalyard.wire import BUDGET_HEADER
from signalyard_runtimes.features import Matrix
from signalyard_runtimes.lanes.form import Form, Forms
from signalyard_runtimes.lanes.target import JSON, Lookup, Target, asked, error_answer, request_id, scored_body
from signalyard_runtimes.mlserver import budget

_BUDGET_HEADER = BUDGET_HEADER.encode()
# With these a body is not what it seems.
_ENCODED = frozenset((b"content-encoding", b"inference-header-content-length"))

_Query = tuple[Target, budget.Call, Form]  # bare, because one is made for every request


class FastLane:
    """Answers the plain requests."""

    def __init__(self, targets: Lookup) -> None:
        self._targets = targets
        self._forms = Forms()

    def at_once(self, request: Request) -> Answer | None:
        """The answer to a request for a single row, None to any other one: nothing has been scored or counted then."""
        query = self._read(request)
        if query is None:
            return None
        target, call, form = query
        return _answer_row(target, call, form) if form.rows == 1 else None

    async def answer(self, request: Request) -> Answer | None:
        """The answer, None where it is not for this lane: nothing has been scored or counted then."""
        query = self._read(request)
        if query is None:
            return None
        target, call, form = query
        if form.rows == 1:
            return _answer_row(target, call, form)
        try:
            scored = await target.score(call, form.columns, _matrix(form))
        except SignalyardError as exc:
            return error_answer(exc)
        return Answer(200, JSON, dumps(scored_body(scored, form.id)))

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
        form = self._forms.read(request.body)
        if form is None:
            return None
        arrived = request.received / 1e9
        call = budget.Call(arrived, None if seconds is None else arrived + seconds)
        return target, call, form


def _matrix(form: Form) -> Matrix:
    """The values, NaN for missing."""
    data = form.data
    shape = form.rows, len(form.columns)
    if isinstance(data, np.ndarray):
        return data.reshape(shape)
    values = np.empty(shape)
    try:
        # It takes a third of the time in which numpy reads a list.
        struct.pack_into(f"{len(data)}d", values.data, 0, *data)
    except struct.error:  # some are missing
        values[:] = np.array(data, dtype=np.float64).reshape(shape)
    return values


def _answer_row(target: Target, call: budget.Call, form: Form) -> Answer:
    data = form.data
    try:
        scored = target.score_row(call, form.columns, data if isinstance(data, list) else data.tolist())
    except SignalyardError as exc:
        return error_answer(exc)
    parts = _parts(scored.model, scored.version, scored.digest, scored.confidence is not None)
    written, score, row_error = dumps(request_id(form.id)), dumps(scored.score[0]), dumps(scored.row_error[0])
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
