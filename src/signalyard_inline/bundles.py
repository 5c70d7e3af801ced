"""The bundles of a folder, loaded when a route asks for them."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from signalyard.problems import Problem, error
from signalyard_inline.model import LoadedModel
from signalyard_router.ports import Clock
from signalyard_runtimes import inline
from signalyard_runtimes.bundle import store
from signalyard_runtimes.inline import InlineModel

_TRIALS = 32


class Bundles:
    """The bundles at ``folder``, ``folder/*`` and ``folder/*/*``, as ``signalyard serve`` finds them."""

    def __init__(self, folder: Path, clock: Clock, trust: Sequence[Path] = ()) -> None:
        """``trust``: PEM files of public keys, one of which must have signed a bundle; none: nobody need have."""
        self._folder = folder
        self._trust = trust
        self._clock = clock

    def load(self, model: str, version: str) -> LoadedModel:
        """Find, verify and load. It takes its time, and blocks: it is for a thread.

        Raises ModelError: bundle_not_found naming what is there, bundle_file_missing where the folder cannot be read, and what
        `inline.load` raises, naming the bundle.
        """
        try:
            return self._load(model, version)
        except OSError as exc:
            raise error(Problem.BUNDLE_FILE_MISSING, f"{self._folder} cannot be read: {exc}") from exc

    def _load(self, model: str, version: str) -> LoadedModel:
        there: list[str] = []
        for path in store.find(self._folder):
            with store.naming(path):
                manifest = store.read_manifest(path)
            if (manifest.name, manifest.version) == (model, version):
                with store.naming(path):
                    # Of the manifest that was just read: nothing that was put there since is loaded in its stead.
                    loaded = inline.load(path, digest=manifest.digest, trust=self._trust)
                    return LoadedModel(loaded, _row_time(loaded), self._clock)
            there.append(f"{manifest.name} {manifest.version}")
        raise error(
            Problem.BUNDLE_NOT_FOUND,
            f"{self._folder} holds no bundle of {model} {version}; there are {', '.join(there)}",
        )


def _row_time(model: InlineModel) -> float:
    """What a golden row takes, nanoseconds."""
    golden = model.scorer.golden
    assert golden is not None  # `inline.load` has compared them
    turned = inline.InlineModel(model.scorer, golden.columns)
    times: list[int] = []
    for trial in range(_TRIALS):
        started = perf_counter_ns()
        turned.score(golden.rows[trial % len(golden.rows)])
        times.append(perf_counter_ns() - started)
    return float(median(times))
