"""PyTorch, from what ``torch.export.save`` wrote: a graph of one module, ``model.pt2``."""

import io
from typing import Any

import torch

from signalyard_runtimes.engines.torch import FEATURES_FILE, TorchEngine, invalid, names, single_thread


def load(artifact: bytes) -> TorchEngine:
    """Raises ModelError (bundle_artifact_invalid), also where it was exported for one number of rows alone."""
    single_thread()
    extra = {FEATURES_FILE: ""}
    try:
        program = torch.export.load(io.BytesIO(artifact), extra_files=extra)
    except Exception as exc:  # it reads a zip of JSON and weights, and raises what each of them does
        raise invalid(f"not a model in the form of torch.export: {type(exc).__name__}: {exc}") from exc
    shape = _input_shape(program)
    if isinstance(shape[0], int):
        raise invalid(
            f"it was exported for {shape[0]} rows alone: give dynamic_shapes, with torch.export.Dim for the first dimension"
        )
    found = names(extra[FEATURES_FILE])
    return TorchEngine(program.module(), found if found is not None else shape[1])


def _input_shape(program: Any) -> tuple[object, Any]:
    inputs = set(program.graph_signature.user_inputs)
    shapes = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise invalid(f"it must take one tensor [rows, features]; it takes {len(shapes)}, of the shapes {shapes}")
    return shapes[0]
