"""The Open Inference Protocol (v2), REST form, as far as the inference profile and its passthrough use it.

Source: the protocol's definition at https://github.com/kserve/open-inference-protocol (inference_rest). Unknown fields
are ignored on reading, as the protocol asks of extensions.
"""

from typing import Any

import msgspec


class InferInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A request tensor; ``data`` flat in row-major order, or nested."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class InferOutput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A response tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The body of ``POST /v2/models/{name}/versions/{version}/infer``."""

    inputs: list[InferInput]
    id: str = ""
    parameters: dict[str, Any] = {}


class InferResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The answer to an inference request."""

    model_name: str
    outputs: list[InferOutput]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


class MetadataTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tensor as a model's metadata describes it; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of ``GET /v2/models/{name}/versions/{version}``."""

    name: str
    platform: str = ""
    versions: list[str] | None = None
    inputs: list[MetadataTensor] | None = None
    outputs: list[MetadataTensor] | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of an error."""

    error: str
