"""What the two forms of PyTorch models share: one thread, the model's own number type, its features' names beside it.

A module knows no names. Its maker may save them with it, as the extra file ``features``: a JSON array, in the order of the columns.
"""

from typing import Any

import msgspec
import numpy as np
import torch

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.engines.output import one_score
from signalyard_runtimes.features import Matrix, Vector

FEATURES_FILE = "features"
"""The extra file that holds the names."""


class TorchEngine:
    """A module that takes one tensor [rows, features] and gives one."""

    def __init__(self, module: Any, features: tuple[str, ...] | int | None) -> None:
        self.module = module
        self.features = features
        """Names where they were saved with it, else their number where the form tells it."""
        self._dtype = next((item.dtype for item in _tensors(module) if item.is_floating_point()), torch.float64)

    def score(self, matrix: Matrix) -> Vector:
        """What the module gives, computed in the number type of its parameters."""
        if not len(matrix):
            return np.empty(0)
        with torch.inference_mode():
            scores = self.module(torch.tensor(matrix, dtype=self._dtype))
        return one_score(scores.to(torch.float64).numpy(), len(matrix))


def single_thread() -> None:
    """PyTorch's pools are the process's; the second of them can be set only before its first use."""
    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def names(text: str | bytes) -> tuple[str, ...] | None:
    """The names in an extra file, None where there is none. Raises ModelError (bundle_artifact_invalid)."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError as exc:
        raise invalid(f"its extra file {FEATURES_FILE!r} must be a JSON array of names: {exc}") from exc


def invalid(detail: str) -> SignalyardError:
    """The error for a file that is no model, or none that can be served."""
    return error(Problem.BUNDLE_ARTIFACT_INVALID, detail, "/artifact")


def _tensors(module: Any) -> Any:
    yield from module.parameters()
    yield from module.buffers()
