"""One suite for all engines. A framework's own test makes a `Trial` and inherits the tests.

The model of a trial takes two features, and gives one score a row. What it must give is asked of the framework itself.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mlserver.registry import MultiModelRegistry
from mlserver.types import InferenceRequest, Parameters, RequestInput
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler

from signalyard.problems import ModelError, Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes import inline
from signalyard_runtimes.bundle.digest import bundle_digest, file_entry
from signalyard_runtimes.bundle.manifest import (
    Bin,
    Clip,
    Framework,
    GoldenRows,
    Impute,
    Moments,
    Output,
    Standardise,
    Step,
)
from signalyard_runtimes.mlserver.planes import model_settings
from signalyard_runtimes.packing import PackSpec, pack
from signalyard_runtimes.scorer import load

NAMES = ("close", "ret_5")


@dataclass(frozen=True)
class Trial:
    """A model of one framework. ``expected`` gives the framework's own scores of [rows, 2]; ``wider`` is a model of three features."""

    framework: Framework
    artifact: bytes
    wider: bytes
    expected: Callable[[Any], Any]


def training() -> tuple[Any, Any]:
    """300 rows of two features, and whether the price rose."""
    random = np.random.default_rng(7)
    features = np.column_stack((random.normal(0, 1, 300), random.normal(size=300)))
    return features, (features[:, 1] + 0.5 * random.normal(size=300) > 0).astype(int)


def rows(count: int) -> Any:
    return np.random.default_rng(count).normal(size=(count, len(NAMES)))


def spec(framework: Framework, *steps: Step, missing: Any = "refuse") -> PackSpec:
    return PackSpec(
        name="rb-trend",
        version="7",
        framework=framework,
        schema=FeatureSchema(features=tuple(Feature(name=name, missing=missing) for name in NAMES)),
        preprocessing=steps,
        output=Output(kind="probability", neutral=0.5),
    )


def golden(count: int = 7) -> GoldenRows:
    return GoldenRows(columns=NAMES, rows=tuple(map(tuple, rows(count).tolist())))


class EngineSuite:
    """Inherited by a class for each framework, which has a fixture ``trial``."""

    @pytest.mark.parametrize("count", [1, 2, 7, 600])
    def test_the_scores_are_the_frameworks_own(self, trial: Trial, tmp_path: Path, count: int) -> None:
        pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "bundle")
        matrix = rows(count)
        answer = load(tmp_path / "bundle").score_values(NAMES, matrix)
        assert answer.row_error == [""] * count
        np.testing.assert_array_equal(answer.score, np.asarray(trial.expected(matrix), dtype=np.float64).reshape(count))

    def test_the_same_model_makes_the_same_bundle(self, trial: Trial, tmp_path: Path) -> None:
        one, two = (pack(spec(trial.framework), trial.artifact, golden(), tmp_path / name) for name in ("one", "two"))
        assert one == two
        assert one.library

    def test_mlservers_model_serves_it(self, trial: Trial, tmp_path: Path) -> None:
        manifest = pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "bundle")
        matrix = rows(3)
        request = InferenceRequest(
            inputs=[
                RequestInput(
                    name="features",
                    shape=[3, len(NAMES)],
                    datatype="FP64",
                    data=matrix.ravel().tolist(),
                    parameters=Parameters(columns=json.dumps(NAMES)),
                )
            ]
        )

        async def ask() -> Any:
            model = await MultiModelRegistry().load(model_settings(tmp_path / "bundle", manifest))
            try:
                return await model.metadata(), await model.predict(request)
            finally:
                await model.unload()

        metadata, answer = asyncio.run(ask())
        assert metadata.platform == trial.framework
        np.testing.assert_array_equal(
            answer.outputs[0].data.root, load(tmp_path / "bundle").score_values(NAMES, matrix).score
        )

    def test_in_process_a_row_gets_its_score(self, trial: Trial, tmp_path: Path) -> None:
        pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "bundle")
        model = inline.load(tmp_path / "bundle")
        matrix = rows(5)
        for row in matrix:
            assert model.score(row) == float(np.asarray(trial.expected(row[None]), dtype=np.float64).reshape(1)[0])

    @pytest.mark.parametrize("part", [0.5, 0.0, 0.999])
    def test_a_file_that_was_cut_off(self, trial: Trial, tmp_path: Path, part: float) -> None:
        with pytest.raises(ModelError) as caught:
            pack(
                spec(trial.framework), trial.artifact[: int(len(trial.artifact) * part)], golden(), tmp_path / "bundle"
            )
        assert caught.value.problem is Problem.BUNDLE_ARTIFACT_INVALID
        assert not (tmp_path / "bundle").exists()

    def test_other_features_than_the_manifests(self, trial: Trial, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="the model takes 3 features, the schema has 2") as caught:
            pack(spec(trial.framework), trial.wider, golden(), tmp_path / "bundle")
        assert (caught.value.problem, caught.value.pointer) == (Problem.BUNDLE_ARTIFACT_INVALID, "/schema/features")

    def test_a_golden_row_that_is_off_by_a_thousandth(self, trial: Trial, tmp_path: Path) -> None:
        pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "bundle")
        _edit_golden(
            tmp_path / "bundle", lambda remembered: remembered["score"].__setitem__(2, remembered["score"][2] + 1e-3)
        )
        with pytest.raises(ModelError, match="the golden row 2 must have the score") as caught:
            load(tmp_path / "bundle")
        assert caught.value.problem is Problem.BUNDLE_GOLDEN_MISMATCH

    def test_declared_steps_in_front_of_it_are_scikit_learns_own(self, trial: Trial, tmp_path: Path) -> None:
        known, _ = training()
        known = known.copy()
        known[::9, 1] = np.nan
        impute = SimpleImputer().fit(known)
        low, high = np.array([-1.0, -2.0]), np.array([1.5, 2.0])
        clip = FunctionTransformer(lambda matrix: np.clip(matrix, low, high))
        scale = StandardScaler().fit(clip.transform(impute.transform(known)))
        middle = scale.transform(clip.transform(impute.transform(known)))
        bins = KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf").fit(middle[:, 1:])
        steps: tuple[Step, ...] = (
            Impute(values=dict(zip(NAMES, impute.statistics_.tolist(), strict=True))),
            Clip(bounds={name: (float(low[at]), float(high[at])) for at, name in enumerate(NAMES)}),
            Standardise(
                moments={
                    name: Moments(mean=float(scale.mean_[at]), scale=float(scale.scale_[at]))
                    for at, name in enumerate(NAMES)
                }
            ),
            Bin(edges={"ret_5": tuple(bins.bin_edges_[0][1:-1].tolist())}),
        )
        pack(spec(trial.framework, *steps, missing="native"), trial.artifact, golden(), tmp_path / "bundle")
        matrix = rows(40)
        matrix[::3, 0], matrix[1::5, 1] = np.nan, np.nan
        prepared = scale.transform(clip.transform(impute.transform(matrix)))
        prepared[:, 1:] = bins.transform(prepared[:, 1:])
        answer = load(tmp_path / "bundle").score_values(NAMES, matrix)
        np.testing.assert_array_equal(answer.score, np.asarray(trial.expected(prepared), dtype=np.float64).reshape(40))

    def test_scoring_starts_no_thread(self, trial: Trial, tmp_path: Path) -> None:
        # The threads themselves, not their number: idle ones of what other tests used may end meanwhile.
        before = set(os.listdir("/proc/self/task"))
        pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "bundle")
        load(tmp_path / "bundle").score_values(NAMES, rows(5000))
        assert set(os.listdir("/proc/self/task")) - before == set()


def _edit_golden(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As somebody would who can make a bundle consistent again."""
    remembered = json.loads((bundle / "golden.json").read_bytes())
    change(remembered)
    body = json.dumps(remembered).encode()
    (bundle / "golden.json").write_bytes(body)
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"]["golden.json"] = msgspec.to_builtins(file_entry(body))
    manifest["digest"] = bundle_digest(json.dumps(manifest).encode())
    (bundle / "manifest.json").write_text(json.dumps(manifest))
