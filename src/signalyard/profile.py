"""The inference profile: the only contract between the router and the runtimes.

On top of the Open Inference Protocol it fixes names, shapes and meanings.

Request: one FP64 input ``features`` of shape [rows, k], flat and row-major; its parameter ``columns`` is a JSON array of the
k feature names (a string, because the protocol's gRPC form carries no lists); a client that can give a tensor no parameters may
give it as the request's. ``null`` or NaN means "missing".

Response: ``score`` FP64 [rows]; ``confidence`` FP64 [rows] if the model is calibrated; ``row_error`` BYTES [rows], empty where
the row is good. A bad row's score and confidence are ``null``. ``model_version`` is always there, and so is the response's
parameter ``digest``.

Metadata: the input ``features`` carries the string parameters ``digest``, ``calibrated`` ("true" or "false") and ``schema``, a
FeatureSchema as JSON.

The header ``signalyard-budget-us`` (gRPC: the call's own timeout) says how many microseconds the caller still waits; a
server drops work whose budget has run out, unscored, with HTTP 504.

The files in ``golden/`` are this contract as bytes; the tests of both halves read them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from signalyard import oip
from signalyard._remembering import remembered
from signalyard.problems import Problem, error

INPUT = "features"
SCORE = "score"
CONFIDENCE = "confidence"
ROW_ERROR = "row_error"
COLUMNS_PARAMETER = "columns"
DIGEST_PARAMETER = "digest"
SCHEMA_PARAMETER = "schema"
CALIBRATED_PARAMETER = "calibrated"


class Feature(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel"
):
    """One column of a model's input.

    ``minimum`` and ``maximum`` are inclusive. ``missing`` says what a missing value means: ``refuse`` it, let the model
    handle it (``native``), or put ``fill`` in its place (``impute``).
    """

    name: str
    dtype: Literal["float64", "int64", "bool"] = "float64"
    minimum: float | None = None
    maximum: float | None = None
    missing: Literal["refuse", "native", "impute"] = "refuse"
    fill: float | None = None


class FeatureSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of a model's input, in the order in which the model takes them."""

    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in order."""
        return tuple(feature.name for feature in self.features)


class ScoredRows(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A model's answer, one entry a row: ``score[i]`` and ``confidence[i]`` are None where ``row_error[i]`` is not empty;
    ``confidence`` is None as a whole for an uncalibrated model."""

    model: str
    version: str
    digest: str
    score: list[float | None]
    confidence: list[float | None] | None
    row_error: list[str]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What the router learns of one version of a model from its server."""

    model: str
    version: str
    digest: str
    calibrated: bool
    schema: FeatureSchema


# What a decoder raises on arbitrary bytes: its own error and, for text that is not UTF-8, Python's (both are ValueErrors),
# and RecursionError for values nested too deeply.
_UNREADABLE = (ValueError, RecursionError)

_encoder = msgspec.json.Encoder()
_response_decoder = msgspec.json.Decoder(oip.InferResponse)
_metadata_decoder = msgspec.json.Decoder(oip.ModelMetadata)
_schema_decoder = msgspec.json.Decoder(FeatureSchema)
_columns_decoder = msgspec.json.Decoder(tuple[str, ...])


@lru_cache(maxsize=1024)
def _columns_text(columns: tuple[str, ...]) -> str:
    return _encoder.encode(columns).decode()


@remembered(longest=65_536, most=1024)
def _columns_from(text: str) -> tuple[str, ...]:
    return _columns_decoder.decode(text)


def encode_request(request_id: str, columns: tuple[str, ...], rows: Sequence[Sequence[float | None]]) -> bytes:
    """The body of a scoring call: ``rows`` of shape [rows, len(columns)], None or NaN for missing."""
    data: list[float | None] = [value for row in rows for value in row]  # msgspec writes NaN as null
    tensor = oip.InferInput(
        name=INPUT,
        shape=[len(rows), len(columns)],
        datatype="FP64",
        parameters={COLUMNS_PARAMETER: _columns_text(columns)},
        data=data,
    )
    return _encoder.encode(oip.InferRequest(id=request_id, inputs=[tensor]))


def decode_columns(text: object) -> tuple[str, ...]:
    """The names in a request's ``columns`` parameter.

    Raises CallerError (invalid_snapshot) where it is not a JSON array of strings, (duplicate_feature) where a name repeats.
    """
    pointer = f"/inputs/0/parameters/{COLUMNS_PARAMETER}"
    if not isinstance(text, str):
        raise error(
            Problem.INVALID_SNAPSHOT, "the parameter 'columns' must be a string holding a JSON array of names", pointer
        )
    try:
        columns = _columns_from(text)
    except _UNREADABLE as exc:
        raise error(
            Problem.INVALID_SNAPSHOT, f"the parameter 'columns' is not a JSON array of names: {exc}", pointer
        ) from exc
    if len(set(columns)) != len(columns):
        twice = next(name for index, name in enumerate(columns) if name in columns[:index])
        raise error(Problem.DUPLICATE_FEATURE, f"the feature {twice!r} is given twice", pointer)
    return columns


def decode_response(body: bytes, *, request_id: str, model: str, version: str, rows: int) -> ScoredRows:
    """Read and check a model server's answer against the request that it claims to answer.

    Raises ModelError: model_answer_malformed, _wrong_id, _wrong_version, _wrong_shape or _not_finite.
    """
    try:
        response = _response_decoder.decode(body)
    except _UNREADABLE as exc:
        raise error(Problem.MODEL_ANSWER_MALFORMED, f"not an inference response: {exc}") from exc
    if response.id != request_id:
        raise error(Problem.MODEL_ANSWER_WRONG_ID, f"asked as {request_id!r}, answered as {_shown(response.id)}", "/id")
    if response.model_name != model or response.model_version != version:
        raise error(
            Problem.MODEL_ANSWER_WRONG_VERSION,
            f"asked for {model} {version}, answered by {_shown(response.model_name)} {_shown(response.model_version)}",
            "/model_version",
        )
    tensors = {tensor.name: tensor for tensor in response.outputs}
    score = _numbers(tensors.get(SCORE), SCORE, rows)
    confidence = _numbers(tensors[CONFIDENCE], CONFIDENCE, rows) if CONFIDENCE in tensors else None
    row_error = [""] * rows
    if ROW_ERROR in tensors:
        row_error = tensors[ROW_ERROR].data
        if len(row_error) != rows or not all(isinstance(item, str) for item in row_error):
            raise error(
                Problem.MODEL_ANSWER_WRONG_SHAPE, f"'{ROW_ERROR}' must hold {rows} strings", f"/outputs/{ROW_ERROR}"
            )
    for index, text in enumerate(row_error):
        if text:
            continue
        if score[index] is None:
            raise error(
                Problem.MODEL_ANSWER_NOT_FINITE,
                f"row {index} is good and has no score",
                f"/outputs/{SCORE}/data/{index}",
            )
        if confidence is not None:
            value = confidence[index]
            if value is None or not 0.0 <= value <= 1.0:
                raise error(
                    Problem.MODEL_ANSWER_NOT_FINITE,
                    f"row {index}: a confidence lies between 0 and 1, this one is {value}",
                    f"/outputs/{CONFIDENCE}/data/{index}",
                )
    digest = (response.parameters or {}).get(DIGEST_PARAMETER)
    if not isinstance(digest, str) or not digest:
        raise error(
            Problem.MODEL_ANSWER_MALFORMED, "the parameter 'digest' must be a string", f"/parameters/{DIGEST_PARAMETER}"
        )
    return ScoredRows(
        model=model, version=version, digest=digest, score=score, confidence=confidence, row_error=row_error
    )


def _shown(value: object) -> str:
    """A peer's value as a message shows it: an answer of megabytes must not become a message of megabytes."""
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _numbers(tensor: oip.InferOutput | None, name: str, rows: int) -> list[float | None]:
    if tensor is None:
        raise error(Problem.MODEL_ANSWER_WRONG_SHAPE, f"the output '{name}' is missing", "/outputs")
    pointer = f"/outputs/{name}"
    if tensor.datatype != "FP64" or len(tensor.data) != rows or tensor.shape not in ([rows], [rows, 1]):
        raise error(
            Problem.MODEL_ANSWER_WRONG_SHAPE,
            f"'{name}' must be FP64 [{rows}], it is {_shown(tensor.datatype)} {_shown(tensor.shape)} with {len(tensor.data)} values",
            pointer,
        )
    values: list[float | None] = tensor.data
    for index, value in enumerate(values):
        if value is None or type(value) is float:
            continue
        # bool is an int to isinstance, and no score
        if type(value) is not int:
            raise error(
                Problem.MODEL_ANSWER_MALFORMED,
                f"'{name}' must hold numbers, it holds a {type(value).__name__}",
                f"{pointer}/data/{index}",
            )
        try:
            values[index] = float(value)
        except OverflowError as exc:
            raise error(
                Problem.MODEL_ANSWER_NOT_FINITE,
                f"'{name}' holds a whole number that no FP64 can hold",
                f"{pointer}/data/{index}",
            ) from exc
    return values


def encode_response(answer: ScoredRows, request_id: str | None) -> bytes:
    """The body that a runtime answers; the golden files and the tests' model servers are made by it."""
    rows = len(answer.score)
    outputs = [oip.InferOutput(name=SCORE, shape=[rows], datatype="FP64", data=answer.score)]
    if answer.confidence is not None:
        outputs.append(oip.InferOutput(name=CONFIDENCE, shape=[rows], datatype="FP64", data=answer.confidence))
    outputs.append(oip.InferOutput(name=ROW_ERROR, shape=[rows], datatype="BYTES", data=answer.row_error))
    return _encoder.encode(
        oip.InferResponse(
            model_name=answer.model,
            model_version=answer.version,
            id=request_id,
            parameters={DIGEST_PARAMETER: answer.digest},
            outputs=outputs,
        )
    )


def schema_parameters(card: ModelCard) -> dict[str, str]:
    """The parameters of the input ``features`` in a model's metadata."""
    return {
        DIGEST_PARAMETER: card.digest,
        CALIBRATED_PARAMETER: "true" if card.calibrated else "false",
        SCHEMA_PARAMETER: _encoder.encode(card.schema).decode(),
    }


def metadata(card: ModelCard, platform: str) -> oip.ModelMetadata:
    """A model's metadata as its server answers it."""
    outputs = [oip.MetadataTensor(name=SCORE, datatype="FP64", shape=[-1])]
    if card.calibrated:
        outputs.append(oip.MetadataTensor(name=CONFIDENCE, datatype="FP64", shape=[-1]))
    outputs.append(oip.MetadataTensor(name=ROW_ERROR, datatype="BYTES", shape=[-1]))
    return oip.ModelMetadata(
        name=card.model,
        versions=[card.version],
        platform=platform,
        inputs=[
            oip.MetadataTensor(
                name=INPUT,
                datatype="FP64",
                shape=[-1, len(card.schema.features)],
                parameters=dict(schema_parameters(card)),
            )
        ],
        outputs=outputs,
    )


def decode_metadata(body: bytes, *, model: str, version: str | None = None) -> ModelCard:
    """Read a model's metadata, of ``version`` or, where none was asked for, of the version that it names first.

    Raises ModelError: model_answer_malformed where it is not of this profile, model_answer_wrong_version where it speaks of
    another model.
    """
    try:
        answer = _metadata_decoder.decode(body)
        tensor = next((item for item in answer.inputs or [] if item.name == INPUT), None)
        if tensor is None or not tensor.parameters:
            raise error(
                Problem.MODEL_ANSWER_MALFORMED, f"the metadata describes no input '{INPUT}' of this profile", "/inputs"
            )
        parameters = tensor.parameters
        schema = _schema_decoder.decode(str(parameters.get(SCHEMA_PARAMETER, "")))
    except _UNREADABLE as exc:
        raise error(Problem.MODEL_ANSWER_MALFORMED, f"not the metadata of a model of this profile: {exc}") from exc
    if answer.name != model:
        raise error(
            Problem.MODEL_ANSWER_WRONG_VERSION, f"asked for {model}, the metadata is of {_shown(answer.name)}", "/name"
        )
    if version is None:
        if not answer.versions:
            raise error(Problem.MODEL_ANSWER_MALFORMED, "the metadata names no version", "/versions")
        version = answer.versions[0]
    if len(set(schema.names)) != len(schema.names):
        raise error(
            Problem.MODEL_ANSWER_MALFORMED,
            "the schema names a feature twice",
            f"/inputs/0/parameters/{SCHEMA_PARAMETER}",
        )
    digest = parameters.get(DIGEST_PARAMETER)
    if not isinstance(digest, str) or not digest:
        raise error(
            Problem.MODEL_ANSWER_MALFORMED, "the metadata has no digest", f"/inputs/0/parameters/{DIGEST_PARAMETER}"
        )
    return ModelCard(
        model=model,
        version=version,
        digest=digest,
        calibrated=parameters.get(CALIBRATED_PARAMETER) == "true",
        schema=schema,
    )
