"""ONNX, by ONNX Runtime: preprocessing and model in one graph."""

from typing import Any

import numpy as np
import onnxruntime as ort

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.engines.output import is_one_score, one_score, wanted
from signalyard_runtimes.features import Matrix, Vector

_INPUTS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_SCORES = ("score", "probabilities")
_NOWHERE = "/nonexistent"


class OnnxEngine:
    """A graph with one input of [rows, features]."""

    def __init__(self, session: ort.InferenceSession, output: str) -> None:
        self.session = session
        source = session.get_inputs()[0]
        self._input = source.name
        self._dtype = _INPUTS[source.type]
        self._features = int(source.shape[1])
        self._outputs = [output]

    @property
    def features(self) -> int:
        """Their number: a tensor has no names."""
        return self._features

    def score(self, matrix: Matrix) -> Vector:
        """What the output ``score`` or ``probabilities`` gives, or the only one."""
        if not len(matrix):
            return np.empty(0)
        (scores,) = self.session.run(self._outputs, {self._input: matrix.astype(self._dtype, copy=False)})
        return one_score(scores, len(matrix))


def load(artifact: bytes) -> OnnxEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised, too
    # Weights in files beside the model would be weights that no digest covers.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        session = ort.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its exceptions have no parent of their own
        raise _invalid(f"ONNX Runtime cannot load it: {exc}") from exc
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _INPUTS:
        found = ", ".join(f"{item.name} {item.type}" for item in inputs)
        raise _invalid(f"it must have one input, tensor(float) or tensor(double), of all features; it has {found}")
    rows, *rest = inputs[0].shape
    if len(rest) != 1 or not isinstance(rest[0], int) or isinstance(rows, int):
        raise _invalid(f"its input must have the shape [any, features], it has {inputs[0].shape}")
    return OnnxEngine(session, _output(session.get_outputs()))


def _output(outputs: list[Any]) -> str:
    named = {item.name: item for item in outputs}
    chosen = outputs[0] if len(outputs) == 1 else next((named[name] for name in _SCORES if name in named), None)
    if chosen is None:
        raise _invalid(f"of several outputs one must be named score or probabilities; they are {', '.join(named)}")
    if chosen.type not in _INPUTS:
        raise _invalid(
            f"its output {chosen.name} is {chosen.type}, not a tensor of numbers (skl2onnx: options={{'zipmap': False}})"
        )
    if not is_one_score(chosen.shape):
        raise _invalid(f"its output {chosen.name} has the shape {chosen.shape}; {wanted()}")
    return str(chosen.name)


def _invalid(detail: str) -> SignalyardError:
    return error(Problem.BUNDLE_ARTIFACT_INVALID, detail, "/artifact")
