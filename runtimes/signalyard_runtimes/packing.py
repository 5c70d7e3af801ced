"""Making a bundle: from a model file, what its maker says of it, and rows to remember its scores by."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from signalyard.problems import Problem, error
from signalyard_runtimes.bundle import library, store
from signalyard_runtimes.bundle.digest import bundle_digest, file_entry
from signalyard_runtimes.bundle.folder import fold
from signalyard_runtimes.bundle.manifest import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    Description,
    Framework,
    Golden,
    GoldenRows,
    Histogram,
    Manifest,
    Tolerance,
    check_description,
    check_library,
    check_tolerance,
    convert,
)
from signalyard_runtimes.drift.histograms import histograms
from signalyard_runtimes.drift.training import TrainingRows
from signalyard_runtimes.features import Features
from signalyard_runtimes.scorer import Scorer, load, score_golden

_ARTIFACT: dict[Framework, str] = {
    "lightgbm": "model.txt",
    "xgboost": "model.ubj",
    "sklearn": "model.joblib",
    "skops": "model.skops",
    "onnx": "model.onnx",
    "torchscript": "model.pt",
    "torch-export": "model.pt2",
    "tensorflow": "model.tar",
}
# For a pickled scikit-learn model, what it holds the insides of.
_PACKAGES: dict[Framework, tuple[str, ...]] = {
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost",),
    "sklearn": ("scikit-learn", "joblib", "numpy"),
    "skops": ("scikit-learn", "skops"),
    "onnx": ("onnxruntime",),
    "torchscript": ("torch",),
    "torch-export": ("torch",),
    "tensorflow": ("tensorflow",),
}

# These compute with 24 bits, and a row alone may be rounded otherwise than the same one among others.
_SINGLE = Tolerance(absolute=1e-6, relative=1e-5)
_TOLERANCE: dict[Framework, Tolerance] = dict.fromkeys(
    ("xgboost", "onnx", "torchscript", "torch-export", "tensorflow"), _SINGLE
)


class PackSpec(Description, frozen=True, kw_only=True):
    """What the maker of a bundle says of the model.

    ``library`` is left out where the model was made by the versions that are installed here; ``tolerance`` says how exactly
    the golden rows must come out, as exactly as the form of the model allows where it is left out.
    """

    library: dict[str, str] = msgspec.field(default_factory=dict)
    tolerance: Tolerance | None = None


def pack(
    spec: PackSpec, model: Path | bytes, golden: GoldenRows, target: Path, training: TrainingRows | None = None
) -> Manifest:
    """Write the bundle folder ``target`` and verify it; it appears whole or not at all.

    ``model`` is what the framework's own way of saving wrote, for TensorFlow a folder; it is loaded, so it must be your own. ``golden``
    gives columns and rows; their scores, and confidences, are computed here. Of the ``training`` rows the manifest keeps a histogram
    a feature, against which a server watches for drift. The same input makes the same digest. Where ``target`` holds this very bundle
    already, nothing is written.

    Raises ModelError as :func:`signalyard_runtimes.scorer.load` does; CallerError (invalid_setting) where ``target`` holds
    something else, or the model file cannot be read, (unknown_feature, missing_feature, duplicate_feature, invalid_snapshot) where the
    training rows could not be scored.
    """
    # Through the wire form, so that a spec made in Python is checked as one from a file is, and gives the same digest.
    spec = convert(msgspec.json.encode(spec), PackSpec, "the description")
    check_description(spec)
    tolerance = spec.tolerance or _TOLERANCE.get(spec.framework, Tolerance())
    check_tolerance(tolerance, "/tolerance")
    versions = spec.library or _installed(spec.framework)
    check_library(spec.framework, versions)
    artifact = model if isinstance(model, bytes) else _read_model(model)
    name = _artifact_name(spec.framework, artifact)
    contents = {name: artifact, GOLDEN_FILE: _remember(spec, artifact, golden)}
    spread = msgspec.UNSET if training is None else _spread(spec, training)
    manifest = _manifest(spec, tolerance, versions, name, spread, contents)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        _refuse_another(target, manifest)
        return manifest
    _write(target, {**contents, MANIFEST_FILE: _pretty(manifest)})
    return manifest


def _remember(spec: PackSpec, artifact: bytes, golden: GoldenRows) -> bytes:
    scorer = Scorer(spec, artifact, digest="")
    answer = score_golden(scorer, golden)
    _probe_missing(spec, scorer, golden)
    remembered = {
        "columns": golden.columns,
        "rows": golden.rows,
        "score": answer.score,
        **({} if answer.confidence is None else {"confidence": answer.confidence}),
    }
    return msgspec.json.format(msgspec.json.encode(remembered), indent=1) + b"\n"


def _probe_missing(spec: PackSpec, scorer: Scorer, golden: GoldenRows) -> None:
    """A feature declared ``native`` may be missing any day: find out now whether the model stands that."""
    native = [feature.name for feature in spec.schema.features if feature.missing == "native"]
    if not native:
        return
    row = [None if name in native else value for name, value in zip(golden.columns, golden.rows[0], strict=True)]
    values = np.array([row], dtype=np.float64)
    text = scorer.score_values(golden.columns, values).row_error[0]
    if text:
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID,
            f"'missing' is 'native' for {', '.join(native)}, and with these missing: {text}",
            "/schema/features",
        )


def _spread(spec: PackSpec, training: TrainingRows) -> tuple[Histogram, ...]:
    values = training.values
    if values.ndim != 2 or values.shape[1] != len(training.columns):
        raise error(
            Problem.INVALID_SNAPSHOT,
            f"the training rows must be [rows, {len(training.columns)}], as there are that many columns; they are {list(values.shape)}",
        )
    features = Features(spec.schema)
    for row, text in enumerate(features.build(training.columns, values).row_error):
        if text:
            raise error(Problem.INVALID_SNAPSHOT, f"the training row {row} is not as the schema says: {text}")
    # As they come, before gaps are filled and steps applied: so a server counts them.
    return histograms(spec.schema.names, features.arrange(training.columns, values))


def _manifest(
    spec: PackSpec,
    tolerance: Tolerance,
    versions: Mapping[str, str],
    artifact: str,
    spread: tuple[Histogram, ...] | msgspec.UnsetType,
    contents: Mapping[str, bytes],
) -> Manifest:
    manifest = Manifest(
        format=1,
        name=spec.name,
        version=spec.version,
        framework=spec.framework,
        library=dict(versions),
        artifact=artifact,
        schema=spec.schema,
        preprocessing=spec.preprocessing,
        output=spec.output,
        calibration=spec.calibration,
        golden=Golden(tolerance=tolerance),
        training=spec.training,
        histograms=spread,
        files={name: file_entry(body) for name, body in contents.items()},
        digest="",
    )
    return msgspec.structs.replace(manifest, digest=bundle_digest(msgspec.json.encode(manifest)))


def _pretty(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _write(target: Path, contents: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The leading dot keeps a server that looks at the parent folder from taking it for a bundle.
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, body in contents.items():
            (draft / name).write_bytes(body)
        draft.chmod(0o755)
        load(draft)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _refuse_another(target: Path, manifest: Manifest) -> None:
    if (target / MANIFEST_FILE).exists() and store.read_manifest(target).digest == manifest.digest:
        load(target, manifest.digest)
        return
    raise error(
        Problem.INVALID_SETTING,
        f"{target} holds something else, and a bundle is never changed: pack into another folder, under another version",
    )


def _installed(framework: Framework) -> dict[str, str]:
    versions = {package: library.installed_version(package) for package in _PACKAGES[framework]}
    return {package: version for package, version in versions.items() if version is not None}


def _artifact_name(framework: Framework, artifact: bytes) -> str:
    """XGBoost's two forms keep their names, and so say which one it is."""
    return "model.json" if framework == "xgboost" and artifact.startswith(b'{"') else _ARTIFACT[framework]


def _read_model(path: Path) -> bytes:
    try:
        return fold(path) if path.is_dir() else path.read_bytes()
    except OSError as exc:
        raise error(Problem.INVALID_SETTING, f"the model file {path} cannot be read: {exc.strerror}") from exc
