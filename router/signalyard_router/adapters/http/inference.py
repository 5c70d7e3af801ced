"""The Open Inference Protocol's REST form: calls that are passed through, and what the protocol says of models and server.

Source: https://github.com/kserve/open-inference-protocol (inference_rest).
"""

from typing import Any, Protocol

import msgspec

from signalyard._release import release
from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard.oip import ModelMetadata
from signalyard.problems import Problem, error
from signalyard.wire import BUDGET_HEADER
from signalyard_router.adapters.http.answers import json_answer
from signalyard_router.adapters.http.headers import MAX_BUDGET_US, of_inference
from signalyard_router.adapters.http.paths import Path
from signalyard_router.flow.passthrough import Answered
from signalyard_router.rules.inference import Inference
from signalyard_router.wire.tensors_json import (
    BINARY_HEADER,
    InferenceForm,
    InferredForm,
    read_inference,
    write_inferred,
)

_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_EXTENSIONS = ["binary_tensor_data"]


class Passing(Protocol):
    """Who passes calls on."""

    async def infer(self, asked: Inference, *, received: int, remaining: int | None = None) -> Answered:
        """The model's answer and its record. Raises SignalyardError."""
        ...


class Models(Protocol):
    """What may be called."""

    def metadata(self, model: str, version: str | None) -> ModelMetadata:
        """A model's description. Raises SignalyardError."""
        ...

    def ready(self, model: str, version: str | None) -> bool:
        """Whether somebody would answer. Raises CallerError."""
        ...


class Gatekeeper(Protocol):
    """The router, as calls see it."""

    def admit(self, received: int, remaining: int | None = None) -> None:
        """Called once a request, before it is decoded. Raises RouterError: overloaded."""
        ...

    def unready(self) -> list[str]:
        """Why the router should get no traffic; empty when it should."""
        ...


class Alive(msgspec.Struct, frozen=True):
    """The answer of ``GET /v2/health/live``."""

    live: bool


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of ``GET /v2/health/ready``, and of a model's, which has its name."""

    ready: bool
    name: str = ""


class ServerMetadata(msgspec.Struct, frozen=True):
    """The answer of ``GET /v2``."""

    name: str
    version: str
    extensions: list[str]


_PROBLEMS = (
    Problem.MALFORMED_BODY,
    Problem.INVALID_INFERENCE,
    Problem.INVALID_BUDGET,
    Problem.INVALID_INSTRUMENT,
    Problem.UNSUPPORTED_MEDIA_TYPE,
    Problem.UNKNOWN_MODEL,
    Problem.UNKNOWN_ROUTE,
    Problem.NO_ROUTE,
    Problem.MODEL_UNREACHABLE,
    Problem.MODEL_TIMEOUT,
    Problem.MODEL_UNKNOWN,
    Problem.MODEL_FAILED,
    Problem.MODEL_OVERLOADED,
    Problem.MODEL_ANSWER_MALFORMED,
    Problem.MODEL_ANSWER_WRONG_SHAPE,
    Problem.MODEL_ANSWER_WRONG_ID,
    Problem.MODEL_ANSWER_WRONG_VERSION,
    Problem.JOURNAL_UNAVAILABLE,
    Problem.DEADLINE_EXCEEDED,
)
"""What a call may be answered with."""

_HEADERS = {
    BUDGET_HEADER: {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_BUDGET_US,
        "description": "How many microseconds the caller still waits; the smaller of it and the route's deadline holds.",
    },
    BINARY_HEADER: {
        "type": "integer",
        "minimum": 0,
        "description": "How many bytes of the body are JSON, where packed tensors follow.",
    },
}


class InferencePaths:
    """The protocol's paths, for an app to serve. ``find`` knows which of them a request means."""

    def __init__(self, passing: Passing, models: Models, router: Gatekeeper) -> None:
        self._passing = passing
        self._models = models
        self._router = router
        self._server = ServerMetadata("signalyard", release(), _EXTENSIONS)
        self.paths: dict[str, Path] = {
            "/v2": _get(self._describe, "what the server speaks", ServerMetadata),
            "/v2/health/live": _get(self._live, "200 while the process turns", Alive, probe=True),
            "/v2/health/ready": _get(
                self._ready, "200 while the router should get traffic", Ready, Problem.NOT_READY, probe=True
            ),
        }
        for place in (_MODEL, _VERSION):
            self.paths[place] = _get(
                self._metadata,
                "a model's inputs, outputs and versions",
                ModelMetadata,
                Problem.UNKNOWN_MODEL,
                Problem.NOT_READY,
            )
            self.paths[f"{place}/ready"] = _get(
                self._model_ready,
                "200 while some version would answer",
                Ready,
                Problem.UNKNOWN_MODEL,
                Problem.NOT_READY,
                probe=True,
            )
            self.paths[f"{place}/infer"] = Path(
                "POST",
                self._infer,
                "pass an inference call on to a model's track",
                _PROBLEMS,
                headers=_HEADERS,
                body=(InferenceForm,),
                answer=(InferredForm,),
                content=("application/json", "application/octet-stream"),
                oip=True,
            )

    def find(self, path: str) -> str | None:
        """The path in ``paths`` that a request's path is one of."""
        match path.split("/"):
            case ["", "v2", "models", _]:
                return _MODEL
            case ["", "v2", "models", _, "ready" | "infer" as verb]:
                return f"{_MODEL}/{verb}"
            case ["", "v2", "models", _, "versions", _]:
                return _VERSION
            case ["", "v2", "models", _, "versions", _, "ready" | "infer" as verb]:
                return f"{_VERSION}/{verb}"
            case _:
                return None

    async def _infer(self, request: Request) -> Answer:
        left, json_bytes = of_inference(request.headers)
        self._router.admit(request.received, left)
        asked = read_inference(request.body, json_bytes, *_named(request))
        answered = await self._passing.infer(asked, received=request.received, remaining=left)
        body, head = write_inferred(answered.answer, asked, answered.record.id)
        if head is None:
            return Answer(200, b"application/json", body)
        return Answer(200, b"application/octet-stream", body, ((BINARY_HEADER.encode(), b"%d" % head),))

    async def _metadata(self, request: Request) -> Answer:
        return json_answer(self._models.metadata(*_named(request)))

    async def _model_ready(self, request: Request) -> Answer:
        model, version = _named(request)
        if not self._models.ready(model, version):
            raise error(Problem.NOT_READY, f"no endpoint would answer for {model!r} now")
        return json_answer(Ready(ready=True, name=model))

    async def _describe(self, request: Request) -> Answer:
        return json_answer(self._server)

    async def _live(self, request: Request) -> Answer:
        return json_answer(Alive(live=True))

    async def _ready(self, request: Request) -> Answer:
        reasons = self._router.unready()
        if reasons:
            raise error(Problem.NOT_READY, "; ".join(reasons))
        return json_answer(Ready(ready=True))


def _get(handler: Any, summary: str, answer: type, *problems: Problem, probe: bool = False) -> Path:
    return Path(
        "GET",
        handler,
        summary,
        problems,
        answer=(answer,),
        probe=probe,
        oip=True,
    )


def _named(request: Request) -> tuple[str, str | None]:
    """The model and the version that a path names."""
    parts = request.path.split("/")
    return parts[3], parts[5] if len(parts) > 5 else None
