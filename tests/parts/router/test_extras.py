"""Each wire is an extra: without its library the router and its clients run, and say what is missing where the wire is asked for."""

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))
import signalyard.clients, signalyard.wires.rest
from signalyard.cli import main
main({options!r})
"""


@pytest.mark.parametrize(
    ("missing", "options", "extra"),
    [
        ("zmq", ["--zeromq-requests", "tcp://127.0.0.1:*"], "zeromq"),
        ("grpc", ["--grpc-port", "0"], "grpc"),
        ("redis", ["--redis", "redis://127.0.0.1:1", "--redis-in", "stream"], "redis"),
    ],
    ids=["zeromq", "grpc", "redis"],
)
def test_a_wire_without_its_library_is_refused_at_the_start(router, missing, options, extra):
    ports = ["--port", "0", "--admin-port", "0"]
    command = ["router", "--routes", str(router.routes), "--journal", str(router.journal), *ports, *options]
    program = WITHOUT.format(missing=["zmq", "grpc", "redis"], options=command)
    refused = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1, refused.stderr
    assert f"signalyard[{extra}]" in refused.stderr
    assert f"({missing}" in refused.stderr
    assert "Traceback" not in refused.stderr
