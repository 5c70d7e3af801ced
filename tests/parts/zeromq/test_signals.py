"""Signals to subscribers, on real sockets."""

import asyncio

import pytest
import zmq
from tests.unit.clients.conftest import NOW, signal

from signalyard import AsyncClient
from signalyard.wires.zeromq import ZeromqWire

pytestmark = pytest.mark.parts


def client_of(stage):
    return AsyncClient(ZeromqWire(stage.wire.requests.address, stage.wire.publisher.address))


async def numbers(subscription, count):
    return [(update.symbol[:2], update.seq) for update in [await subscription.next(20) for _ in range(count)]]


def test_each_subscriber_gets_the_last_of_what_it_asked_for_and_all_that_follows(play):
    async def scenario(stage):
        publisher = stage.wire.publisher
        await publisher.send([signal(1), signal(2), signal(5, "ag.SHFE"), signal(9, "al.SHFE", expires=0)])
        async with client_of(stage) as client:
            everything = client.subscribe(now=lambda: NOW)
            assert await numbers(everything, 2) == [("ag", 5), ("rb", 2)]
            one = client.subscribe("rb2410.SHFE", route="r", now=lambda: NOW)
            assert await numbers(one, 1) == [("rb", 2)]
            await publisher.send([signal(6, "ag.SHFE"), signal(3), signal(1, "rb2410.SHFEX")])
            assert await numbers(everything, 3) == [("ag", 6), ("rb", 3), ("rb", 1)]
            assert await numbers(one, 1) == [("rb", 3)]
            assert await one.next(0) is None
            assert await everything.next(0) is None  # what was published for the other one, it had

    play(scenario)


def test_a_subscriber_that_does_not_read_loses_signals_and_the_others_do_not(play):
    async def scenario(stage):
        publisher = stage.wire.publisher
        deaf = stage.peer(zmq.SUB, publisher.address, RCVHWM=1, RCVBUF=4096, SUBSCRIBE=b"")
        async with client_of(stage) as client:
            reading = client.subscribe(now=lambda: NOW)
            await stage.until(lambda: stage.registry.get_sample_value("signalyard_zeromq_subscriptions") == 3)
            wide = "r" * 10_000  # so that the kernel's buffers do not hold all of it
            for first in range(1, 2_001, 50):
                await publisher.send([signal(seq, route=wide) for seq in range(first, first + 50)])
                assert await numbers(reading, 50) == [("rb", seq) for seq in range(first, first + 50)]
            assert stage.dropped("signals") > 0
            assert reading.counts.gaps == 0
        deaf.close(0)

    play(scenario, signals_high_water=100)


def test_after_a_restart_a_subscriber_is_back_and_knows_what_it_missed(play):
    async def scenario(stage):
        requests, signals = stage.wire.requests.address, stage.wire.publisher.address
        client = client_of(stage)
        subscription = client.subscribe(now=lambda: NOW)
        await stage.wire.publisher.send([signal(1)])
        assert await numbers(subscription, 1) == [("rb", 1)]
        await stage.drain()
        await stage.wire.close()
        again = type(stage)(requests=requests, signals=signals)
        try:
            await again.wire.publisher.send([signal(2), signal(3)])
            found = await numbers(subscription, 1)
            assert found[0] in {("rb", 2), ("rb", 3)}
            await again.wire.publisher.send([signal(4)])
            while found[-1] != ("rb", 4):
                found += await numbers(subscription, 1)
            assert ("rb", 3) in found  # live, or as the last of its instrument
        finally:
            await client.close()
            await again.close()

    play(scenario)


def test_without_a_sign_of_life_a_subscriber_connects_again(play):
    async def scenario(stage):
        async with client_of(stage) as client:
            subscription = client.subscribe(now=lambda: NOW)
            await stage.until(lambda: subscription.counts.connected == 1)
            stage.wire._tending.cancel()  # it publishes nothing any more, as a router that hangs
            await stage.until(lambda: subscription.counts.connected == 2)

    play(scenario)


def test_a_subscriber_may_send_what_it_likes(play):
    async def scenario(stage):
        peer = stage.peer(zmq.XSUB, stage.wire.publisher.address)
        for message in (b"", b"\x07what", b"\x01rb", b"\x00rb", b"\x00never", b"\x01" + b"x" * 2_000):
            await peer.send(message)
        async with client_of(stage) as client:
            subscription = client.subscribe(now=lambda: NOW)
            await stage.until(lambda: subscription.counts.connected == 1)
            await stage.wire.publisher.send([signal(1)])
            assert await numbers(subscription, 1) == [("rb", 1)]
        await asyncio.sleep(0)

    play(scenario)
