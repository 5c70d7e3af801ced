"""A bundle that is not what it says is refused, each time with its own reason, and before its model is loaded."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest

from signalyard.problems import ModelError, Problem
from signalyard_runtimes.bundle import library, store
from signalyard_runtimes.scorer import load

Forge = Callable[..., None]
Edit = Callable[[dict[str, Any]], object]


def refusal(bundle: Path, digest: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(bundle, digest)
    return caught.value


def test_a_good_bundle_loads(lightgbm_bundle: Path, sklearn_bundle: Path) -> None:
    assert load(lightgbm_bundle).card.calibrated
    assert not load(sklearn_bundle).card.calibrated


@pytest.mark.parametrize("name", ["model.txt", "golden.json"])
def test_a_flipped_bit(lightgbm_bundle: Path, name: str) -> None:
    file = lightgbm_bundle / name
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_FILE_CHANGED
    assert found.pointer == f"/files/{name}/sha256"
    assert name in found.detail


def test_another_size(lightgbm_bundle: Path) -> None:
    with (lightgbm_bundle / "model.txt").open("ab") as file:
        file.write(b"\n")
    found = refusal(lightgbm_bundle)
    assert (found.problem, found.pointer) == (Problem.BUNDLE_FILE_CHANGED, "/files/model.txt/size")


def test_a_missing_file(lightgbm_bundle: Path) -> None:
    (lightgbm_bundle / "model.txt").unlink()
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_FILE_MISSING
    assert "'model.txt'" in found.detail


def test_no_manifest(tmp_path: Path) -> None:
    assert refusal(tmp_path).problem is Problem.BUNDLE_FILE_MISSING
    assert refusal(tmp_path / "absent").problem is Problem.BUNDLE_FILE_MISSING


@pytest.mark.parametrize("name", ["notes.md", ".hidden", "more/deep.txt"])
def test_an_extra_file(lightgbm_bundle: Path, name: str) -> None:
    extra = lightgbm_bundle / name
    extra.parent.mkdir(exist_ok=True)
    extra.write_text("x")
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_FILE_EXTRA
    assert repr(name) in found.detail


@pytest.mark.parametrize("name", ["model.txt", "golden.json", "manifest.json"])
def test_a_symbolic_link_in_place_of_a_file(lightgbm_bundle: Path, tmp_path: Path, name: str) -> None:
    real = tmp_path / "elsewhere"
    (lightgbm_bundle / name).rename(real)
    (lightgbm_bundle / name).symlink_to(real)
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_PATH_UNSAFE
    assert "symbolic link" in found.detail


def test_a_symbolic_link_to_a_folder(lightgbm_bundle: Path, tmp_path: Path) -> None:
    (lightgbm_bundle / "more").symlink_to(tmp_path, target_is_directory=True)
    assert refusal(lightgbm_bundle).problem is Problem.BUNDLE_PATH_UNSAFE


def test_a_pipe_is_refused_and_not_waited_on(lightgbm_bundle: Path) -> None:
    (lightgbm_bundle / "model.txt").unlink()
    os.mkfifo(lightgbm_bundle / "model.txt")
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_PATH_UNSAFE
    assert "special file" in found.detail


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../model.txt", "a/../../b", "a//b", "./model.txt", "a\\b", "", "a\nb"]
)
@pytest.mark.parametrize("place", ["files", "artifact"])
def test_a_path_that_is_not_plain(lightgbm_bundle: Path, forge: Forge, path: str, place: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][path] = manifest["files"].pop("model.txt")
        if place == "artifact":
            manifest["artifact"] = path

    forge(lightgbm_bundle, change)
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_PATH_UNSAFE
    assert repr(path) in found.detail


def test_an_edited_manifest(lightgbm_bundle: Path) -> None:
    file = lightgbm_bundle / "manifest.json"
    manifest = json.loads(file.read_bytes())
    manifest["output"]["neutral"] = 0.45
    file.write_text(json.dumps(manifest))
    found = refusal(lightgbm_bundle)
    assert (found.problem, found.pointer) == (Problem.BUNDLE_FILE_CHANGED, "/digest")


def test_a_good_bundle_that_is_not_the_one_asked_for(lightgbm_bundle: Path) -> None:
    found = refusal(lightgbm_bundle, "sha256:" + "0" * 64)
    assert found.problem is Problem.BUNDLE_FILE_CHANGED
    assert "asked for was sha256:000" in found.detail


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        (lambda m: m.update(format=2), "/format", "2"),
        (lambda m: m.update(name="a/b"), "/name", "matching regex"),
        (lambda m: m.update(version=7), "/version", "Expected `str`"),
        (lambda m: m.update(framework="prophet"), "/framework", "prophet"),
        (lambda m: m.update(colour="red"), "", "colour"),
        (lambda m: m.pop("output"), "", "output"),
        (lambda m: m["output"].update(neutral=1.5), "/output/neutral", "1.5"),
        (lambda m: m["schema"]["features"][1].update(name="close"), "/schema/features/1/name", "twice"),
        (lambda m: m["schema"]["features"][0].update(minimum="low"), "/schema/features/0/minimum", "float"),
        (lambda m: m["schema"]["features"][0].update(maximum=-1), "/schema/features/0/minimum", "'close'"),
        (lambda m: m["schema"]["features"][1].update(missing="impute"), "/schema/features/1/fill", "'ret_5'"),
        (lambda m: m["schema"].update(features=[]), "/schema/features", "at least one"),
        (lambda m: m["calibration"].update(x=[0, 0, 1]), "/calibration/x", "rise"),
        (lambda m: m["calibration"].update(y=[0, 0.5, 1.5]), "/calibration/y", "probabilities"),
        (lambda m: m["calibration"].update(y=[0, 1]), "/calibration", "knots"),
        (lambda m: m.update(preprocessing=[{"kind": "log"}]), "/preprocessing/0/kind", "log"),
        (lambda m: m.update(preprocessing=[{"kind": "impute", "values": {"open": 1}}]), "/preprocessing/0/values/open", "open"),
        (lambda m: m.update(preprocessing=[{"kind": "impute", "values": {"close": 1}}]), "/preprocessing/0/values/close", "native"),
        (lambda m: m.update(preprocessing=[{"kind": "clip", "bounds": {"close": [2, 1]}}]), "/preprocessing/0/bounds/close", "empty"),
        (
            lambda m: m.update(preprocessing=[{"kind": "standardise", "moments": {"close": {"mean": 0, "scale": 0}}}]),
            "/preprocessing/0/moments/close/scale",
            "above 0",
        ),
        (lambda m: m.update(preprocessing=[{"kind": "bin", "edges": {"close": [1, 1]}}]), "/preprocessing/0/edges/close", "rise"),
        (lambda m: m.update(artifact="other.txt"), "/artifact", "not listed"),
        (lambda m: m["golden"]["tolerance"].update(absolute=1e-3), "/golden/tolerance/absolute", "0.001"),
        (lambda m: m.update(library={}), "/library", "lightgbm"),
        (lambda m: m["files"].update({"manifest.json": {"sha256": "0" * 64, "size": 1}}), "/files/manifest.json", "itself"),
    ],
)  # fmt: skip
def test_a_malformed_manifest_names_the_field(
    lightgbm_bundle: Path, forge: Forge, change: Edit, pointer: str, words: str
) -> None:
    forge(lightgbm_bundle, change)
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_MANIFEST_INVALID
    assert found.pointer == pointer
    assert words in found.detail


def test_a_manifest_that_is_no_json(lightgbm_bundle: Path) -> None:
    (lightgbm_bundle / "manifest.json").write_text("{")
    assert refusal(lightgbm_bundle).problem is Problem.BUNDLE_MANIFEST_INVALID


def test_a_name_given_twice_is_refused(lightgbm_bundle: Path) -> None:
    file = lightgbm_bundle / "manifest.json"
    file.write_text('{"training": {},' + file.read_text().lstrip()[1:])
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_MANIFEST_INVALID
    assert "'training'" in found.detail


def test_golden_rows_that_the_model_does_not_meet(lightgbm_bundle: Path, forge: Forge) -> None:
    golden = json.loads((lightgbm_bundle / "golden.json").read_bytes())
    golden["score"][2] += 1e-3
    forge(lightgbm_bundle, golden__json=json.dumps(golden).encode())
    found = refusal(lightgbm_bundle)
    assert (found.problem, found.pointer) == (Problem.BUNDLE_GOLDEN_MISMATCH, "/score/2")
    assert str(golden["score"][2]) in found.detail


def test_golden_confidences_count_too(lightgbm_bundle: Path, forge: Forge) -> None:
    forge(lightgbm_bundle, lambda m: m["calibration"].update(y=[0.2, 0.501, 0.8]))
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_GOLDEN_MISMATCH
    assert found.pointer.startswith("/confidence/")


def test_golden_scores_that_are_too_few(lightgbm_bundle: Path, forge: Forge) -> None:
    golden = json.loads((lightgbm_bundle / "golden.json").read_bytes())
    golden["score"].pop()
    forge(lightgbm_bundle, golden__json=json.dumps(golden).encode())
    assert refusal(lightgbm_bundle).problem is Problem.BUNDLE_MANIFEST_INVALID


def test_features_that_are_not_the_models(lightgbm_bundle: Path, forge: Forge) -> None:
    forge(lightgbm_bundle, lambda m: m["schema"]["features"].reverse())
    found = refusal(lightgbm_bundle)
    assert (found.problem, found.pointer) == (Problem.BUNDLE_ARTIFACT_INVALID, "/schema/features")
    assert "'close'" in found.detail
    assert "'ret_5'" in found.detail


def test_a_feature_too_many(sklearn_bundle: Path, forge: Forge) -> None:
    forge(sklearn_bundle, lambda m: m["schema"]["features"].append({"name": "volume"}))
    found = refusal(sklearn_bundle)
    assert found.problem is Problem.BUNDLE_ARTIFACT_INVALID
    assert "takes 2 features, the schema has 3" in found.detail


def test_an_artifact_that_is_no_model(lightgbm_bundle: Path, sklearn_bundle: Path, forge: Forge) -> None:
    forge(lightgbm_bundle, model__txt=b"tree\n")
    assert refusal(lightgbm_bundle).problem is Problem.BUNDLE_ARTIFACT_INVALID
    forge(sklearn_bundle, model__joblib=b"not a pickle")
    assert refusal(sklearn_bundle).problem is Problem.BUNDLE_ARTIFACT_INVALID
    dumped = io.BytesIO()
    joblib.dump({"a": 1}, dumped)
    forge(sklearn_bundle, model__joblib=dumped.getvalue())
    assert "a dict is not a fitted scikit-learn model" in refusal(sklearn_bundle).detail


@pytest.mark.parametrize("package", ["scikit-learn", "joblib", "numpy"])
def test_a_pickle_of_other_versions(sklearn_bundle: Path, forge: Forge, package: str) -> None:
    forge(sklearn_bundle, lambda m: m["library"].update({package: "0.0.1"}))
    found = refusal(sklearn_bundle)
    assert (found.problem, found.pointer) == (Problem.BUNDLE_LIBRARY_MISMATCH, f"/library/{package}")
    assert f"needs {package} 0.0.1; installed is" in found.detail


def test_a_pickle_that_needs_a_package_that_is_not_there(sklearn_bundle: Path, forge: Forge) -> None:
    forge(sklearn_bundle, lambda m: m["library"].update({"no-such-package": "1.0"}))
    assert refusal(sklearn_bundle).detail == "the bundle needs no-such-package 1.0; installed is none"


def test_lightgbm_text_may_be_of_another_version_from_4_on(
    lightgbm_bundle: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(lightgbm_bundle, lambda m: m["library"].update(lightgbm="4.0.0"))
    load(lightgbm_bundle)
    monkeypatch.setattr(library, "version", lambda package: "3.3.5")
    found = refusal(lightgbm_bundle)
    assert found.problem is Problem.BUNDLE_LIBRARY_MISMATCH
    assert "lightgbm 4 or newer; installed is 3.3.5" in found.detail


class _Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("fault", ["file", "digest", "asked", "library", "extra"])
def test_nothing_is_unpickled_before_all_else_has_checked_out(
    sklearn_bundle: Path, forge: Forge, tmp_path: Path, fault: str
) -> None:
    mark = tmp_path / "it-ran"
    trap = pickle.dumps(_Trap(mark))
    if fault == "file":
        (sklearn_bundle / "model.joblib").write_bytes(trap)
    else:
        forge(sklearn_bundle, model__joblib=trap)
    if fault == "digest":
        file = sklearn_bundle / "manifest.json"
        file.write_text(file.read_text().replace('"neutral": 0.5', '"neutral": 0.6'))
    if fault == "library":
        forge(sklearn_bundle, lambda m: m["library"].update(numpy="1.0"))
    if fault == "extra":
        (sklearn_bundle / "x").touch()
    refusal(sklearn_bundle, "sha256:" + "0" * 64 if fault == "asked" else None)
    assert not mark.exists()


def test_the_trap_works(sklearn_bundle: Path, forge: Forge, tmp_path: Path) -> None:
    forge(sklearn_bundle, model__joblib=pickle.dumps(_Trap(tmp_path / "it-ran")))
    assert refusal(sklearn_bundle).problem is Problem.BUNDLE_ARTIFACT_INVALID
    assert (tmp_path / "it-ran").exists()


def test_finding_looks_two_folders_down_and_past_hidden_ones(lightgbm_bundle: Path, sklearn_bundle: Path) -> None:
    folder = lightgbm_bundle.parent
    assert store.find(lightgbm_bundle) == [lightgbm_bundle]
    assert store.find(folder) == [sklearn_bundle, lightgbm_bundle]
    (folder / "current").symlink_to(lightgbm_bundle)
    assert len(store.find(folder)) == 2
    (folder / "current").unlink()
    (folder / "team").mkdir()
    sklearn_bundle = sklearn_bundle.rename(folder / "team" / "rb-base-1")
    assert store.find(folder) == [lightgbm_bundle, sklearn_bundle]
    lightgbm_bundle.rename(folder / ".draft")
    assert store.find(folder) == [sklearn_bundle]


def test_finding_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError) as caught:
            store.find(folder)
        assert caught.value.problem is Problem.BUNDLE_FILE_MISSING
        assert str(folder) in caught.value.detail


def test_two_bundles_of_one_name_and_version(lightgbm_bundle: Path, sklearn_bundle: Path, forge: Forge) -> None:
    forge(sklearn_bundle, lambda m: m.update(name="rb-trend", version="7"))
    with pytest.raises(ModelError, match="are both version 7 of rb-trend"):
        store.find(lightgbm_bundle.parent)
