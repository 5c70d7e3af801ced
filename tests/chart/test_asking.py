"""The scripts of `helm test`, against servers that answer with the bytes both halves agreed on."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rendered.charts import HELM

import signalyard

GOLDEN = Path(signalyard.__file__).parent / "golden"
METADATA = json.loads((GOLDEN / "metadata.json").read_text())
ANSWER = {**json.loads((GOLDEN / "response.json").read_text()), "model_version": "7"}
DIGEST = METADATA["inputs"][0]["parameters"]["digest"]
MODEL = "/v2/models/golden/versions/7"
ENOUGH = 30.0


class Server:
    """Answers each path with what is put there, and keeps the bodies of what was posted."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, object]] = {}
        self.posted: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                server.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self._answer()

            def _answer(self) -> None:
                status, body = server.answers.get(self.path, (404, {"error": "no such path"}))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is printed."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def ask(self, chart: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the chart's script as its pod does."""
        script = (HELM / chart / "files" / "tests" / "ask.py").read_text()
        address = f"http://127.0.0.1:{self._http.server_address[1]}"
        return subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "ADDRESS": address, **environment},
            capture_output=True,
            text=True,
            timeout=ENOUGH,
            check=False,
        )

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def ask_model(server: Server, digest: str = DIGEST) -> subprocess.CompletedProcess[str]:
    return server.ask("model", MODEL="golden", VERSION="7", DIGEST=digest)


def test_a_model_that_answers_passes(server: Server) -> None:
    server.answers = {MODEL: (200, METADATA), f"{MODEL}/infer": (200, ANSWER)}
    done = ask_model(server)
    assert (done.returncode, done.stderr) == (0, "")
    assert DIGEST in done.stdout
    (body,) = server.posted
    (features,) = body["inputs"]
    assert (features["shape"], features["data"]) == ([1, 2], [0.0, 0.0])
    assert json.loads(features["parameters"]["columns"]) == ["close", "ret_5"]


def test_another_digest_fails_and_names_both(server: Server) -> None:
    server.answers = {MODEL: (200, METADATA), f"{MODEL}/infer": (200, ANSWER)}
    installed = "sha256:" + "7" * 64
    done = ask_model(server, installed)
    assert done.returncode == 1
    assert DIGEST in done.stderr
    assert installed in done.stderr
    assert server.posted == []


def test_a_model_that_is_not_there_fails(server: Server) -> None:
    done = ask_model(server)
    assert done.returncode == 1
    assert "404" in done.stderr


def test_an_answer_of_another_version_fails(server: Server) -> None:
    server.answers = {MODEL: (200, METADATA), f"{MODEL}/infer": (200, {**ANSWER, "model_version": "6"})}
    done = ask_model(server)
    assert done.returncode == 1
    assert "not an answer of version 7" in done.stderr


def test_a_router_that_is_ready_passes(server: Server) -> None:
    server.answers = {"/readyz": (200, {"status": "ready"}), "/v1/status": (200, {"routes": [{}, {}]})}
    done = server.ask("router")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 route(s)" in done.stdout


def test_a_router_that_is_not_ready_fails_with_its_reasons(server: Server) -> None:
    server.answers = {"/readyz": (503, {"reasons": ["the journal cannot be written"]})}
    done = server.ask("router")
    assert done.returncode == 1
    assert "503" in done.stderr
    assert "the journal cannot be written" in done.stderr
