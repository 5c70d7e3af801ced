"""Is what is installed here what the bundle was made with?"""

from importlib.metadata import PackageNotFoundError, version

from signalyard.problems import Problem, error, escape_pointer
from signalyard_runtimes.bundle.manifest import Manifest

_LIGHTGBM_MAJOR = 4


def check(manifest: Manifest) -> None:
    """Raises ModelError (bundle_library_mismatch) naming the package, the version here and the one that would be right."""
    if manifest.framework == "lightgbm":
        # LightGBM's text form is its stable exchange form, written to be read by other versions; 4 is the oldest major that
        # we test. The golden rows catch what such a promise misses.
        installed = _installed("lightgbm", f"{_LIGHTGBM_MAJOR} or newer")
        if int(installed.split(".")[0]) < _LIGHTGBM_MAJOR:
            raise _mismatch("lightgbm", f"{_LIGHTGBM_MAJOR} or newer", installed)
        return
    # A pickle is the private state of one version's classes: another version may load it, and score it differently.
    for package, wanted in manifest.library.items():
        installed = _installed(package, wanted)
        if installed != wanted:
            raise _mismatch(package, wanted, installed)


def installed_version(package: str) -> str | None:
    """The version of ``package`` in this environment, None if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
