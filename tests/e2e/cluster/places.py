"""Where things lie: what may be kept between runs, and what a run makes and takes away again."""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True)
class Places:
    """``cache`` is kept: programs, base images, layers. ``node`` is the running cluster's and is removed with it; ``logs`` stays.

    There is one node a machine, so ``node`` lies in the cache: checkouts that share the one use the other together.
    """

    cache: Path
    node: Path
    logs: Path
    results: Path

    @classmethod
    def of_project(cls) -> "Places":
        """SIGNALYARD_E2E_CACHE names another cache, so that several checkouts may share one."""
        state = PROJECT / ".state" / "e2e"
        cache = Path(os.environ.get("SIGNALYARD_E2E_CACHE") or PROJECT / ".cache" / "e2e").resolve()
        return cls(cache, cache / "node", state / "logs", state)

    @property
    def bin(self) -> Path:
        """The programs that were built."""
        return self.cache / "bin"

    @property
    def kubeconfig(self) -> Path:
        """The admin's."""
        return self.node / "kubeconfig"
