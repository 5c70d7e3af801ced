"""TensorFlow, from a SavedModel folder that packing has made one file of."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle.folder import unfold
from signalyard_runtimes.engines.output import is_one_score, one_score, wanted
from signalyard_runtimes.features import Matrix, Vector

# They are read when TensorFlow is imported and first used. Without the last, every start tells of instruction sets and absent GPUs.
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

_SIGNATURE = "serving_default"


class TensorFlowEngine:
    """The signature ``serving_default`` of a SavedModel: one tensor [rows, features] to one of scores."""

    def __init__(self, model: Any, source: Any, output: str) -> None:
        self._model = model  # its variables live as long as it does
        self._serve = model.signatures[_SIGNATURE]
        self._input = source.name
        self._dtype = source.dtype
        self._features = int(source.shape[1])
        self._output = output

    @property
    def features(self) -> int:
        """Their number: a tensor has no names."""
        return self._features

    def score(self, matrix: Matrix) -> Vector:
        """What the signature's only output gives."""
        if not len(matrix):
            return np.empty(0)
        answer = self._serve(**{self._input: tf.constant(matrix, dtype=self._dtype)})
        return one_score(answer[self._output].numpy(), len(matrix))


def load(artifact: bytes) -> TensorFlowEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
    with tempfile.TemporaryDirectory(prefix="signalyard-saved-model-") as folder:
        try:
            unfold(artifact, Path(folder))
            model = tf.saved_model.load(folder)
        except Exception as exc:  # reading a graph raises what each of its operations does
            raise _invalid(f"not a SavedModel: {type(exc).__name__}: {exc}") from exc
    if _SIGNATURE not in model.signatures:
        raise _invalid(f"it must have the signature {_SIGNATURE}; it has {', '.join(model.signatures) or 'none'}")
    serve = model.signatures[_SIGNATURE]
    inputs = list(serve.structured_input_signature[1].values())
    if len(inputs) != 1 or inputs[0].dtype not in (tf.float32, tf.float64) or not _is_matrix(inputs[0].shape):
        raise _invalid(f"{_SIGNATURE} must take one tensor of floats [any, features]; it takes {inputs}")
    outputs = serve.structured_outputs
    if len(outputs) != 1:
        raise _invalid(f"{_SIGNATURE} must give one output; it gives {', '.join(outputs)}")
    (output,) = outputs
    if not is_one_score(outputs[output].shape.as_list()):
        raise _invalid(f"{_SIGNATURE} gives {outputs[output].shape.as_list()}; {wanted()}")
    return TensorFlowEngine(model, inputs[0], output)


def _is_matrix(shape: Any) -> bool:
    return shape.rank == 2 and shape[0] is None and shape[1] is not None


def _invalid(detail: str) -> SignalyardError:
    return error(Problem.BUNDLE_ARTIFACT_INVALID, detail, "/artifact")
