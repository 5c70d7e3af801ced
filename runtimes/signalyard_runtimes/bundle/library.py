"""Is what is installed here what the bundle was made with?"""

import re
from importlib.metadata import PackageNotFoundError, version

from signalyard.problems import Problem, error, escape_pointer
from signalyard_runtimes.bundle.manifest import Framework, Manifest

_LIGHTGBM_MAJOR = 4
# These files hold the private state of one version's classes: another version may load it, and score it differently.
_PRIVATE: frozenset[Framework] = frozenset(("sklearn", "skops", "torch-export"))
# The same library under the name of another build of it.
_BUILDS = {"xgboost": ("xgboost-cpu",), "onnxruntime": ("onnxruntime-gpu",), "tensorflow": ("tensorflow-cpu",)}
_NUMBERS = re.compile(r"(\d+)(?:\.(\d+))?")


def check(manifest: Manifest) -> None:
    """Raises ModelError (bundle_library_mismatch) naming the package, the version here and the one that would be right."""
    if manifest.framework == "lightgbm":
        # LightGBM's text form is its stable exchange form, written to be read by other versions; 4 is the oldest major that
        # we test. The golden rows catch what such a promise misses.
        installed = _installed("lightgbm", f"{_LIGHTGBM_MAJOR} or newer")
        if int(installed.split(".")[0]) < _LIGHTGBM_MAJOR:
            raise _mismatch("lightgbm", f"{_LIGHTGBM_MAJOR} or newer", installed)
        return
    for package, wanted in manifest.library.items():
        if manifest.framework in _PRIVATE:
            installed = _installed(package, wanted)
            if installed != wanted:
                raise _mismatch(package, wanted, installed)
        else:
            # The others are exchange forms, which their libraries promise to read when older versions have written them.
            installed = _installed(package, f"{wanted} or newer")
            if _release(installed) < _release(wanted):
                raise _mismatch(package, f"{wanted} or newer", installed)


def installed_version(package: str) -> str | None:
    """The version of ``package``, or of another build of it, in this environment; None if there is none."""
    for name in (package, *_BUILDS.get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _release(text: str) -> tuple[int, int]:
    """Major and minor; a patch changes no format."""
    found = _NUMBERS.match(text)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _installed(package: str, wanted: str) -> str:
    installed = installed_version(package)
    if installed is None:
        raise _mismatch(package, wanted, "none")
    return installed


def _mismatch(package: str, wanted: str, installed: str) -> Exception:
    return error(
        Problem.BUNDLE_LIBRARY_MISMATCH,
        f"the bundle needs {package} {wanted}; installed is {installed}",
        f"/library/{escape_pointer(package)}",
    )
