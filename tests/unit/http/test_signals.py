"""Streams of signals in virtual time."""

import asyncio
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from tests.unit.journal.conftest import scored

from signalyard._server.request import Request
from signalyard.words import Outcome
from signalyard_router.adapters.http.signals import SignalStreams
from signalyard_router.rules.record import Settlement, record_of
from signalyard_router.testing.sim.loop import SimLoop
from signalyard_router.testing.world import ManualClock


class Line:
    """A connection whose client reads all that is written, and its transport."""

    gone = False

    def __init__(self) -> None:
        self.transport = self
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def answers(self, request: Request) -> bool:
        return True

    async def writable(self) -> None:
        pass

    def finish(self) -> None:
        self.gone = True


def test_a_stream_says_that_it_lives_while_all_signals_are_for_others() -> None:
    line, streams = Line(), SignalStreams(ManualClock(), CollectorRegistry())
    shared: Any = SimpleNamespace(connections={line: None})

    async def scenario() -> None:
        reading = asyncio.create_task(streams.serve(shared, Request("GET", "/v1/signals", b"", ()), "ag.SHFE", None))
        for seq in range(1, 31):
            await asyncio.sleep(1)
            settlement = Settlement(Outcome.EMITTED, seq=seq, prev_seq=seq - 1)
            streams.observe([record_of(scored(5 * seq), settlement, seq=seq, t=1, epoch=1, elapsed=0)])
        streams.close()
        await reading

    loop = SimLoop()
    loop.run_until_complete(scenario())
    loop.close()
    _, retry, *beats = line.written
    assert (retry, beats) == (b"retry: 100\n\n", [b":\n\n"] * 6)
