"""The load client against servers whose every delay is known, in virtual time: percentiles come out exactly."""

import asyncio
import random

import pytest

from signalyard_bench.load import Load, LoadError
from signalyard_bench.stats import Ratio, percentile
from signalyard_router.testing.sim.loop import SimLoop
from signalyard_router.testing.sim.network import Node, SimNetwork

MILLISECOND = 1_000_000


def answer(body=b'{"outcome":"emitted"}', status=200):
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class Server(asyncio.Protocol):
    """Answers the n-th request after ``delays(n)`` seconds of its own, one at a time over all connections."""

    free_at = 0.0
    served = 0

    def __init__(self, delays, parts=1, data=None):
        self.delays, self.parts, self.data = delays, parts, answer() if data is None else data

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        loop = asyncio.get_running_loop()
        cls = type(self)
        cls.served += 1
        cls.free_at = max(cls.free_at, loop.time()) + self.delays(cls.served)
        size = -(-len(self.data) // self.parts)
        for index, start in enumerate(range(0, len(self.data), size)):
            loop.call_at(cls.free_at + index * 1e-6, self.transport.write, self.data[start : start + size])


def measured(run, lanes=1, **server):
    """``run(load)`` against the server, on a network that takes no time."""
    loop = SimLoop()
    network = SimNetwork(loop, random.Random(1))
    network.weather.latency = (0.0, 0.0)
    kind = type("Fresh", (Server,), {})

    async def scenario():
        node, client = Node("server"), Node("client")
        await network.of(node).listen(lambda: kind(**server), "server", 80)
        load = Load(network.of(client), lambda: loop.now, lambda: b"GET")
        await load.connect("server", 80, lanes)
        return await run(load)

    try:
        return loop.run_until_complete(scenario())
    finally:
        loop.close()


def closed(seconds):
    return lambda load: load.closed(seconds)


def test_percentiles_are_nearest_ranks():
    ordered = list(range(1, 1001))
    assert [percentile(ordered, percent) for percent in (0, 50, 99, 99.9, 100)] == [1, 500, 990, 999, 1000]
    assert percentile([7], 99) == 7


def test_a_steady_delay_is_every_percentile():
    outcome = measured(closed(1.0), delays=lambda n: 0.002)
    assert len(outcome.latencies) == 500
    assert [outcome.at(percent) for percent in (0, 50, 100)] == pytest.approx([2.0, 2.0, 2.0], abs=0.001)
    assert outcome.rate == pytest.approx(500, rel=0.01)


def test_closed_loop_shows_a_stall_in_its_rank_and_with_its_length():
    outcome = measured(closed(1.0), delays=lambda n: 0.050 if n == 100 else 0.001)
    answers = len(outcome.latencies)
    assert answers == 951
    assert outcome.at(100) == pytest.approx(50, abs=0.001)
    assert outcome.at(99.9) == pytest.approx(50, abs=0.001)  # rank 951 of 951
    assert outcome.at(99.8) == pytest.approx(1, abs=0.001)
    assert outcome.within(49) == 950 / 951


def test_open_loop_shows_everyone_who_waited_for_the_stall():
    """A stall of 50 ms at 1,000 requests a second makes 50 of them late: by 50 ms, 49, 48 and so on, for the server is as fast
    as they come and no faster afterwards. A client that waits with its next request would show one late answer."""
    outcome = measured(lambda load: load.open(1000, 1.0), delays=lambda n: 0.050 if n == 100 else 0.0, lanes=64)
    late = sorted(round(latency / MILLISECOND) for latency in outcome.latencies if latency > 0.5 * MILLISECOND)
    assert len(outcome.latencies) == 1000
    assert late == list(range(1, 51))
    assert outcome.at(95) == pytest.approx(0, abs=0.01)
    assert outcome.at(99) == pytest.approx(40, abs=0.01)
    assert outcome.at(100) == pytest.approx(50, abs=0.01)


def test_open_loop_counts_the_wait_for_a_free_connection():
    outcome = measured(lambda load: load.open(1000, 1.0), delays=lambda n: 0.050 if n == 100 else 0.0, lanes=1)
    late = sorted(round(latency / MILLISECOND) for latency in outcome.latencies if latency > 0.5 * MILLISECOND)
    assert late == list(range(1, 51))


def test_answers_in_pieces_are_read_whole():
    outcome = measured(closed(0.1), delays=lambda n: 0.001, parts=20)
    assert outcome.statuses == {200: 99}  # each takes 1 ms and some microseconds
    assert outcome.kinds == {"emitted": 99}


def test_statuses_are_counted():
    outcome = measured(closed(0.01), delays=lambda n: 0.001, data=answer(b"{}", 503))
    assert set(outcome.statuses) == {503}
    assert not outcome.kinds


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "not an answer"),
        (answer() + b"HTTP", "more than an answer"),
    ],
)
def test_what_is_no_answer_ends_the_run(data, text):
    with pytest.raises(LoadError, match=text):
        measured(closed(0.1), delays=lambda n: 0.001, data=data)


def test_a_request_without_an_answer_ends_the_run():
    with pytest.raises(LoadError, match="1 requests got no answer"):
        measured(closed(0.1), delays=lambda n: 3600.0 if n == 5 else 0.001)


def test_ratios_are_pair_by_pair():
    ratio = Ratio.of([10, 30, 20], [5, 10, 20])
    assert (ratio.median, ratio.lowest, ratio.highest) == (2.0, 1.0, 3.0)
    assert str(ratio) == "2.00 (1.00-3.00)"
