"""What an inference request asks for, and the loaded bundle that answers it."""

import re
from collections.abc import Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import msgspec
import orjson
from mlserver.errors import MLServerError
from mlserver.registry import MultiModelRegistry

from signalyard import profile
from signalyard._server.answer import Answer
from signalyard.problems import SignalyardError
from signalyard.profile import ScoredRows
from signalyard_runtimes.features import Matrix
from signalyard_runtimes.mlserver.budget import Call
from signalyard_runtimes.mlserver.errors import status
from signalyard_runtimes.mlserver.model import BundleModel
from signalyard_runtimes.mlserver.planes import BundlePlane, PlaneMetrics

JSON = b"application/json"
SMALL_BYTES = 16 * 1024
"""A body of more is not looked at for a single row: beside what it takes to read, a task costs nothing."""

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


class Asked(NamedTuple):
    """The model, and the version where the path names one."""

    model: str
    version: str | None


@lru_cache(maxsize=1024)
def asked(path: str) -> Asked | None:
    """What is asked for at ``path``; None where that is no inference."""
    found = _PATH.fullmatch(path)
    return None if found is None else Asked(found[1], found[2])


class Target(msgspec.Struct, frozen=True, gc=False):
    """The bundle that answers a request, and MLServer's metrics of it."""

    model: BundleModel
    metrics: PlaneMetrics

    async def score(self, call: Call, columns: tuple[str, ...], values: Matrix) -> ScoredRows:
        """Score rows and count as MLServer's own path does. Raises SignalyardError."""
        with self.metrics.counting():
            return await self.model.score(call, columns, values)

    def score_row(self, call: Call, columns: tuple[str, ...], row: Sequence[float | None]) -> ScoredRows:
        """The same for one row, without a wait."""
        began = perf_counter()
        try:
            scored = self.model.score_row(call, columns, row)
        except Exception:
            self.metrics.failed(perf_counter() - began)
            raise
        self.metrics.answered(perf_counter() - began)
        return scored


class Targets:
    """Finds bundles in MLServer's registry, at every request anew: what is loaded changes while the server runs."""

    def __init__(self, registry: MultiModelRegistry, plane: BundlePlane) -> None:
        self._registry = registry
        self._plane = plane

    def find(self, asked: Asked) -> Target | None:
        """The bundle, None where there is none that is ready: MLServer's path says why."""
        try:
            # What the registry's own look-up does, which is a coroutine and never waits.
            model = self._registry._get_model_registry(asked.model)._find_model(asked.version)
        except MLServerError:
            return None
        if model is None or not model.ready or not isinstance(model, BundleModel):
            return None
        return Target(model, self._plane.metrics(asked))


class Lookup(Protocol):
    """Who finds the bundle that a request asks for."""

    def find(self, asked: Asked) -> Target | None:
        """The bundle, None where there is none."""
        ...


class Alone:
    """A bundle that nobody else finds, because it is being prepared."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def find(self, asked: Asked) -> Target | None:
        """The one bundle, whatever is asked for."""
        return self._target


def request_id(given: str | None) -> str:
    """The caller's id, else one of our own."""
    return str(uuid4()) if given is None else given


def scored_body(answer: ScoredRows, given_id: str | None) -> dict[str, Any]:
    """The answer in the order of MLServer's fields, so that its bytes are the same."""
    rows = [len(answer.row_error)]
    outputs = [{"name": profile.SCORE, "shape": rows, "datatype": "FP64", "data": answer.score}]
    if answer.confidence is not None:
        outputs.append({"name": profile.CONFIDENCE, "shape": rows, "datatype": "FP64", "data": answer.confidence})
    outputs.append({"name": profile.ROW_ERROR, "shape": rows, "datatype": "BYTES", "data": answer.row_error})
    return {
        "model_name": answer.model,
        "model_version": answer.version,
        "id": request_id(given_id),
        "parameters": {profile.DIGEST_PARAMETER: answer.digest},
        "outputs": outputs,
    }


def error_answer(exc: SignalyardError) -> Answer:
    """An error in the protocol's form."""
    return Answer(status(exc.problem), JSON, orjson.dumps({"error": str(exc)}))
