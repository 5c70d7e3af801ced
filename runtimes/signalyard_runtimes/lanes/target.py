"""What an inference request asks for, and the loaded bundle that answers it."""

import re
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple
from uuid import uuid4

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


class Target(NamedTuple):
    """The bundle that answers a request, and MLServer's metrics of it."""

    model: BundleModel
    metrics: PlaneMetrics

    async def score(self, call: Call, columns: tuple[str, ...], values: Matrix) -> ScoredRows:
        """Score rows and count as MLServer's own path does. Raises SignalyardError."""
        began = perf_counter()
        try:
            scored = await self.model.score(call, columns, values)
        except BaseException:
            self.metrics.failure.inc()
            raise
        else:
            self.metrics.success.inc()
            return scored
        finally:
            self.metrics.seconds.observe(perf_counter() - began)


class Targets:
    """Finds bundles in MLServer's registry, at every request anew: what is loaded changes while the server runs."""

    def __init__(self, registry: MultiModelRegistry, plane: BundlePlane) -> None:
        self._registry = registry
        self._plane = plane

    async def find(self, asked: Asked) -> Target | None:
        """The bundle, None where there is none that is ready: MLServer's path says why."""
        try:
            model = await self._registry.get_model(*asked)
        except MLServerError:
            return None
        if not model.ready or not isinstance(model, BundleModel):
            return None
        return Target(model, self._plane.metrics(*asked))


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
