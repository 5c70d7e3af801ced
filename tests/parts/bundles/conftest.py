"""A bundle, the real command, and the servers that it talks to: one that misbehaves, an S3 API, an OCI registry."""

import base64
import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from signalyard_runtimes.bundle.digest import bundle_digest, file_entry

ROOT = Path(__file__).parents[3]
COMMAND = ROOT / ".venv" / "runtimes" / "bin" / "signalyard"
MOTO = ROOT / ".venv" / "s3" / "bin" / "moto_server"
PATIENCE = 60.0
OURS = ("SIGNALYARD_", "AWS_", "ORAS_", "DOCKER_")

USER, PASSWORD = "desk", "s3cret-word"
# What htpasswd -B makes of the two.
HTPASSWD = f"{USER}:$2b$04$35ctmTEpabApu9VJjnd9feNOv0yAltv5gP085nePQqzRO/o4muP9O\n"


@dataclass(frozen=True)
class Made:
    """A bundle as far as its files go: nothing here loads a model."""

    folder: Path
    digest: str


def make(folder: Path, version: str, size: int) -> Made:
    contents = {
        "model.txt": random.Random(version).randbytes(size),
        "golden.json": b'{"columns": ["close"], "rows": [[1.0]], "score": [0.5]}',
    }
    entries = {name: file_entry(body) for name, body in contents.items()}
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "rb-trend",
        "version": version,
        "framework": "lightgbm",
        "schema": {"features": [{"name": "close"}]},
        "output": {"kind": "probability", "neutral": 0.5},
        "library": {"lightgbm": "4.6.0"},
        "artifact": "model.txt",
        "golden": {},
        "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in entries.items()},
    }
    manifest["digest"] = bundle_digest(json.dumps(manifest).encode())
    folder.mkdir(parents=True)
    for name, body in (contents | {"manifest.json": json.dumps(manifest).encode()}).items():
        (folder / name).write_bytes(body)
    return Made(folder, manifest["digest"])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "rb-trend-7", "7", 3_000_000)


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "rb-trend-8", "8", 20_000)


@pytest.fixture(scope="session")
def archive(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    bundle = Command({})
    bundle("push", made.folder, f"file://{folder}/")
    return folder / "rb-trend-7.tar"


class Command:
    """``signalyard bundle …``, as a process of its own, with these variables."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables

    def start(self, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        if not COMMAND.exists():
            pytest.fail(f"{COMMAND} is not there: run `make setup`")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return subprocess.Popen(
            [COMMAND, "bundle", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean | self.variables | variables,
        )

    def __call__(self, *arguments: object, exit: int = 0, **variables: str) -> str:
        """What it printed; on its error stream where it is to fail."""
        process = self.start(*arguments, **variables)
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == exit, stderr
        return stderr if exit else stdout


@pytest.fixture
def bundle() -> Command:
    return Command({})


@dataclass
class Asked:
    """A request as a server saw it, and how many bytes of a body it sent."""

    method: str
    path: str
    range: str | None
    sent: int = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.asked: list[Asked] = []
        self.place = f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what the tests are about."""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


class Misbehaving(Server):
    """Serves one file under names that say how: see ``_Shelf``."""

    def __init__(self, body: bytes) -> None:
        super().__init__(_Shelf)
        self.body = body
        self.cuts = 0
        self.gate = threading.Event()
        self.reached = threading.Event()


class _Shelf(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Misbehaving

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        how = self.path.strip("/").removesuffix(".tar")
        asked = Asked("GET", self.path, self.headers.get("Range"))
        self.server.asked.append(asked)
        if how.isdigit():
            self.send_error(int(how))
            return
        body = self.server.body
        start = 0
        if asked.range and how != "noranges":
            start = int(re.fullmatch(r"bytes=(\d+)-", asked.range)[1])  # type: ignore[index]
            if start >= len(body):
                self.send_error(416)
                return
        if how == "otherbytes":
            body = body.replace(b"close", b"clos3")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body)
        if how in ("cut", "noranges") and self.server.cuts > 0:
            self.server.cuts -= 1
            end = start + (len(body) - start) // 2
        for place in range(start, end, 64 * 1024):
            if how == "gated" and place > len(body) // 2 and not self.server.gate.is_set():
                self.wfile.flush()
                self.server.reached.set()
                self.server.gate.wait(PATIENCE)
            if how == "dribble":
                for each in range(place, place + 60):
                    self.wfile.write(body[each : each + 1])
                    self.wfile.flush()
                    time.sleep(0.05)
            asked.sent += self.wfile.write(body[place : min(place + 64 * 1024, end)])
        self.close_connection = end < len(body)


@pytest.fixture
def shop(archive: Path) -> Iterator[Misbehaving]:
    with running(Misbehaving(archive.read_bytes())) as server:
        assert isinstance(server, Misbehaving)
        yield server


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None:
            pytest.fail(f"{what} ended with {process.returncode}")
        if time.monotonic() > deadline:
            pytest.fail(f"{what} is not ready")
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command with the variables of an S3 API that has the bucket ``models``."""
    if not MOTO.exists():
        pytest.fail(f"{MOTO} is not there: run `make .venv/s3/.ready`")
    place = f"127.0.0.1:{free_port()}"
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", place.split(":")[1]], stdout=out, stderr=out)
    try:
        wait_for(lambda: answers(f"http://{place}/moto-api/"), process, "moto")
        urllib.request.urlopen(urllib.request.Request(f"http://{place}/models", method="PUT"), timeout=30).close()
        yield Command(
            {
                "AWS_ENDPOINT": f"http://{place}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "s3cret-key",
            }
        )
    finally:
        process.kill()
        process.wait(PATIENCE)


@dataclass
class Registry:
    """A registry under HOST:PORT; ``asked`` stays empty where it is a process that does not tell."""

    place: str
    asked: list[Asked] = field(default_factory=list)


def real() -> bool:
    """`make test-registry` asks Debian's docker-registry; `make test`, which needs no package manager, the small one below."""
    return os.environ.get("REGISTRY") == "docker-registry"


@contextmanager
def registry_server(folder: Path, auth: str | None = None) -> Iterator[Registry]:
    if not real():
        with running(SmallRegistry(auth)) as small:
            yield Registry(small.place, small.asked)
        return
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is not there: run `make test-registry`, which installs it")
    place = f"127.0.0.1:{free_port()}"
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": place},
    }
    if auth:
        (folder / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "models", "path": str(folder / "htpasswd")}}
    (folder / "settings.yml").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [program, "serve", folder / "settings.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: answers(f"http://{place}/v2/"), process, "docker-registry")
        yield Registry(place)
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_server(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def odd_registry() -> Iterator["SmallRegistry"]:
    """One that can be made to misbehave, which Debian's cannot."""
    with running(SmallRegistry(None)) as server:
        assert isinstance(server, SmallRegistry)
        yield server


@pytest.fixture(params=["basic", "bearer"])
def closed_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """One that wants USER and PASSWORD. docker-registry checks no tokens without a service that makes them."""
    auth = "basic" if real() else request.param
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry_server(folder, auth) as server:
        yield server


@pytest.fixture
def docker_config(tmp_path: Path) -> Callable[[str], str]:
    """A folder for DOCKER_CONFIG with the account at a registry."""

    def write(place: str) -> str:
        folder = tmp_path / "docker"
        folder.mkdir()
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {place: {"auth": auth}}}))
        return str(folder)

    return write


class SmallRegistry(Server):
    """What the OCI distribution specification wants of a registry for push and pull, and no more: blobs that are what their digest
    says, manifests whose blobs are there, ranges, and both ways to ask who it is."""

    def __init__(self, auth: str | None) -> None:
        super().__init__(_Repositories)
        self.auth = auth
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads = 0
        self.cuts = 0
        """So many blobs more end half way."""
        self.dribbles = False
        """Blobs come a byte at a time."""


class _Repositories(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallRegistry

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.server.asked[-1].sent = self._send(body)

    def _send(self, body: bytes) -> int:
        if "/blobs/" in self.path and self.server.cuts > 0:
            self.server.cuts -= 1
            self.close_connection = True
            return self.wfile.write(body[: len(body) // 2])
        if "/blobs/" in self.path and self.server.dribbles:
            for place in range(60):
                self.wfile.write(body[place : place + 1])
                time.sleep(0.05)
            body = body[60:]
        return self.wfile.write(body)

    def _enter(self) -> bytes | None:
        """The request's body, None where it was refused."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(Asked(self.command, self.path, self.headers.get("Range")))
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = self.headers.get("Authorization")
        if self.path.startswith("/token"):
            if given == basic:
                self._answer(200, b'{"token": "t0ken"}')
            else:
                self._answer(401)
            return None
        wanted = {None: given, "basic": basic, "bearer": "Bearer t0ken"}[self.server.auth]
        if given != wanted:
            challenge = {
                "basic": 'Basic realm="models"',
                "bearer": f'Bearer realm="http://{self.server.place}/token",service="models",scope="repository:x:pull,push"',
            }[self.server.auth or ""]
            self._answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', Www_Authenticate=challenge)
            return None
        return body

    def do_GET(self) -> None:
        if self._enter() is None:
            return
        path = urlsplit(self.path).path
        if path == "/v2/":
            self._answer(200, b"{}")
        elif found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            kind, body = self.server.manifests.get((found[1], found[2]), ("", b""))
            if not kind or kind not in (self.headers.get("Accept") or ""):
                self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
            else:
                self._answer(200, body, Content_Type=kind)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", path):
            self._blob(self.server.blobs.get((found[1], found[2])))
        else:
            self._answer(404)

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _blob(self, body: bytes | None) -> None:
        asked = self.headers.get("Range")
        if body is None:
            self._answer(404, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')
        elif asked:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if start >= len(body):
                self._answer(416)
            else:
                self._answer(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self._answer(200, body)

    def do_POST(self) -> None:
        if self._enter() is None:
            return
        found = re.fullmatch(r"/v2/(.+)/blobs/uploads/", self.path)
        assert found
        self.server.uploads += 1
        self._answer(202, Location=f"/v2/{found[1]}/blobs/uploads/{self.server.uploads}")

    def do_PUT(self) -> None:
        body = self._enter()
        if body is None:
            return
        parts = urlsplit(self.path)
        if found := re.fullmatch(r"/v2/(.+)/blobs/uploads/\d+", parts.path):
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            if parse_qs(parts.query).get("digest") != [digest]:
                self._answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
                return
            self.server.blobs[found[1], digest] = body
            self._answer(201)
        elif found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", parts.path):
            document = json.loads(body)
            wanted = [document["config"], *document["layers"]]
            if any(len(self.server.blobs.get((found[1], blob["digest"]), b"")) != blob["size"] for blob in wanted):
                self._answer(400, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}')
                return
            self.server.manifests[found[1], found[2]] = (self.headers["Content-Type"], body)
            self._answer(201)
        else:
            self._answer(404)
