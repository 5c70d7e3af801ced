"""Snapshots by Pub/Sub: decided while somebody listens, and lost while nobody does."""

import json
import time

import pytest
from tests.parts.redis.test_streams import until

pytestmark = pytest.mark.parts

CHANNEL = "signalyard:snapshots"


def publish(client, score, symbol="rb1.SHFE"):
    body = {"symbol": symbol, "ts_event": time.time_ns(), "features": {"p": score}}
    return client.publish(CHANNEL, json.dumps(body))


def listeners(client):
    return client.pubsub_numsub(CHANNEL)[0][1]


def test_messages_are_decided_in_order_bad_ones_counted_and_a_lost_server_is_heard_again(router, redis_server, client):
    router.start("--max-body", "2000")
    until(lambda: listeners(client) == 1)
    for number in range(20):
        assert publish(client, (0.7, 0.3)[number % 2]) == 1
    for bad in ("{", "[1]" * 1000):
        client.publish(CHANNEL, bad)
    until(lambda: len(router.records()) == 20)
    assert [record["signal_seq"] for record in router.records()] == list(range(1, 21))
    page = router.get("/metrics")[1].decode()
    assert 'signalyard_redis_messages_total{result="decided"} 20.0' in page
    assert 'signalyard_redis_messages_total{result="bad"} 2.0' in page
    redis_server.kill()
    until(lambda: "event=redis_failed wire=channel" in router.said())
    redis_server.start()
    until(lambda: listeners(client) == 1)
    publish(client, 0.7)
    until(lambda: len(router.records()) == 21)
    assert router.terminate() == 0


def test_a_shutdown_decides_on_what_was_heard(router, models, client):
    router.start()
    models.behave("7", "late")
    models.servers["7"].late_seconds = 1.5
    until(lambda: listeners(client) == 1)
    for number in range(20):
        assert publish(client, 0.7, f"rb{number}.SHFE") == 1
    until(lambda: b"signalyard_redis_in_flight 20.0" in router.get("/metrics")[1])
    assert router.records() == []
    assert router.terminate() == 0
    assert sorted(record["symbol"] for record in router.records()) == sorted(f"rb{number}.SHFE" for number in range(20))
    assert {record["outcome"] for record in router.records()} == {"emitted"}
