"""Images of our Dockerfiles, built by buildah on a base made here, without a registry.

They are built outside the node's network, which has no way out. Buildah's mounts and processes are in namespaces of their own, so
that an interrupted build leaves none.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import CommandError, run
from cluster.lock import Lock
from cluster.namespaces import ISOLATED
from cluster.places import PROJECT, Places
from cluster.progress import step

_BUILD_SECONDS = 1800.0
_SUITE = "bookworm"
_BASE = "localhost/signalyard-base"
_BUILDER = "localhost/signalyard-builder"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What a build on this machine needs to fetch packages; it is there during the build alone.
_SETTINGS = (_CERTIFICATES, Path("/etc/pip.conf"))
PACKAGED = {
    "alertmanager": ("prometheus-alertmanager", "/usr/bin/prometheus-alertmanager"),
    "redis-server": ("redis-server", "/usr/bin/redis-server"),
}
"""Programs that are Debian's: by their names the package, and where it puts them."""


@dataclass(frozen=True)
class Image:
    """``name`` with its tag; ``layout``, an OCI image layout with it and nothing else; ``identity``, which changes with its content."""

    name: str
    layout: Path
    identity: str


@dataclass(frozen=True)
class Images:
    """Built images lie in the cache with their layers, so that a second build makes only what has changed."""

    places: Places

    def router(self, tag: str = "e2e") -> Image:
        """``signalyard-router:TAG``. Raises CommandError."""
        return self.build("router/Dockerfile", f"localhost/signalyard-router:{tag}")

    def runtimes(self, framework: str = "lightgbm") -> Image:
        """``signalyard-runtimes:e2e-FRAMEWORK``: one name for several would leave the last one that was built to all. Raises CommandError."""
        name = f"localhost/signalyard-runtimes:e2e-{framework}"
        return self.build("runtimes/Dockerfile", name, {"FRAMEWORK": framework})

    def pause(self) -> Image:
        """What holds a pod's namespaces. Raises CommandError."""
        return self.of_program("pause", "localhost/signalyard-pause:1")

    def of_program(self, program: str, name: str, base: str = "scratch") -> Image:
        """An image whose entry point is a built program, on nothing or on ``base``. Raises CommandError."""
        folder = self.places.cache / "programs" / program
        with self._alone(program):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copy2(self.places.bin / program, folder / program)
            (folder / "Dockerfile").write_text(
                # prometheus-operator starts its reloader by this path.
                f'FROM {base}\nCOPY {program} /bin/{program}\nUSER 10001:10001\nENTRYPOINT ["/bin/{program}"]\n'
            )
            return self.build(folder / "Dockerfile", name, context=folder)

    def of_package(self, program: str) -> Image:
        """Debian's, one of `PACKAGED`, with all that its package brings. Raises CommandError."""
        package, path = PACKAGED[program]
        base, _ = self.base()
        folder = self.places.cache / "programs" / program
        with self._alone(program):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "Dockerfile").write_text(
                f"FROM {base}\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {package}"
                f' > /dev/null && rm -r /var/lib/apt/lists\nUSER 10001:10001\nENTRYPOINT ["{path}"]\n'
            )
            return self.build(folder / "Dockerfile", f"localhost/{program}:e2e", context=folder)

    def base(self) -> tuple[str, str]:
        """The names of the image that ours are made on and of the one that they are built in. Raises CommandError."""
        with self._alone("base"):
            if not self._exists(_BASE):
                self._make_base()
            if not self._exists(_BUILDER):
                with step("the builder's image"):
                    self._buildah(
                        *self._bud(), "-t", _BUILDER, "-f", "-", PROJECT / "locks",
                        stdin=f"FROM {_BASE}\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends "
                        "python3-venv > /dev/null\n",
                    )  # fmt: skip
        return _BASE, _BUILDER

    def build(
        self,
        dockerfile: str | Path,
        name: str,
        arguments: Mapping[str, str] | None = None,
        context: Path = PROJECT,
    ) -> Image:
        """Build, only as far as something has changed. Raises CommandError."""
        given = dict(arguments or {})
        if context == PROJECT:
            given["BASE"], given["BUILDER"] = self.base()
        layout = self.places.cache / "layouts" / _file(name)
        built_from, pushed = layout.with_suffix(".built-from"), layout.with_suffix(".id")
        with self._alone(_file(name)):
            # Buildah finds out by reading all of every layer that none has changed, which takes a minute.
            key = _key(context / dockerfile, context, [*given.items(), *map(self._id, given.values())])
            if not (built_from.exists() and built_from.read_text() == key and pushed.exists()):
                built_from.unlink(missing_ok=True)
                with step(f"image {name}"):
                    options = [part for key, value in given.items() for part in ("--build-arg", f"{key}={value}")]
                    self._buildah(*self._bud(), *options, "-t", name, "-f", context / dockerfile, context)
                    self._push(name, layout, pushed)
                built_from.write_text(key)
            return Image(name, layout, pushed.read_text())

    def _make_base(self) -> None:
        tree = self.places.cache / "base"
        shutil.rmtree(tree, ignore_errors=True)
        with step("a base image by debootstrap"):
            run(
                ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", _SUITE, tree],
                timeout=_BUILD_SECONDS,
            )
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
                shutil.rmtree(tree / waste, ignore_errors=True)
                (tree / waste).mkdir()
            container = self._buildah("from", "scratch").strip()
            self._buildah("add", "-q", container, tree, "/")
            self._buildah("commit", "-q", "--rm", container, _BASE)
            shutil.rmtree(tree)

    def _push(self, name: str, layout: Path, pushed: Path) -> None:
        identity = self._id(name)
        if not pushed.exists() or pushed.read_text() != identity:
            layout.mkdir(parents=True, exist_ok=True)
            # Without earlier images in it, whose layers the node would be given too.
            (layout / "index.json").unlink(missing_ok=True)
            self._buildah("push", "-q", name, f"oci:{layout}:{name}")
            _drop_unused(layout)
            pushed.write_text(identity)

    def _id(self, name: str) -> str:
        """Of an image that is in the cache, or ``name`` itself."""
        try:
            return self._buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", name).strip()
        except CommandError:
            return name

    def _bud(self) -> list[object]:
        volumes = [f"--volume={path}:{path}:ro" for path in _SETTINGS if path.exists()]
        return ["bud", "-q", "--layers", "--isolation", "chroot", "--pull-never", *volumes]

    def _exists(self, name: str) -> bool:
        try:
            self._buildah("inspect", "--type", "image", name)
        except CommandError:
            return False
        return True

    def _buildah(self, *arguments: object, stdin: str | None = None) -> str:
        storage = self.places.cache / "buildah"
        runtime = self.places.cache / "buildah-run"
        command = [
            *ISOLATED,
            "buildah",
            "--storage-driver",
            "overlay",
            "--root",
            storage,
            "--runroot",
            runtime,
            *arguments,
        ]
        return run(command, timeout=_BUILD_SECONDS, stdin=stdin, env={**os.environ, "BUILDAH_ISOLATION": "chroot"})

    def _alone(self, what: str) -> Lock:
        return Lock(self.places.cache / "layouts" / f"{what}.lock")


def _key(dockerfile: Path, context: Path, given: Iterable[object]) -> str:
    """Changes with what an image is made from: all that the engine would be sent, and what it is told."""
    whole = hashlib.sha256(repr(list(given)).encode() + dockerfile.read_bytes())
    for file in sorted(_sent(context)):
        whole.update(repr((str(file.relative_to(context)), file.stat().st_mode)).encode() + file.read_bytes())
    return whole.hexdigest()


def _sent(context: Path) -> Iterator[Path]:
    """The files of a context, as .dockerignore has them. It knows ours, in which everything is left out but what ``!`` takes in again."""
    ignore = context / ".dockerignore"
    lines = [line for line in ignore.read_text().split("\n") if line and line[0] != "#"] if ignore.exists() else ["!*"]
    taken = [path for line in lines if line[0] == "!" for path in context.glob(line[1:])]
    for place in taken:
        for path in place.rglob("*") if place.is_dir() else [place]:
            if path.is_file() and path.suffix != ".pyc":
                yield path


def _drop_unused(layout: Path) -> None:
    """Remove the blobs of earlier images."""
    blobs = layout / "blobs" / "sha256"
    used = set()
    for entry in json.loads((layout / "index.json").read_text())["manifests"]:
        manifest = json.loads((blobs / _hex(entry)).read_text())
        used |= {_hex(entry), _hex(manifest["config"]), *map(_hex, manifest["layers"])}
    for blob in blobs.iterdir():
        if blob.name not in used:
            blob.unlink()


def _hex(descriptor: Mapping[str, str]) -> str:
    return descriptor["digest"].removeprefix("sha256:")


def _file(name: str) -> str:
    return name.removeprefix("localhost/").replace(":", "-").replace("/", "-")
