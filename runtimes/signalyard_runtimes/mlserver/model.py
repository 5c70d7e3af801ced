"""What all runtimes share: the inference profile between MLServer's request and a Scorer."""

import math
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse, Parameters, ResponseOutput
from mlserver.utils import to_absolute_path

from signalyard import profile
from signalyard.problems import CallerError, Problem, SignalyardError, error
from signalyard.profile import ScoredRows
from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.drift.watch import WINDOW_SECONDS, DriftWatch
from signalyard_runtimes.features import Matrix, to_values
from signalyard_runtimes.mlserver import budget, drift
from signalyard_runtimes.mlserver.errors import to_mlserver
from signalyard_runtimes.mlserver.metrics import ModelMetrics
from signalyard_runtimes.mlserver.worker import Worker
from signalyard_runtimes.scorer import Scorer, load

TRUST_PARAMETER = "trust"
"""The settings' extra parameter that lists the PEM files of the keys that are trusted."""

DRIFT_PARAMETER = "drift_window"
"""The settings' extra parameter that says over how many seconds drift is watched."""

_INLINE_ROWS = 512
"""A batch of more rows is scored on a thread of its own, so that a lone row need not wait for it. Beside batches of 5,000 rows
of 32 features that brought a lone row's p99 from 35 ms to 13 ms; at 500 rows it gained nothing and cost the batch a third."""


class BundleModel:
    """Mixed in before a class of MLServer's, whose ``load``, ``metadata`` and ``predict`` it replaces."""

    framework: Framework
    settings: Any

    async def load(self) -> bool:
        """Verify and load the bundle. Raises ModelError, because MLServer takes a False for a model that is still loading."""
        if not hasattr(self, "scorer"):  # else it was prepared while the server served others
            self.serve(*self.read())
        if self.drift is not None:
            drift.watch(self.scorer.card, self.drift)
        return True

    def read(self) -> tuple[Scorer, float, float]:
        """Verify and load the bundle, on any thread: what `serve` takes. Raises ModelError."""
        started = perf_counter()
        path = Path(to_absolute_path(self.settings, self.settings.parameters.uri))
        # Of the manifest that the server read: nothing that was put there since is loaded in its stead.
        extra = self.settings.parameters.extra or {}
        scorer = load(path, extra.get(profile.DIGEST_PARAMETER), [Path(key) for key in extra.get(TRUST_PARAMETER, ())])
        asked = (self.framework, self.settings.name, self.settings.parameters.version)
        found = (scorer.framework, scorer.card.model, scorer.card.version)
        if asked != found:
            raise error(Problem.INVALID_SETTING, f"the settings ask for {asked}, the bundle is {found}")
        return scorer, perf_counter() - started, extra.get(DRIFT_PARAMETER, WINDOW_SECONDS)

    def serve(self, scorer: Scorer, load_seconds: float = 0.0, drift_window: float = WINDOW_SECONDS) -> None:
        """Answer with ``scorer`` from now on."""
        self.scorer = scorer
        self.drift = DriftWatch(scorer.histograms, drift_window) if scorer.histograms else None
        self._metrics = ModelMetrics(scorer.card, load_seconds)
        self._worker = Worker(f"score-{scorer.card.model}")

    async def unload(self) -> bool:
        """Let go of the thread, which ends what it has begun for whoever has this model in hand, and of the metrics of drift."""
        if hasattr(self, "_worker"):
            self._worker.end()
            if self.drift is not None:
                drift.forget(self.scorer.card, self.drift)
        return True

    async def metadata(self) -> MetadataModelResponse:
        """The profile's metadata."""
        answer = profile.metadata(self.scorer.card, self.framework)
        return MetadataModelResponse(**msgspec.to_builtins(answer))

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the rows; a row that cannot be scored has its ``row_error``, and changes nothing for the others."""
        try:
            try:
                columns, values = _read(payload)
                wanted = _wanted(payload, self.scorer)
            except SignalyardError as exc:
                self._count(exc)
                raise
            return _response(await self.score(budget.current(), columns, values), wanted)
        except SignalyardError as exc:
            raise to_mlserver(exc) from exc

    def score_row(self, call: budget.Call, columns: tuple[str, ...], row: Sequence[float | None]) -> ScoredRows:
        """Score one row, one value a column, None for missing, and count it. Raises SignalyardError, counted too."""
        try:
            call.check()
            answer = self.scorer.score_row(columns, row)
            if self.drift is not None:
                self.drift.add_row(columns, row, answer.row_error[0])
        except SignalyardError as exc:
            self._count(exc)
            raise
        self._metrics.answered(answer, perf_counter() - call.arrived)
        return answer

    async def score(self, call: budget.Call, columns: tuple[str, ...], values: Matrix) -> ScoredRows:
        """Score ``values`` [rows, len(columns)] and count it. Raises SignalyardError, counted too."""
        try:
            if len(values) <= _INLINE_ROWS:
                answer = self._score(call, columns, values)
            else:
                answer = await self._worker.run(self._score, call, columns, values)
        except SignalyardError as exc:
            self._count(exc)
            raise
        self._metrics.answered(answer, perf_counter() - call.arrived)
        return answer

    def _score(self, call: budget.Call, columns: tuple[str, ...], values: Matrix) -> ScoredRows:
        call.check()
        answer = self.scorer.score_values(columns, values)
        if self.drift is not None:
            self.drift.add(columns, values, answer.row_error)
        return answer

    def _count(self, exc: SignalyardError) -> None:
        self._metrics.erred(exc.problem)
        if exc.problem is Problem.DEADLINE_EXCEEDED:
            self._metrics.expired.inc()
        elif isinstance(exc, CallerError):
            self._metrics.rejected.inc()
        else:
            self._metrics.failed.inc()


def _read(payload: InferenceRequest) -> tuple[tuple[str, ...], Matrix]:
    """The request's columns and values. Raises CallerError."""
    names = [tensor.name for tensor in payload.inputs]
    if names and profile.INPUT not in names:
        return _read_columns(payload)
    if names != [profile.INPUT]:
        raise error(Problem.INVALID_SNAPSHOT, f"must be exactly one, named '{profile.INPUT}', not {names}", "/inputs")
    tensor = payload.inputs[0]
    if tensor.datatype != "FP64":
        raise error(Problem.INVALID_SNAPSHOT, f"must be FP64, not {tensor.datatype}", "/inputs/0/datatype")
    # A client that cannot give a tensor parameters, as Triton's, gives the request's.
    given = getattr(tensor.parameters, profile.COLUMNS_PARAMETER, None)
    if given is None:
        given = getattr(payload.parameters, profile.COLUMNS_PARAMETER, None)
    columns = profile.decode_columns(given)
    shape = list(tensor.shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != len(columns):
        raise error(
            Problem.INVALID_SNAPSHOT,
            f"must be [rows, {len(columns)}] with at least one row, as there are {len(columns)} columns; it is {shape}",
            "/inputs/0/shape",
        )
    data = tensor.data.root
    if not isinstance(data, list):
        raise error(Problem.INVALID_SNAPSHOT, "must be an array", "/inputs/0/data")
    return columns, to_values(data, shape[0], shape[1])


def _read_columns(payload: InferenceRequest) -> tuple[tuple[str, ...], Matrix]:
    """One tensor a feature, as MLServer's clients send a data frame: each names its column. Raises CallerError."""
    columns = tuple(tensor.name for tensor in payload.inputs)
    rows = payload.inputs[0].shape[0] if payload.inputs[0].shape else 0
    values = []
    for index, tensor in enumerate(payload.inputs):
        pointer = f"/inputs/{index}"
        if tensor.datatype != "FP64":
            raise error(Problem.INVALID_SNAPSHOT, f"must be FP64, not {tensor.datatype}", f"{pointer}/datatype")
        if list(tensor.shape) not in ([rows], [rows, 1]) or rows < 1:
            raise error(
                Problem.INVALID_SNAPSHOT,
                f"{tensor.name!r} must be [rows] with at least one row, or the input be '{profile.INPUT}'; it is {list(tensor.shape)}",
                f"{pointer}/shape",
            )
        data = tensor.data.root
        if not isinstance(data, list):
            raise error(Problem.INVALID_SNAPSHOT, "must be an array", f"{pointer}/data")
        try:
            values.append(to_values(data, rows, 1))
        except CallerError as exc:
            details = exc.details
            raise error(details.code, details.detail, (details.pointer or "").replace("/inputs/0", pointer, 1)) from exc
    return columns, np.hstack(values)


def _wanted(payload: InferenceRequest, scorer: Scorer) -> frozenset[str]:
    """The names of the outputs to give: those asked for, all where none is. Raises CallerError."""
    known = scorer.outputs
    names = [output.name for output in payload.outputs or ()]
    for index, name in enumerate(names):
        if name not in known:
            raise error(
                Problem.INVALID_SNAPSHOT,
                f"{name!r} is no output of this model: {', '.join(known)}",
                f"/outputs/{index}/name",
            )
    return frozenset(names or known)


def _response(answer: ScoredRows, wanted: frozenset[str]) -> InferenceResponse:
    outputs = [_numbers(profile.SCORE, answer.score)]
    if answer.confidence is not None:
        outputs.append(_numbers(profile.CONFIDENCE, answer.confidence))
    # MLServer's gRPC form takes bytes; its REST form decodes them.
    texts = [text.encode() for text in answer.row_error]
    outputs.append(ResponseOutput(name=profile.ROW_ERROR, shape=[len(texts)], datatype="BYTES", data=texts))
    return InferenceResponse(
        model_name=answer.model,
        model_version=answer.version,
        parameters=Parameters(**{profile.DIGEST_PARAMETER: answer.digest}),
        outputs=[output for output in outputs if output.name in wanted],
    )


def _numbers(name: str, values: list[float | None]) -> ResponseOutput:
    # NaN, because gRPC has no null; on MLServer's REST form NaN becomes null.
    data = [math.nan if value is None else value for value in values]
    return ResponseOutput(name=name, shape=[len(data)], datatype="FP64", data=data)
