"""The router as its users start it: a process from its own environment, model servers on real sockets."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.testing.model_server import Behaviour, ModelServer, ServedModel
from signalyard_router.world.real import RealNetwork

ROOT = Path(__file__).resolve().parents[3]
COMMAND = ROOT / ".venv" / "router" / "bin" / "signalyard"
SCHEMA = FeatureSchema((Feature(name="p", minimum=0.0, maximum=1.0), Feature(name="x", missing="native")))
NAME = "rb2410.SHFE"
PATIENCE = 20.0

ROUTE = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb-trend}}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: {deadline}
  tracks:
    - {{name: stable,  version: "7", weight: 100, endpoint: {{service: 127.0.0.1, port: {stable}}}}}
    - {{name: standby, version: "6", endpoint: {{service: 127.0.0.1, port: {standby}}}}}
  mapping: {{long: {{enter: 0.6}}, short: {{enter: 0.4}}, otherwise: abstain}}
"""


class Models(threading.Thread):
    """Two model servers, 7 and 6, on a loop of their own; their switches are plain attributes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.servers = {version: self._server(version) for version in ("7", "6")}
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()

    @staticmethod
    def _server(version):
        card = ModelCard(
            model="rb-trend", version=version, digest=f"sha256:{version * 64}", calibrated=False, schema=SCHEMA
        )
        return ModelServer([ServedModel(card=card, score=lambda rows: [row[0] for row in rows])])

    def run(self):
        asyncio.set_event_loop(self._loop)
        for server in self.servers.values():
            self._loop.run_until_complete(server.start(RealNetwork()))
        self._loop.call_soon(self._listening.set)
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def __enter__(self):
        self.start()
        assert self._listening.wait(PATIENCE)
        self.ports = {version: server.port for version, server in self.servers.items()}
        return self

    def __exit__(self, *_):
        for server in self.servers.values():
            self._loop.call_soon_threadsafe(server.stop)
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.05, self._loop.stop)
        self.join(PATIENCE)

    def behave(self, version, behaviour):
        self.servers[version].behaviour = Behaviour(behaviour)

    def stop_one(self, version):
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (self.servers[version].stop(), done.set()))
        assert done.wait(PATIENCE)

    def start_one(self, version):
        coming = self.servers[version].start(RealNetwork(), port=self.ports[version])
        asyncio.run_coroutine_threadsafe(coming, self._loop).result(PATIENCE)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def certified(tmp_path):
    """A certificate for 127.0.0.1, which vouches for itself, and its key: two files."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return certificate, key


class RouterProcess:
    """`signalyard router`, started, waited for, killed."""

    def __init__(self, folder, ports, deadline="100ms", **environment):
        self.folder = folder
        self.journal = folder / "journal"
        self.routes = folder / "routes"
        self.routes.mkdir(exist_ok=True)
        self.write_route(ROUTE.format(deadline=deadline, stable=ports["7"], standby=ports["6"]))
        self.port, self.admin_port = free_port(), free_port()
        self.environment = environment
        self.process = None
        self.log = (folder / "router.log").open("a")

    def write_route(self, text, name="rb.yaml"):
        (self.routes / name).write_text(text)

    def spawn(self, *options, prefix=()):
        command = [*prefix, str(COMMAND), "router", "--routes", str(self.routes), "--journal", str(self.journal)]
        command += ["--port", str(self.port), "--admin-port", str(self.admin_port), *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=os.environ | self.environment
        )
        return self.process

    def start(self, *options, prefix=()):
        self.spawn(*options, prefix=prefix)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert self.process.poll() is None, self.said()
            try:
                if self.get("/readyz")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the router did not become ready\n{self.said()}")

    def said(self):
        self.log.flush()
        return (self.folder / "router.log").read_text()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path):
        connection = self.connection()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            if "json" in (answer.getheader("content-type") or ""):
                body = json.loads(body)
            return answer.status, body
        finally:
            connection.close()

    def post(self, body, headers=None):
        connection = self.connection()
        try:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request("POST", "/v1/predict", data, {"content-type": "application/json"} | (headers or {}))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    @staticmethod
    def snapshot(p, symbol=NAME, **more):
        features = p if isinstance(p, dict) else {"p": p}
        return {"symbol": symbol, "ts_event": time.time_ns(), "features": features} | more

    def ask(self, p, symbol=NAME, **more):
        status, decision = self.post(self.snapshot(p, symbol, **more))
        assert status == 200, decision
        return decision

    def run(self, *words, **environment):
        """Another command of the same installation."""
        return subprocess.run(
            [str(COMMAND), *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=os.environ | environment,
        )

    def lever(self, *words, **environment):
        """`signalyard route ...` on this router."""
        return self.run("route", "--admin", f"http://127.0.0.1:{self.admin_port}", *words, **environment)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait(PATIENCE)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def records(self, kind="decision"):
        # a line that is being written has no end yet
        lines = [
            line
            for path in sorted(self.journal.glob("journal-*"))
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(PATIENCE)
        self.log.close()


@pytest.fixture
def models():
    with Models() as running:
        yield running


@pytest.fixture
def router(tmp_path, models):
    process = RouterProcess(tmp_path, models.ports)
    yield process
    process.close()


@pytest.fixture(scope="module")
def module_router(tmp_path_factory):
    """One for all tests of a module; they leave it running."""
    with Models() as running:
        process = RouterProcess(tmp_path_factory.mktemp("router"), running.ports)
        yield process
        process.close()
