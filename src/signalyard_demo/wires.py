"""The wires that the demonstration can take: what the router is told for each, and the client that goes with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from signalyard.client import Client
from signalyard.clients import BlockingClient, SignalClient
from signalyard_demo.processes import HOST, Children, free_ports


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


def grpc(children: Children, folder: Path) -> Wire:
    """gRPC, the same JSON in its messages."""
    from signalyard.wires.grpc import GrpcWire

    (port,) = free_ports(1)
    options = ("--grpc-port", str(port))
    return Wire(options, lambda url, deadline: BlockingClient(lambda: GrpcWire(f"{HOST}:{port}"), deadline))


WIRES: Mapping[str, Callable[[Children, Path], Wire]] = {"rest": rest, "zeromq": zeromq, "grpc": grpc}
"""By name. Each is made for one run: it may start what it needs besides the router among the children, with its files in the folder."""
