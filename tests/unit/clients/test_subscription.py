"""Subscriptions over a feed that comes and goes."""

import asyncio
import threading
from contextlib import asynccontextmanager

from tests.unit.clients.conftest import NOW, SECOND, opinion, signal, state

from signalyard.following import Wanted
from signalyard.problems import Problem, error
from signalyard.subscription import AsyncSubscription, Following, Subscription
from signalyard.wire import Opinion


class Feed:
    """Plays connections: each is what comes on it, or why there is none."""

    def __init__(self, *connections, states=()):
        self.connections = list(connections)
        self.states = list(states)
        self.last = asyncio.Event()

    @asynccontextmanager
    async def signals(self, wanted):
        if not self.connections:
            self.last.set()
            await asyncio.get_running_loop().create_future()
        connection = self.connections.pop(0)
        if isinstance(connection, Exception):
            raise connection
        yield self._each(connection)

    async def _each(self, signals):
        for one in signals:
            if isinstance(one, Exception):
                raise one
            yield one

    async def state(self):
        found = self.states.pop(0) if self.states else state()
        if isinstance(found, Exception):
            raise found
        return found


def play(feed, count, now=lambda: NOW):
    """The updates that a subscription gives, and what it counted."""

    async def run():
        async with AsyncSubscription(feed, Wanted(), now) as subscription:
            got = [await subscription.next(5) for _ in range(count)]
            await asyncio.wait_for(feed.last.wait(), 5)
            assert await subscription.next(0) is None
            return got, subscription.counts

    return asyncio.run(run())


def seqs(updates):
    return [(type(one).__name__, one.seq) for one in updates]


def test_it_connects_again_and_gives_nothing_twice():
    feed = Feed([signal(1), signal(2)], OSError("refused"), [signal(2), signal(3)], [OSError("reset")])
    got, counts = play(feed, 3)
    assert seqs(got) == [("Signal", 1), ("Signal", 2), ("Signal", 3)]
    assert (counts.connected, counts.repeated, counts.gaps) == (3, 1, 0)


def test_on_connecting_it_is_told_what_it_missed():
    feed = Feed([signal(1)], [signal(5)], states=[state(), state(opinion(signal(4)))])
    got, counts = play(feed, 3)
    assert seqs(got) == [("Signal", 1), ("Opinion", 4), ("Signal", 5)]
    assert counts.gaps == 0


def test_after_a_gap_it_asks_what_else_is_missing():
    other = opinion(signal(8, "ag.SHFE"))
    feed = Feed([signal(1), signal(4)], states=[state(), state(opinion(signal(4)), other)])
    got, counts = play(feed, 3)
    assert seqs(got) == [("Signal", 1), ("Signal", 4), ("Opinion", 8)]
    assert counts.gaps == 1


def test_without_the_state_there_is_no_connection():
    feed = Feed([signal(1)], [signal(1)], states=[error(Problem.ROUTER_UNREACHABLE, "away"), state()])
    got, counts = play(feed, 1)
    assert seqs(got) == [("Signal", 1)]
    assert counts.connected == 1


def test_what_expires_while_it_waits_for_the_strategy_is_dropped():
    times = iter([NOW, NOW, NOW + SECOND, NOW + SECOND, NOW + SECOND, NOW + SECOND])

    async def run():
        feed = Feed([signal(1, expires=1), signal(2)])
        async with AsyncSubscription(feed, Wanted(), lambda: next(times)) as subscription:
            await asyncio.wait_for(feed.last.wait(), 5)
            got = await subscription.next(5)
            return got.seq, subscription.counts.expired

    assert asyncio.run(run()) == (2, 1)


def test_a_strategy_that_takes_nothing_finds_the_newest_of_each_instrument():
    async def run():
        feed = Feed([signal(seq, symbol) for seq in range(1, 100) for symbol in ("ag.SHFE", "rb.SHFE")])
        following = Following(feed, Wanted(), lambda: NOW, most=4)
        task = asyncio.create_task(following.run())
        await asyncio.wait_for(feed.last.wait(), 5)
        task.cancel()
        await asyncio.wait([task])
        got = []
        while (update := following.taken()) is not None:
            got.append((update.symbol, update.seq))
        return got, following.counts.dropped

    got, dropped = asyncio.run(run())
    assert got == [("ag.SHFE", 98), ("rb.SHFE", 98), ("ag.SHFE", 99), ("rb.SHFE", 99)]
    assert dropped == 194


def test_a_thread_waits_no_longer_than_it_said():
    feed = Feed()
    following = Following(feed, Wanted(), lambda: NOW)
    subscription = Subscription(following, following.waiting.close)
    assert subscription.next(0.01) is None
    waiter = threading.Thread(target=lambda: list(subscription), daemon=True)
    waiter.start()
    subscription.close()
    waiter.join(5)
    assert not waiter.is_alive()


def test_a_thread_gets_what_another_brings():
    following = Following(Feed(), Wanted(), lambda: NOW)
    subscription = Subscription(following, following.waiting.close)
    threading.Timer(0.01, lambda: following.waiting.put(opinion(signal(7)))).start()
    update = subscription.next(5)
    assert isinstance(update, Opinion)
    assert update.seq == 7
