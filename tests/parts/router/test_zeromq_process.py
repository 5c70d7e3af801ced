"""The router as a process, over ZeroMQ: asked, followed, told to end under load, and started again."""

import asyncio
import time

import msgspec
import pytest
import zmq
from tests.parts.router.conftest import NAME, PATIENCE, free_port

from signalyard import AsyncClient, Direction, Outcome, Snapshot
from signalyard.wires.zeromq import VERSION, ZeromqWire

pytestmark = pytest.mark.parts


@pytest.fixture
def addresses():
    return tuple(f"tcp://127.0.0.1:{free_port()}" for _ in range(2))


def options(addresses):
    return ("--zeromq-requests", addresses[0], "--zeromq-signals", addresses[1])


def snapshot(p, symbol=NAME):
    return Snapshot(symbol=symbol, ts_event=time.time_ns(), features={"p": p})


def test_a_signal_reaches_who_asked_who_follows_and_who_comes_late(router, addresses):
    async def scenario():
        async with AsyncClient(ZeromqWire(*addresses), deadline=PATIENCE) as client:
            following = client.subscribe(NAME)
            while not following.counts.connected:  # noqa: ASYNC110 -- it is the kernel that is waited for
                await asyncio.sleep(0.01)
            decision = await client.predict_one(snapshot(0.9))
            assert (decision.outcome, decision.signal.signal) == (Outcome.EMITTED, Direction.LONG)
            assert await following.next(PATIENCE) == decision.signal
            late = await client.subscribe().next(PATIENCE)
            assert (late.signal_id, late.signal) == (decision.signal.signal_id, Direction.LONG)
            (opinion,) = (await client.state(NAME)).opinions
            assert opinion.signal_id == decision.signal.signal_id

    router.start(*options(addresses))
    asyncio.run(asyncio.wait_for(scenario(), 4 * PATIENCE))
    assert router.terminate() == 0


def test_a_shutdown_under_load_loses_no_request_and_records_each_once(router, addresses):
    answered = []

    async def load(client, number, stop):
        while not stop.is_set():
            asked = snapshot(0.9 if len(answered) % 2 else 0.1, f"rb{number}.SHFE")
            answered.append((asked, await client.predict_one(asked)))

    async def scenario():
        stop = asyncio.Event()
        async with AsyncClient(ZeromqWire(*addresses), deadline=2 * PATIENCE) as client:
            loads = [asyncio.create_task(load(client, number, stop)) for number in range(8)]
            await until(lambda: len(answered) > 50)
            assert await asyncio.to_thread(router.terminate) == 0
            before = len(answered)
            await asyncio.to_thread(router.start, *options(addresses))
            await until(lambda: len(answered) > before + 50)
            stop.set()
            await asyncio.gather(*loads)

    async def until(condition):
        async with asyncio.timeout(2 * PATIENCE):
            while not condition():  # noqa: ASYNC110 -- another process is waited for
                await asyncio.sleep(0.01)

    text = (router.routes / "rb.yaml").read_text()
    router.write_route(
        text.replace("  deadline:", "  maxAge: 60s\n  deadline:")
    )  # what is asked again was asked before the start
    router.start(*options(addresses))
    asyncio.run(asyncio.wait_for(scenario(), 6 * PATIENCE))
    assert router.terminate() == 0
    recorded = [record["proposal_id"] for record in router.records()]
    assert len(set(recorded)) == len(recorded)
    assert {decision.proposal_id for _, decision in answered} <= set(recorded)
    assert all(decision.ts_event == asked.ts_event for asked, decision in answered)


def test_what_the_journal_emitted_is_published_after_a_crash(router, addresses):
    async def scenario():
        async with AsyncClient(ZeromqWire(*addresses), deadline=PATIENCE) as client:
            following = client.subscribe(NAME)
            while not following.counts.connected:  # noqa: ASYNC110 -- it is the kernel that is waited for
                await asyncio.sleep(0.01)
            first = await client.predict_one(snapshot(0.9))
            await asyncio.to_thread(router.kill)
            await asyncio.to_thread(router.start, *options(addresses))
            second = await client.predict_one(snapshot(0.1))
            found = [await following.next(PATIENCE) for _ in range(2)]
            assert [update.signal_id for update in found] == [first.signal.signal_id, second.signal.signal_id]
            # Either may have come as the state's opinion, where the subscriber was slower to be back; what follows comes by itself.
            third = await client.predict_one(snapshot(0.9))
            assert await following.next(PATIENCE) == third.signal

    text = (router.routes / "rb.yaml").read_text()
    router.write_route(
        text.replace("  deadline:", "  maxAge: 60s\n  deadline:")
    )  # what is asked again was asked before the start
    router.start(*options(addresses))
    asyncio.run(asyncio.wait_for(scenario(), 6 * PATIENCE))


def test_a_shutdown_decides_on_the_snapshots_that_were_read(router, models):
    symbols = [f"rb{number}.SHFE" for number in range(20)]
    text = (router.routes / "rb.yaml").read_text()
    router.write_route(text.replace("deadline: 100ms", "deadline: 10s"))
    models.behave("7", "late")
    models.servers["7"].late_seconds = 1.5
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        router.start("--zeromq-snapshots", f"tcp://127.0.0.1:{port}")
        assert publisher.poll(PATIENCE * 1000)  # its subscription
        for symbol in symbols:
            publisher.send_multipart([b"rb", VERSION, b"snapshot", msgspec.json.encode(snapshot(0.9, symbol))])
        until = time.monotonic() + PATIENCE
        while sum(asked.body.count(b"0.9") for asked in models.servers["7"].inferences) < 20:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert router.records() == []
        assert router.terminate() == 0
    assert sorted(record["symbol"] for record in router.records()) == sorted(symbols)
    assert {record["outcome"] for record in router.records()} == {"emitted"}
