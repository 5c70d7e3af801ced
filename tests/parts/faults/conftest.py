"""The router's process of tests/parts/router, and what can be put between it and its model servers."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import resource
import socket
import struct
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from signalyard import Client, SignalyardError, Snapshot

PATIENCE = 30.0


def _shared(path):
    spec = importlib.util.spec_from_file_location("signalyard_tests_router_parts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parts = _shared(Path(__file__).parents[1] / "router" / "conftest.py")
Models, RouterProcess = parts.Models, parts.RouterProcess
RouterProcess.command = parts.COMMAND


def until(condition, what="it did not come about"):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Proxy(threading.Thread):
    """Stands before a model server, and goes wrong in the ways in which networks do. ``mode`` is a plain attribute.

    forward; late: after ``late`` seconds; deaf: accept, read nothing; vanish: connections stay open and carry nothing more, as
    when the peer's machine loses power; reset; garbage: answer with the next of ``blobs``.
    """

    def __init__(self, port):
        super().__init__(daemon=True)
        self.behind = port
        self.mode = "forward"
        self.late = 0.0
        self.blobs = itertools.cycle([b"\x00\xff\r\n\r\n"])
        self.met = Counter()  # requests (as reads) by the mode that met them
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._tasks = set()

    def run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._listening.set()
        self._loop.run_forever()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _listen(self, port=0):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    def __enter__(self):
        self.start()
        assert self._listening.wait(PATIENCE)
        return self

    def __exit__(self, *_):
        def stop():
            self._server.close()
            self._loop.stop()

        self._loop.call_soon_threadsafe(stop)
        self.join(PATIENCE)

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def unlisten(self):
        """Listen no more, and cut every connection."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen_again(self):
        await self._listen(self.port)

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        back = None
        try:
            inner, back = await asyncio.open_connection("127.0.0.1", self.behind)
            pump = self._loop.create_task(self._answers(inner, writer))
            try:
                await self._requests(reader, writer, back)
            finally:
                pump.cancel()
                await asyncio.wait([pump])
        except (OSError, asyncio.CancelledError):
            pass  # cancelled by unlisten or at the end
        finally:
            self._tasks.discard(task)
            for end in (writer, back):
                if end is not None:
                    end.transport.abort()

    async def _requests(self, reader, writer, back):
        while True:
            if self.mode == "deaf":
                await asyncio.sleep(0.02)
                continue
            data = await reader.read(65536)
            if not data:
                return
            self.met[self.mode] += 1
            match self.mode:
                case "forward":
                    back.write(data)
                case "late":
                    await asyncio.sleep(self.late)
                    back.write(data)
                case "garbage":
                    writer.write(next(self.blobs))
                    await writer.drain()
                    return
                case "reset":
                    end = writer.get_extra_info("socket")
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return

    async def _answers(self, inner, writer):
        while data := await inner.read(65536):
            if self.mode != "vanish":
                writer.write(data)


class Load:
    """Strategies that ask without a pause and send again what they got no decision for, as `docs` tell them to.

    A retry is the same snapshot, so the same decision; ``decisions`` are (snapshot, decision), ``failures`` the problems that
    attempts met. Every strategy has instruments of its own.
    """

    def __init__(self, url, strategies=3, deadline=0.5, score=lambda step: 0.9 if step % 2 else 0.1, pause=0.002):
        self.url, self.deadline, self.score, self.pause = url, deadline, score, pause
        self.decisions = []
        self.failures = Counter()
        self.retried = 0
        self.broken = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(strategies)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self.broken, self.broken

    def more(self, count):
        """Wait for so many more decisions."""
        wanted = len(self.decisions) + count
        until(lambda: self.broken or len(self.decisions) >= wanted, f"{wanted} decisions: {self.failures}")
        assert not self.broken, self.broken

    def _run(self, number):
        try:
            with Client(self.url, deadline=self.deadline, connections=1) as client:
                for step in itertools.count():
                    if self._stop.is_set():
                        return
                    snapshot = Snapshot(
                        symbol=f"rb{number}{step % 7}.SHFE", ts_event=time.time_ns(), features={"p": self.score(step)}
                    )
                    self._insist(client, snapshot)
                    time.sleep(self.pause)
        except Exception as exc:  # noqa: BLE001 -- told to the test, which fails by it
            self.broken.append(repr(exc))

    def _insist(self, client, snapshot):
        give_up = time.monotonic() + PATIENCE
        for attempt in itertools.count():
            try:
                decision = client.predict_one(snapshot)
            except SignalyardError as exc:
                self.failures[str(exc.problem)] += 1
                if exc.problem in ("snapshot_too_old",):
                    return  # what a retry that comes too late is told
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
                continue
            if decision.outcome == "unknown" or decision.reason == "journal_unavailable":
                self.failures[str(decision.reason)] += 1
                time.sleep(0.01)
                continue
            self.decisions.append((snapshot, decision))
            self.retried += attempt > 0
            return


def check_record(router, load, *, every=True):
    """What was answered is what is recorded, once each."""
    records = {}
    for record in router.records():
        if record["outcome"] != "rejected":
            assert record["proposal_id"] not in records, "settled twice"
            records[record["proposal_id"]] = record
    for snapshot, decision in load.decisions:
        record = records[decision.proposal_id]
        assert (record["symbol"], record["ts_event"]) == (snapshot.symbol, snapshot.ts_event)
        assert (record["outcome"], record.get("reason")) == (decision.outcome, decision.reason)
        assert record.get("signal_id") == (decision.signal.signal_id if decision.signal else None)
    signals = [record["signal_id"] for record in records.values() if record["outcome"] == "emitted"]
    assert len(signals) == len(set(signals))
    verified = router.run("journal", "verify", "--journal", str(router.journal))
    assert verified.returncode == 0, verified.stderr
    return records


@contextlib.contextmanager
def many_files():
    """As many open files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(pid):
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Tools:
    """What the tests of this folder share; a test module cannot import its neighbour."""

    until = staticmethod(until)
    check_record = staticmethod(check_record)
    many_files = staticmethod(many_files)
    memory = staticmethod(memory)
    Proxy, Load, Models, RouterProcess = Proxy, Load, Models, RouterProcess
    PATIENCE = PATIENCE


@pytest.fixture
def tools():
    return Tools


@pytest.fixture
def models():
    with Models() as running:
        yield running


@pytest.fixture
def router(tmp_path, models):
    process = RouterProcess(tmp_path, models.ports, deadline="300ms")
    yield process
    process.close()


@pytest.fixture
def proxied(tmp_path, models):
    """A router whose stable version is behind a proxy, and the proxy."""
    with Proxy(models.ports["7"]) as proxy:
        process = RouterProcess(tmp_path, models.ports | {"7": proxy.port}, deadline="300ms")
        process.start()
        assert process.ask(0.9)["signal"]["version"] == "7"
        yield process, proxy
        process.close()
