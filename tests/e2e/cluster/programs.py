"""The Go programs of the cluster, built from modules that are pinned by a go.mod and a go.sum each."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import CommandError, run
from cluster.lock import Lock
from cluster.places import PROGRAMS, Places
from cluster.progress import step

_HOUR = 3600.0
_KUBERNETES = "1.34.4"
_KUBERNETES_VERSIONS = " ".join(
    f"-X {package}.gitVersion=v{_KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=34"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
)


@dataclass(frozen=True)
class Program:
    """``package`` is built in ``programs/MODULE`` as ``bin/NAME``; ``variables`` are set by the linker."""

    name: str
    module: str
    package: str
    variables: str = ""
    tags: str = ""

    def build(self, places: Places) -> None:
        """Build it, or leave it if it was built from the same. Raises CommandError."""
        target = places.bin / self.name
        built_from = target.with_suffix(".built-from")
        key = self.key()
        if target.exists() and built_from.exists() and built_from.read_text() == key:
            return
        if shutil.which("go") is None:
            raise CommandError(f"{self.name} is built from source: install Go 1.25.8 or later")
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": os.environ.get("SIGNALYARD_E2E_GOFLAGS", "")}
        new = target.with_suffix(".new")
        with step(f"build {self.name}"):
            options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", self.tags]
            run(
                ["go", "build", *options, "-ldflags", f"-s -w {self.variables}", "-o", new, self.package],
                cwd=PROGRAMS / self.module,
                env=env,
                timeout=_HOUR,
            )
        built_from.unlink(missing_ok=True)
        new.rename(target)
        built_from.write_text(key)

    def key(self) -> str:
        """Changes with what the program is built from."""
        whole = hashlib.sha256(repr(self).encode())
        for file in sorted((PROGRAMS / self.module).iterdir()):
            whole.update(file.read_bytes())
        return whole.hexdigest()


def _kubernetes(name: str) -> Program:
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_VERSIONS)


def _prometheus(name: str) -> Program:
    version = "-X github.com/prometheus/common/version.Version=3.13.2"
    package = f"github.com/prometheus/prometheus/cmd/{name}"
    return Program(name, "prometheus", package, version, "remove_all_sd,enable_kubernetes_sd")


def _operator(name: str, command: str) -> Program:
    version = "-X github.com/prometheus/common/version.Version=0.85.0"
    return Program(
        name, "prometheus-operator", f"github.com/prometheus-operator/prometheus-operator/cmd/{command}", version
    )


API = (_kubernetes("kubectl"), _kubernetes("kube-apiserver"))
"""Enough for tests of custom resources."""
CLUSTER = (
    *API,
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", "-X helm.sh/helm/v4/internal/version.version=v4.2.4"),
    *map(_kubernetes, ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")),
    Program("coredns", "coredns", "github.com/coredns/coredns"),
    Program("pause", "pause", "."),
)
MONITORING = (
    _operator("prometheus-operator", "operator"),
    _operator("prometheus-config-reloader", "prometheus-config-reloader"),
    _prometheus("prometheus"),
    _prometheus("promtool"),
)
KSERVE = (Program("kserve-controller", "kserve", "github.com/kserve/kserve/cmd/manager"),)


def named(name: str) -> tuple[Program, ...]:
    """The one program of that name. Raises CommandError."""
    found = tuple(one for one in (*CLUSTER, *MONITORING, *KSERVE) if one.name == name)
    if not found:
        raise CommandError(f"{name} is none of the programs that are built here")
    return found


def build(programs: tuple[Program, ...], places: Places) -> None:
    """All of them, one after another. Raises CommandError."""
    for program in programs:
        with Lock(places.bin / f"{program.name}.lock"):  # another checkout may share the cache
            program.build(places)


def source(module: str, package: str) -> Path:
    """The folder in which Go keeps the sources of ``package``, for charts and CRDs that a module carries. Raises CommandError."""
    found = json.loads(run(["go", "mod", "download", "-json", package], cwd=PROGRAMS / module, timeout=_HOUR))
    return Path(found["Dir"])
