"""One suite for all engines. A framework's own test makes a `Trial` and inherits the tests.

The model of a trial takes two features, and gives one score a row. What it must give is asked of the framework itself.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mlserver.errors import MLServerError
from mlserver.registry import MultiModelRegistry
from mlserver.types import InferenceRequest, Parameters, RequestInput
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler

from signalyard.problems import ModelError, Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes import inline
from signalyard_runtimes.bundle import signature
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
    """A model of one framework. ``expected`` gives the framework's own scores of [rows, 2]; ``wider`` is a model of three features;
    ``gaps`` says whether the model scores rows in which features are missing."""

    framework: Framework
    artifact: bytes
    wider: bytes
    expected: Callable[[Any], Any]
    gaps: bool = False


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

        def request(**more: Any) -> InferenceRequest:
            tensor: dict[str, Any] = {
                "name": "features",
                "shape": [3, len(NAMES)],
                "datatype": "FP64",
                "data": matrix.ravel().tolist(),
                "parameters": Parameters(columns=json.dumps(NAMES)),
            }
            return InferenceRequest(inputs=[RequestInput(**(tensor | more))])

        wrong = (
            (request(datatype="INT32"), "must be FP64, not INT32"),
            (request(shape=[2**62, len(NAMES)]), "there are 6"),
            (request(parameters=Parameters(columns='["close","open"]')), "'open'"),
            (request(parameters=Parameters(columns='["close","close"]')), "'close' is given twice"),
        )

        async def ask() -> Any:
            model = await MultiModelRegistry().load(model_settings(tmp_path / "bundle", manifest))
            try:
                for one, words in wrong:
                    with pytest.raises(MLServerError, match=words) as caught:
                        await model.predict(one)
                    assert caught.value.status_code == 400
                return await model.metadata(), await model.predict(request())
            finally:
                await model.unload()

        metadata, answer = asyncio.run(ask())
        assert metadata.platform == trial.framework
        np.testing.assert_array_equal(
            answer.outputs[0].data.root, load(tmp_path / "bundle").score_values(NAMES, matrix).score
        )

    def test_a_row_that_cannot_be_scored_is_told_and_spares_the_others(self, trial: Trial, tmp_path: Path) -> None:
        pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "bundle")
        scorer = load(tmp_path / "bundle")
        matrix = rows(4)
        matrix[1, 0], matrix[2, 1] = np.nan, np.inf
        told = ["close: is missing and the model needs it", "ret_5: inf is not finite"]
        answer = scorer.score_values(NAMES, matrix)
        assert answer.row_error == ["", *told, ""]
        good = np.asarray(trial.expected(matrix[[0, 3]]), dtype=np.float64).reshape(2)
        assert answer.score == [good[0], None, None, good[1]]
        none = scorer.score_values(NAMES, matrix[1:3])
        assert (none.score, none.row_error) == ([None, None], told)

    def test_a_gap_that_the_schema_allows_is_scored_or_refused_when_it_is_packed(
        self, trial: Trial, tmp_path: Path
    ) -> None:
        def packing() -> None:
            pack(spec(trial.framework, missing="native"), trial.artifact, golden(), tmp_path / "bundle")

        if not trial.gaps:
            refused = (
                r"'native' for close, ret_5, and with these missing: the model gave nan|the model raised ValueError"
            )
            with pytest.raises(ModelError, match=refused):
                packing()
            return
        packing()
        matrix = rows(6)
        matrix[:2, 0], matrix[1:4, 1] = np.nan, np.nan
        answer = load(tmp_path / "bundle").score_values(NAMES, matrix)
        assert answer.row_error == [""] * 6
        np.testing.assert_array_equal(answer.score, np.asarray(trial.expected(matrix), dtype=np.float64))

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

    def test_nothing_of_it_is_loaded_before_all_else_has_checked_out(
        self, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = pack(spec(trial.framework), trial.artifact, golden(), tmp_path / "good")
        trusted, stranger = _key(tmp_path / "trusted"), _key(tmp_path / "stranger")
        artifact = tmp_path / "bundle" / manifest.artifact

        def reached(*_: object) -> None:
            raise _ReachedError

        def refused(spoil: Callable[[], object] = lambda: None, digest: str | None = None, *trust: Path) -> Problem:
            shutil.rmtree(tmp_path / "bundle", ignore_errors=True)
            shutil.copytree(tmp_path / "good", tmp_path / "bundle")
            spoil()
            with pytest.raises(ModelError) as caught:
                load(tmp_path / "bundle", digest, trust)
            return caught.value.problem

        def signed(key: _Key) -> None:
            signature.attach(tmp_path / "bundle", key.private)

        monkeypatch.setattr("signalyard_runtimes.engines.load", reached)
        flipped = trial.artifact[:-1] + bytes([trial.artifact[-1] ^ 1])
        assert refused(lambda: artifact.write_bytes(flipped)) is Problem.BUNDLE_FILE_CHANGED
        assert refused(artifact.unlink) is Problem.BUNDLE_FILE_MISSING
        assert refused((tmp_path / "bundle" / "more").touch) is Problem.BUNDLE_FILE_EXTRA
        assert refused(digest="sha256:" + "0" * 64) is Problem.BUNDLE_FILE_CHANGED
        assert refused(lambda: None, None, trusted.public) is Problem.BUNDLE_UNSIGNED
        assert refused(lambda: signed(stranger), None, trusted.public) is Problem.BUNDLE_SIGNATURE_UNTRUSTED
        with pytest.raises(_ReachedError):
            load(tmp_path / "bundle", manifest.digest, (trusted.public, stranger.public))
        monkeypatch.setattr("signalyard_runtimes.bundle.library.version", lambda package: "0.1")
        assert refused() is Problem.BUNDLE_LIBRARY_MISMATCH

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


class _ReachedError(Exception):
    """An engine was asked to load a model."""


class _Key(NamedTuple):
    """The files of a key pair."""

    private: Path
    public: Path


def _key(place: Path) -> _Key:
    made = ec.generate_private_key(ec.SECP256R1())
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = _Key(place.with_suffix(".key"), place.with_suffix(".pub"))
    key.private.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, plain))
    shown = serialization.PublicFormat.SubjectPublicKeyInfo
    key.public.write_bytes(made.public_key().public_bytes(serialization.Encoding.PEM, shown))
    return key


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
