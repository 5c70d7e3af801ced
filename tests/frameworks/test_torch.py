"""The engines of PyTorch's two forms."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engines.suite import EngineSuite, Trial, golden, rows, spec
from tests.pages.frameworks import follow

from signalyard.problems import ModelError, Problem
from signalyard_runtimes import engines
from signalyard_runtimes.packing import pack


class Net(torch.nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        torch.manual_seed(features)
        self.layers = torch.nn.Sequential(torch.nn.Linear(features, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.layers(x)).squeeze(-1)


def scripted(model: Any, names: list[str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # PyTorch says that it is deprecated; there are models of it.
        warnings.filterwarnings("ignore", message="`?torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message="`?torch.jit", category=DeprecationWarning)
        torch.jit.save(
            torch.jit.script(model), buffer, _extra_files={} if names is None else {"features": json.dumps(names)}
        )
    return buffer.getvalue()


def exported(model: Any, features: int, names: list[str] | None = None, *, fixed: bool = False) -> bytes:
    program = torch.export.export(
        model, (torch.randn(4, features),), dynamic_shapes=None if fixed else ({0: torch.export.Dim("rows")},)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={} if names is None else {"features": json.dumps(names)})
    return buffer.getvalue()


def own(model: Any) -> Any:
    def score(matrix: Any) -> Any:
        with torch.inference_mode():
            return model(torch.tensor(matrix, dtype=torch.float32)).numpy()

    return score


class TestTorchScript(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        model = Net(2).eval()
        wider = scripted(Net(3).eval(), ["close", "ret_5", "volume"])
        return Trial("torchscript", scripted(model, ["close", "ret_5"]), wider, own(model))


class TestTorchExport(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        model = Net(2).eval()
        return Trial("torch-export", exported(model, 2), exported(Net(3).eval(), 3), own(model))


def test_names_that_were_saved_with_it_must_be_the_schemas(tmp_path: Any) -> None:
    for framework, artifact in (
        ("torchscript", scripted(Net(2).eval(), ["ret_5", "close"])),
        ("torch-export", exported(Net(2).eval(), 2, ["ret_5", "close"])),
    ):
        with pytest.raises(ModelError, match="the model's feature 0 is 'ret_5', the schema's is 'close'"):
            pack(spec(framework), artifact, golden(), tmp_path / "bundle")
    with pytest.raises(ModelError, match="must be a JSON array of names"):
        engines.load("torch-export", exported(Net(2).eval(), 2, {"close": 1}))


def test_torchscript_without_names_is_judged_by_its_golden_rows(tmp_path: Any) -> None:
    assert engines.load("torchscript", scripted(Net(2).eval())).features is None
    pack(spec("torchscript"), scripted(Net(2).eval()), golden(), tmp_path / "good")
    with pytest.raises(ModelError, match="shapes cannot be multiplied") as caught:
        pack(spec("torchscript"), scripted(Net(3).eval()), golden(), tmp_path / "bundle")
    assert caught.value.problem is Problem.MODEL_FAILED


def test_what_was_exported_for_one_number_of_rows_is_refused() -> None:
    with pytest.raises(ModelError, match="exported for 4 rows alone: give dynamic_shapes") as caught:
        engines.load("torch-export", exported(Net(2).eval(), 2, fixed=True))
    assert caught.value.problem is Problem.BUNDLE_ARTIFACT_INVALID


def test_dropout_is_off_and_the_numbers_are_the_models_own() -> None:
    model = torch.nn.Sequential(Net(2), torch.nn.Dropout(0.9)).double()
    engine = engines.load("torchscript", scripted(model))
    matrix = rows(20)
    with torch.inference_mode():
        np.testing.assert_array_equal(engine.score(matrix), model.eval()(torch.tensor(matrix)).numpy())


def test_one_thread() -> None:
    engines.load("torchscript", scripted(Net(2).eval()))
    assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (1, 1)


@pytest.mark.filterwarnings("ignore:`?torch.jit:FutureWarning", "ignore:`?torch.jit:DeprecationWarning")
@pytest.mark.parametrize("framework", ["torch-export", "torchscript"])
def test_an_example_of_the_page(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follow(framework)
