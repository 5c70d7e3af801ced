"""The manifest of a bundle: ``manifest.json`` in its root, and all that it promises.

The structs give the form; :func:`decode` also checks what a form cannot say: that names refer to something, that numbers
make sense together.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from signalyard.problems import Problem, SignalyardError, error, escape_pointer
from signalyard.profile import FeatureSchema

MANIFEST_FILE = "manifest.json"
GOLDEN_FILE = "golden.json"
SIGNATURE_FILE = "signature.json"
"""The one file that no manifest lists: it signs the manifest."""

MOST_EDGES = 32
"""Of a histogram: a server counts every row by every one of them."""

# A name and a version become part of a URL, of a metric's labels and of folder names.
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Framework = Literal["lightgbm", "xgboost", "sklearn", "skops", "onnx", "torchscript", "torch-export", "tensorflow"]
"""One word for each form in which a model is kept, since the form decides what may be done with it: ``sklearn`` is a pickle,
``skops`` the same models in a form that runs no code."""


class _Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Impute(_Form, frozen=True, kw_only=True, tag_field="kind", tag="impute"):
    """Put a number in the place of a missing value; for features that the schema takes as ``native``."""

    values: dict[str, float]


class Clip(_Form, frozen=True, kw_only=True, tag_field="kind", tag="clip"):
    """Hold features within [low, high]. A missing value stays missing."""

    bounds: dict[str, tuple[float, float]]


class Moments(_Form, frozen=True, kw_only=True):
    """What a feature is standardised by."""

    mean: float
    scale: float


class Standardise(_Form, frozen=True, kw_only=True, tag_field="kind", tag="standardise"):
    """(value - mean) / scale."""

    moments: dict[str, Moments]


class Bin(_Form, frozen=True, kw_only=True, tag_field="kind", tag="bin"):
    """The number of edges that are less than or equal to the value: 0 below the first, len(edges) from the last on."""

    edges: dict[str, tuple[float, ...]]


Step = Impute | Clip | Standardise | Bin


class Isotonic(_Form, frozen=True, kw_only=True, tag_field="method", tag="isotonic"):
    """A rising curve through the knots (x, y), level beyond its ends: score -> probability that the outcome is up."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Platt(_Form, frozen=True, kw_only=True, tag_field="method", tag="platt"):
    """1 / (1 + exp(a * score + b)), after Platt (1999); ``a`` is negative where a high score means up."""

    a: float
    b: float


Calibration = Isotonic | Platt


class Output(_Form, frozen=True, kw_only=True):
    """What a score means. ``neutral`` is the score that favours neither side: 0.5 for a probability, 0 for most regressions."""

    kind: Literal["probability", "regression"]
    neutral: float
    description: str = ""


class Tolerance(_Form, frozen=True, kw_only=True):
    """How far a golden score may be from the promised one: |got - promised| <= absolute + relative * |promised|."""

    absolute: float = 1e-9
    relative: float = 1e-6


class Golden(_Form, frozen=True, kw_only=True):
    """Where the golden rows are and how exactly they must come out."""

    file: str = GOLDEN_FILE
    tolerance: Tolerance = Tolerance()


class GoldenRows(_Form, frozen=True, kw_only=True):
    """The golden file: rows that were scored when the bundle was packed; ``null`` is a missing value."""

    columns: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    score: tuple[float, ...] = ()
    confidence: tuple[float, ...] | None = None


class FileEntry(_Form, frozen=True, kw_only=True):
    """A file of the bundle; ``sha256`` in hexadecimal, ``size`` in bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0)]


class Histogram(_Form, frozen=True, kw_only=True):
    """How the values of ``feature`` were spread over the rows that the model was trained on.

    ``edges`` rise; bin ``i`` holds the values of which ``i`` edges are less than or equal to them, so that there is one bin more than
    edges. ``counts`` are rows a bin, ``missing`` those in which the feature was missing.
    """

    feature: str
    edges: tuple[float, ...]
    counts: tuple[Count, ...]
    missing: Count = 0


class Description(_Form, frozen=True, kw_only=True):
    """What a model is, apart from its bytes: the part of a manifest that its maker writes."""

    name: Name
    version: Name
    framework: Framework
    schema: FeatureSchema
    preprocessing: tuple[Step, ...] = ()
    output: Output
    calibration: Calibration | None = None
    training: dict[str, Any] = msgspec.field(default_factory=dict)


class Manifest(Description, frozen=True, kw_only=True):
    """``manifest.json``. ``library`` gives the exact version of each package that the model was made with."""

    format: Literal[1]
    library: dict[str, str]
    artifact: str
    golden: Golden
    histograms: tuple[Histogram, ...] | msgspec.UnsetType = msgspec.UNSET
    """Left out where the training rows were not given."""
    files: dict[str, FileEntry]
    digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


_REQUIRED_LIBRARY: dict[Framework, str] = {
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "sklearn": "scikit-learn",
    "skops": "scikit-learn",
    "onnx": "onnxruntime",
    "torchscript": "torch",
    "torch-export": "torch",
    "tensorflow": "tensorflow",
}
# msgspec writes the place at the end of its message: " - at `$.schema.features[0].name`"
_PLACE = re.compile(r" - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")

_T = TypeVar("_T")


def invalid(detail: str, pointer: str = "") -> SignalyardError:
    """The error for a manifest, or another document about a bundle, that is not valid."""
    return error(Problem.BUNDLE_MANIFEST_INVALID, detail, pointer)


def convert(body: bytes, form: type[_T], file: str) -> _T:
    """Read JSON into a struct. Raises ModelError (bundle_manifest_invalid) naming the file and the field."""
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.DecodeError as exc:
        text = str(exc)
        place = _PLACE.search(text)
        pointer = ""
        if place:
            text = text[: place.start()]
            # Which value of an object it was, msgspec does not say.
            path = place["path"].partition("[...]")[0]
            pointer = "".join("/" + escape_pointer(name or index) for name, index in _STEP.findall(path))
        raise invalid(f"{file}: {text}", pointer) from exc
    except (UnicodeDecodeError, RecursionError) as exc:
        raise invalid(f"{file}: not JSON: {exc}") from exc


def decode(body: bytes) -> Manifest:
    """Read and check a manifest.

    Raises ModelError: bundle_manifest_invalid naming the field, bundle_path_unsafe for a path that leaves the bundle.
    """
    manifest = convert(body, Manifest, MANIFEST_FILE)
    check_description(manifest)
    check_tolerance(manifest.golden.tolerance, "/golden/tolerance")
    check_library(manifest.framework, manifest.library)
    if manifest.histograms is not msgspec.UNSET:
        _check_histograms(manifest.histograms, manifest.schema.names)
    for path in manifest.files:
        _check_path(path, f"/files/{escape_pointer(path)}")
    for path, pointer in ((manifest.artifact, "/artifact"), (manifest.golden.file, "/golden/file")):
        _check_path(path, pointer)
        if path not in manifest.files:
            raise invalid(f"{path!r} is not listed under 'files'", pointer)
    return manifest


def check_description(description: Description) -> None:
    """What the form of a description cannot say. Raises ModelError (bundle_manifest_invalid) naming the field."""
    for field in ("name", "version"):
        if not getattr(description, field).isprintable():  # a pattern's $ lets a newline pass
            raise invalid(f"{getattr(description, field)!r} holds characters that cannot be printed", f"/{field}")
    names = description.schema.names
    if not names:
        raise invalid("a model has at least one feature", "/schema/features")
    places = {name: index for index, name in reversed(list(enumerate(names)))}
    for index, feature in enumerate(description.schema.features):
        pointer = f"/schema/features/{index}"
        if not feature.name or not feature.name.isprintable():
            raise invalid(f"{feature.name!r} is no feature name: it must be printable and not empty", f"{pointer}/name")
        if places[feature.name] != index:
            raise invalid(f"the feature {feature.name!r} is declared twice", f"{pointer}/name")
        if feature.minimum is not None and feature.maximum is not None and feature.minimum > feature.maximum:
            raise invalid(
                f"the feature {feature.name!r} has a minimum of {feature.minimum} above its maximum of {feature.maximum}",
                f"{pointer}/minimum",
            )
        if (feature.missing == "impute") != (feature.fill is not None):
            raise invalid(
                f"the feature {feature.name!r} must give 'fill' if, and only if, its 'missing' is 'impute'",
                f"{pointer}/fill",
            )
    for index, step in enumerate(description.preprocessing):
        _check_step(step, description, f"/preprocessing/{index}")
    if description.output.kind == "probability" and not 0 < description.output.neutral < 1:
        raise invalid(
            f"a probability's neutral point lies between 0 and 1, not at {description.output.neutral}",
            "/output/neutral",
        )
    if isinstance(description.calibration, Isotonic):
        _check_isotonic(description.calibration)


def _check_step(step: Step, description: Description, pointer: str) -> None:
    if isinstance(step, Impute):
        _check_names(step.values, description, f"{pointer}/values")
        features = {feature.name: feature for feature in description.schema.features}
        for name in step.values:
            if features[name].missing != "native":
                raise invalid(
                    f"the step fills {name!r}, whose 'missing' is {features[name].missing!r}: only 'native' lets a gap reach it",
                    f"{pointer}/values/{escape_pointer(name)}",
                )
    elif isinstance(step, Clip):
        _check_names(step.bounds, description, f"{pointer}/bounds")
        for name, (low, high) in step.bounds.items():
            if low > high:
                raise invalid(
                    f"{name!r} is clipped to [{low}, {high}], which is empty",
                    f"{pointer}/bounds/{escape_pointer(name)}",
                )
    elif isinstance(step, Standardise):
        _check_names(step.moments, description, f"{pointer}/moments")
        for name, moments in step.moments.items():
            if moments.scale <= 0:
                raise invalid(
                    f"{name!r} is standardised by a scale of {moments.scale}, which must be above 0",
                    f"{pointer}/moments/{escape_pointer(name)}/scale",
                )
    else:
        _check_names(step.edges, description, f"{pointer}/edges")
        for name, edges in step.edges.items():
            if not edges or not _rising(edges):
                raise invalid(
                    f"the edges of {name!r} must rise, and be at least one", f"{pointer}/edges/{escape_pointer(name)}"
                )


def _check_names(names: Iterable[str], description: Description, pointer: str) -> None:
    known = frozenset(description.schema.names)
    for name in names:
        if name not in known:
            raise invalid(
                f"the step names {name!r}, which is no feature of the schema", f"{pointer}/{escape_pointer(name)}"
            )


def _check_isotonic(curve: Isotonic) -> None:
    if len(curve.x) < 2 or len(curve.x) != len(curve.y):
        raise invalid(
            f"needs at least two knots, as many x as y, not {len(curve.x)} and {len(curve.y)}", "/calibration"
        )
    if not _rising(curve.x):
        raise invalid("the knots' x must rise", "/calibration/x")
    if any(after < before for before, after in pairwise(curve.y)) or not 0 <= curve.y[0] <= curve.y[-1] <= 1:
        raise invalid("the knots' y are probabilities that never fall", "/calibration/y")


def _rising(numbers: tuple[float, ...]) -> bool:
    return all(before < after for before, after in pairwise(numbers))


def _check_histograms(histograms: tuple[Histogram, ...], names: tuple[str, ...]) -> None:
    known = set(names)
    if not histograms:
        raise invalid("must hold at least one histogram, or be left out", "/histograms")
    for index, histogram in enumerate(histograms):
        pointer, name = f"/histograms/{index}", histogram.feature
        if name not in known:
            given = f"{name!r} is given twice" if name in names else f"{name!r} is no feature of the schema"
            raise invalid(given, f"{pointer}/feature")
        known.remove(name)
        edges, counts = histogram.edges, histogram.counts
        if len(edges) > MOST_EDGES or not _rising(edges):
            raise invalid(f"the edges of {name!r} must rise, and be at most {MOST_EDGES}", f"{pointer}/edges")
        if len(counts) != len(edges) + 1:
            raise invalid(
                f"{name!r} has {len(edges)} edges, so there must be {len(edges) + 1} counts, not {len(counts)}",
                f"{pointer}/counts",
            )
        if not sum(counts) + histogram.missing:
            raise invalid(f"the histogram of {name!r} is of no row at all", f"{pointer}/counts")


def check_tolerance(tolerance: Tolerance, pointer: str) -> None:
    """Refuse a tolerance that would let another model pass. Raises ModelError (bundle_manifest_invalid)."""
    for name, value in (("absolute", tolerance.absolute), ("relative", tolerance.relative)):
        if not 0 <= value <= 1e-4:
            raise invalid(
                f"lies between 0 and 0.0001, not at {value}: a wider one would let another model pass",
                f"{pointer}/{name}",
            )


def check_library(framework: Framework, library: dict[str, str]) -> None:
    """Refuse a manifest that does not say what its model was made with. Raises ModelError (bundle_manifest_invalid)."""
    if _REQUIRED_LIBRARY[framework] not in library:
        raise invalid(f"must give the version of {_REQUIRED_LIBRARY[framework]!r}", "/library")


def _check_path(path: str, pointer: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\\" in path or not path.isprintable():
        raise error(
            Problem.BUNDLE_PATH_UNSAFE, f"{path!r} is not a plain path inside the bundle, such as 'model.txt'", pointer
        )
    if path in (MANIFEST_FILE, SIGNATURE_FILE):
        raise invalid(f"the manifest cannot list {'itself' if path == MANIFEST_FILE else 'what signs it'}", pointer)
