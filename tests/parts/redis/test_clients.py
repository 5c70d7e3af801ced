"""The clients' one interface over Redis Streams, with a real router behind a real server."""

import time

import pytest

from signalyard import Snapshot
from signalyard.clients import AsyncClient, BlockingClient
from signalyard.problems import CallerError, RouterError
from signalyard.wires.redis import RedisWire

pytestmark = pytest.mark.parts

PATIENCE = 30.0


def snapshot(score, symbol="rb2410.SHFE", **more):
    return Snapshot(symbol=symbol, ts_event=time.time_ns(), features={"p": score}, **more)


async def test_predict_subscribe_and_state_for_coroutines(router, redis_server):
    router.start()
    async with AsyncClient(RedisWire(redis_server.url), deadline=PATIENCE) as client:
        before = await client.predict_one(snapshot(0.7, "rb1.SHFE"))
        async with client.subscribe("rb1.SHFE") as signals:
            opinion = await anext(signals)
            assert opinion.signal_id == before.signal.signal_id  # what had left before the subscription
            rows = [snapshot(0.3, "rb1.SHFE"), snapshot(0.3, "rb2.SHFE"), snapshot(2.0, "rb3.SHFE")]
            decisions = await client.predict(rows)
            assert [decision.outcome for decision in decisions] == ["emitted", "emitted", "rejected"]
            assert decisions[2].problem.pointer == "/2/features/p"
            after = await anext(signals)
            assert after.signal_id == decisions[0].signal.signal_id
        state = await client.state("rb2.SHFE")
        assert [opinion.signal_id for opinion in state.opinions] == [decisions[1].signal.signal_id]
        again = await client.predict_one(rows[0])
        assert again.signal.signal_id == decisions[0].signal.signal_id
    assert router.terminate() == 0


async def test_a_subscription_goes_on_where_a_killed_server_stopped(router, redis_server):
    router.start()
    client = AsyncClient(RedisWire(redis_server.url), deadline=PATIENCE)
    async with client, client.subscribe("rb1.SHFE") as signals:
        first = await client.predict_one(snapshot(0.7, "rb1.SHFE"))
        assert (await anext(signals)).signal_id == first.signal.signal_id
        redis_server.kill()
        second = router.ask(0.3, "rb1.SHFE")  # the journal is the router's own
        redis_server.start()
        assert (await anext(signals)).signal_id == second["signal"]["signal_id"]
        assert signals.counts.connected >= 2


def test_a_thread_waits_no_longer_than_it_said(router, redis_server):
    client = BlockingClient(lambda: RedisWire(redis_server.url), deadline=PATIENCE)
    try:
        began = time.monotonic()
        with pytest.raises(RouterError, match="deadline_exceeded"):
            client.predict_one(snapshot(0.7), deadline=0.2)  # no router reads the stream
        assert time.monotonic() - began < PATIENCE / 2
        router.start()
        assert client.predict_one(snapshot(0.7)).outcome == "emitted"
        with pytest.raises(CallerError, match="route"):
            client.predict_one(snapshot(0.7, route="nowhere"))
        redis_server.kill()
        with pytest.raises(RouterError, match="router_unreachable"):
            client.predict_one(snapshot(0.7))
    finally:
        client.close()
