"""``make bench-wires``: every wire into the router, single snapshots and batches, against stock MLServer in the same run.

The router has core 0; the client, and a model server that answers at once, have core 1, as in `alone`, and so has the Redis server. Rates
are snapshots a second; a batch is one columnar request. Stock answers its single rows by REST. The clients of REST and ZeroMQ are made
for load; those of Redis and gRPC are the ones that ship, which are busy before the router is, so that their rates are theirs, and the
router's CPU a snapshot is what compares.
"""

import asyncio
import time
from array import array
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from signalyard.wires.grpc import GrpcWire
from signalyard.wires.redis import RedisWire
from signalyard.wires.wire import Wire
from signalyard_bench import ours
from signalyard_bench.load import Outcome, Requests
from signalyard_bench.rounds import (
    BATCHES,
    CLIENT,
    SERVER,
    Row,
    Setting,
    Subject,
    compared,
    folder,
    named,
    of_rows,
    start_peers,
    warm,
)
from signalyard_bench.servers import Process, free_ports
from signalyard_bench.zeromq import ZeromqLoad

_HOST = "127.0.0.1"
_BUDGET_US = 1_000_000
_LANES: Mapping[int, int] = {1: 64, 10: 16, 100: 4}
"""Requests under way while the rate is measured, by the rows of each: enough that the router, which decides on those together that come
together, has others to decide on while the answers to some are read. How busy it was stands beside each rate."""


class Loaded(Protocol):
    """A server under load over one wire."""

    async def closed(self, lanes: int, seconds: float) -> Outcome:
        """As many requests as are answered in so many seconds, ``lanes`` at a time."""
        ...


@dataclass(frozen=True)
class _Zeromq:
    address: str
    requests: Requests

    async def closed(self, lanes: int, seconds: float) -> Outcome:
        load = ZeromqLoad(self.address, lanes, self.requests)
        try:
            return await load.closed(seconds)
        finally:
            load.close()


@dataclass(frozen=True)
class _Shipped:
    """The wire of a client that ships."""

    open: Callable[[], Wire]
    requests: Requests

    async def closed(self, lanes: int, seconds: float) -> Outcome:
        wire = self.open()
        latencies: array[int] = array("q")
        began = time.perf_counter_ns()
        until = began + int(seconds * 1e9)

        async def lane() -> None:
            while (now := time.perf_counter_ns()) < until:
                await wire.predict(self.requests().partition(b"\r\n\r\n")[2], _BUDGET_US)
                latencies.append(time.perf_counter_ns() - now)

        try:
            await asyncio.gather(*(lane() for _ in range(lanes)))
        finally:
            await wire.close()
        took = (time.perf_counter_ns() - began) / 1e9
        return Outcome(array("q", sorted(latencies)), took, {200: len(latencies)}, {})


def _over(process: Process, zeromq: str, redis: str, grpc: str, requests: Requests) -> dict[str, Loaded]:
    return {
        "REST": Subject(process, requests),
        "ZeroMQ": _Zeromq(zeromq, requests),
        "Redis": _Shipped(lambda: RedisWire(redis), requests),
        "gRPC": _Shipped(lambda: GrpcWire(grpc), requests),
    }


async def wires(setting: Setting) -> list[Row]:
    """Latency of one request at a time, and snapshots a second, by wire and batch."""
    with folder(setting, "wires") as work, ExitStack() as stack:
        peers = start_peers(setting, work, stack)
        model = stack.enter_context(ours.model_server(work, CLIENT))
        ports = free_ports(3)
        zeromq, redis, grpc = f"tcp://{_HOST}:{ports[0]}", f"redis://{_HOST}:{ports[1]}/0", f"{_HOST}:{ports[2]}"
        stack.enter_context(ours.redis(setting.environment("valkey"), work, ports[1], CLIENT))
        router = stack.enter_context(
            ours.router(
                setting.environment("router"),
                work,
                [ours.document(model.port)],
                SERVER,
                options=[
                    *("--zeromq-requests", zeromq, "--grpc-port", str(ports[2])),
                    *("--redis", redis, "--redis-in", "stream", "--redis-consumer", "bench"),
                ],
            )
        )
        loaded: dict[tuple[str, int], Loaded] = {}
        for rows in BATCHES:
            requests = of_rows(rows)
            for wire, subject in _over(router, zeromq, redis, grpc, requests).items():
                loaded[wire, rows] = subject
        await warm(list(peers.values()), max(3.0, setting.seconds))
        for (_, rows), subject in loaded.items():
            await subject.closed(_LANES[rows], max(1.0, setting.seconds / 2))
        p50: dict[tuple[str, int], list[float]] = {key: [] for key in loaded}
        rate: dict[tuple[str, int], list[float]] = {key: [] for key in loaded}
        cpu: dict[tuple[str, int], list[float]] = {key: [] for key in loaded}
        busy: dict[tuple[str, int], list[float]] = {key: [] for key in loaded}
        stock_p50: dict[str, list[float]] = {name: [] for name in peers}
        stock_rate: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(setting.rounds):
            for name, stock in peers.items():
                stock_p50[name].append((await stock.closed(1, setting.seconds)).at(50))
                stock_rate[name].append((await stock.closed(32, setting.seconds)).rate)
            for (wire, rows), subject in loaded.items():
                p50[wire, rows].append((await subject.closed(1, setting.seconds)).at(50))
                used = router.cpu()
                outcome = await subject.closed(_LANES[rows], setting.seconds)
                used = router.cpu() - used
                cpu[wire, rows].append(used / 1000 / len(outcome.latencies) / rows)
                busy[wire, rows].append(used / 1e9 / outcome.seconds)
                rate[wire, rows].append(outcome.rate * rows)
    found: list[Row] = []
    for (wire, rows), figures in p50.items():
        found.append(
            compared(wire, f"p50 of {named(rows)}, one at a time", "ms", figures, stock_p50, "", lambda _: True)
        )
    for (wire, rows), figures in rate.items():
        what = "single" if rows == 1 else f"in batches of {rows}"
        them = dict(stock_rate)
        target, met = "", (lambda _: True)
        if wire != "REST":
            them = {"REST": rate["REST", rows], **them}
            if wire == "ZeroMQ":
                target, met = ">= 1", (lambda ratio: ratio >= 1)
        note = f"{what}: router {median(busy[wire, rows]):.0%} busy"
        found.append(compared(wire, f"snapshots a second, {what}", "/s", figures, them, target, met, note))
    for (wire, rows), figures in cpu.items():
        what = "single" if rows == 1 else f"in batches of {rows}"
        them = {"REST": cpu["REST", rows]} if wire != "REST" else {}
        if them:
            found.append(compared(wire, f"router's CPU a snapshot, {what}", "us", figures, them, "", lambda _: True))
        else:
            found.append(Row(wire, f"router's CPU a snapshot, {what}", "us", figures))
    return found
