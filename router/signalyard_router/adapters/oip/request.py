"""Requests to a model server: what is asked and how its answer is read, and their bytes, prepared as far as a model, its
version and an endpoint determine them."""

from collections.abc import Collection
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from signalyard.problems import CallerError, ModelError, Problem, error
from signalyard.profile import ModelCard, ScoredRows, decode_response
from signalyard.wire import BUDGET_HEADER
from signalyard_router.adapters.oip.errors import StatusError, WireError, problem_of
from signalyard_router.rules.inference import Inferred
from signalyard_router.rules.route import Endpoint
from signalyard_router.wire.tensors_json import read_inferred


class _Attributed(Protocol):
    """An answer that says who gave it."""

    @property
    def version(self) -> str: ...

    @property
    def digest(self) -> str: ...


Answer = TypeVar("Answer", bound=_Attributed)


class Request(msgspec.Struct, Generic[Answer], frozen=True):
    """A call, ready to be sent to any endpoint; what is sent twice is the same request, for scoring changes nothing.

    ``rows``: how many it has, 0 where its time says nothing of a row's. ``doubtful``: failures that say nothing of the endpoint.
    """

    id: str
    body: bytes
    card: ModelCard
    until: int
    rows: int = 0
    doubtful: Collection[Problem] = ()

    def read(self, answer: bytes) -> Answer:
        """The answer, held against the request. Raises ModelError."""
        raise NotImplementedError

    def problem_of(self, failure: WireError) -> ModelError | CallerError:
        """The problem that a failure of the wire is."""
        return problem_of(failure)


class Scoring(Request[ScoredRows], frozen=True):
    """Rows to be scored."""

    def read(self, answer: bytes) -> ScoredRows:
        card = self.card
        return decode_response(answer, request_id=self.id, model=card.model, version=card.version, rows=self.rows)


class Passing(Request[Inferred], frozen=True):
    """A call that is passed on. Nobody has held its tensors against a schema, so a failure may be theirs."""

    def read(self, answer: bytes) -> Inferred:
        card = self.card
        return read_inferred(answer, request_id=self.id, model=card.model, version=card.version, digest=card.digest)

    def problem_of(self, failure: WireError) -> ModelError | CallerError:
        if isinstance(failure, StatusError) and failure.status in _BAD_INPUT:
            said = problem_of(failure)
            bad = error(Problem.INVALID_INFERENCE, f"the model server says: {said.detail}", "/inputs")
            assert isinstance(bad, CallerError)
            return bad
        return problem_of(failure)


_BAD_INPUT = (400, 413, 415, 422)

DOUBTFUL = (Problem.MODEL_FAILED, Problem.MODEL_TIMEOUT)
"""What a caller's tensors may have caused: an error, or a computation without end."""

_BUDGET = f"{BUDGET_HEADER}: ".encode()


def infer_head(model: str, version: str, endpoint: Endpoint) -> bytes:
    """The head of every inference request to a version at an endpoint, as far as the length of the body."""
    lines = _lines("POST", model, version, "/infer", endpoint)
    return f"{lines}content-type: application/json\r\ncontent-length: ".encode()


def infer_request(head: bytes, body: bytes) -> bytes:
    """An inference request without its budget, which :func:`at_budget` adds when it is sent."""
    return b"%b%d\r\n" % (head, len(body))


def metadata_request(model: str, version: str | None, endpoint: Endpoint) -> bytes:
    """A request for the metadata of a version, or of whichever the server would use, without its budget."""
    return _lines("GET", model, version, "", endpoint).encode()


def at_budget(head: bytes, microseconds: int, body: bytes) -> bytes:
    """The whole request: ``head`` with the time that remains of the call, then ``body``, for one write."""
    return b"%b%b%d\r\n\r\n%b" % (head, _BUDGET, microseconds, body)


def _lines(method: str, model: str, version: str | None, verb: str, endpoint: Endpoint) -> str:
    # quoted, so that no name in a document can end a line of the request
    path = f"/v2/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{quote(version, safe='')}"
    host = quote(str(endpoint), safe=":[]")
    return f"{method} {path}{verb} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\naccept: application/json\r\n"
