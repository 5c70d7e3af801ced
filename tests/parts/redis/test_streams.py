"""Snapshots by a stream and signals back by another: a real router, a real server, and both of them die."""

import asyncio
import json
import time
from itertools import count

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.redis.conftest import Deciding

from signalyard_router.adapters.redis.settings import Incoming, RedisSettings
from signalyard_router.adapters.redis.wires import RedisWires
from signalyard_router.world.real import RealWorld

pytestmark = pytest.mark.parts

SNAPSHOTS, SIGNALS, REJECTED = "signalyard:snapshots", "signalyard:signals", "signalyard:rejected"
REPLIES = "signalyard:replies:test"
GROUP = "signalyard"
PATIENCE = 60.0


class Feed:
    """Puts snapshots on the stream, each once."""

    def __init__(self, client):
        self._client = client
        self._numbers = count(1)
        self.ids = []

    def add(self, score, symbol="rb2410.SHFE", **fields):
        name = f"q{next(self._numbers)}"
        body = {"symbol": symbol, "ts_event": time.time_ns(), "features": {"p": score}}
        entry = {"v": "1", "body": json.dumps(body), "id": name, "reply": REPLIES}
        self._client.xadd(SNAPSHOTS, entry | fields)
        self.ids.append(name)
        return name

    def replies(self):
        return [(fields[b"id"].decode(), fields) for _, fields in self._client.xrange(REPLIES)]


@pytest.fixture
def feed(client):
    return Feed(client)


def until(ready):
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def settled(client, ids, feed):
    """Everything was answered, and the group has nothing left."""
    replied = {name for name, _ in feed.replies()}
    return replied >= set(ids) and client.xpending(SNAPSHOTS, GROUP)["pending"] == 0


def signals(client):
    return [json.loads(fields[b"signal"]) for _, fields in client.xrange(SIGNALS)]


def test_every_entry_is_decided_once_in_order_and_its_signal_leaves(router, client, feed):
    router.start()
    with client.pubsub() as heard:
        heard.psubscribe("signalyard:signals:*")
        assert heard.get_message(timeout=PATIENCE)["type"] == "psubscribe"
        for number in range(30):
            feed.add((0.7, 0.3)[number // 3 % 2], f"rb{number % 3}.SHFE")
        until(lambda: settled(client, feed.ids, feed))
        until(lambda: len(signals(client)) == 30)
        messages = [json.loads(heard.get_message(timeout=PATIENCE)["data"]) for _ in range(30)]
    assert sorted(name for name, _ in feed.replies()) == sorted(feed.ids)
    decisions = [json.loads(fields[b"body"]) for _, fields in feed.replies()]
    assert {decision["outcome"] for decision in decisions} == {"emitted"}
    assert len(router.records()) == 30
    ids = {decision["signal"]["signal_id"] for decision in decisions}
    assert [signal["signal_id"] for signal in signals(client)] == [m["signal_id"] for m in messages]
    assert {signal["signal_id"] for signal in messages} == ids
    assert len(ids) == 30
    by_symbol = [signal["seq"] for signal in messages if signal["symbol"] == "rb1.SHFE"]
    assert by_symbol == list(range(1, 11))
    assert 0 < client.ttl(REPLIES) <= 60
    until(lambda: b"signalyard_redis_lag 0.0" in router.get("/metrics")[1])
    assert router.terminate() == 0
    assert client.xinfo_consumers(SNAPSHOTS, GROUP) == []


def test_what_cannot_be_decided_is_set_aside_with_the_reason(router, client, feed):
    router.start("--max-body", "2000", "--max-rows", "2")
    first = feed.add(0.7)
    feed.add(0.7, v="2")
    feed.add(0.7, body="{")
    feed.add(0.7, body=" " * 2001)
    feed.add(0.7, body="[{}, {}, {}]")
    feed.add(0.7, kind="order")
    feed.add(0.7, budget_us="-5")
    stray = feed.add(0.7, reply=SIGNALS)
    client.xadd(SNAPSHOTS, {"hello": "there"})
    last = feed.add(0.3)
    wanted = [name for name in feed.ids if name != stray]
    until(lambda: settled(client, wanted, feed))
    until(lambda: client.xlen(REJECTED) == 8)
    reasons = [fields[b"reason"].decode() for _, fields in client.xrange(REJECTED)]
    expected = ["invalid_request", "malformed_body", "body_too_large", "too_many_rows", "invalid_request"]
    assert sorted(reasons) == sorted([*expected, "invalid_budget", "invalid_request", "invalid_request"])
    answered = dict(feed.replies())
    assert set(answered) == set(wanted)
    problem = json.loads(answered["q2"][b"problem"])
    assert (problem["code"], problem["pointer"]) == ("invalid_request", "/v")
    assert json.loads(answered[first][b"body"])["outcome"] == "emitted"
    assert json.loads(answered[last][b"body"])["outcome"] == "emitted"
    assert len(router.records()) == 2
    assert len(signals(client)) == 2


async def test_what_a_dead_consumer_left_is_taken_over_by_another_and_what_kills_routers_set_aside(
    redis_server, client
):
    feed, deciding = Feed(client), Deciding()
    for number in range(5):
        feed.add(0.7, f"rb{number}.SHFE")
    client.xgroup_create(SNAPSHOTS, GROUP, 0)
    ((_, entries),) = client.xreadgroup(GROUP, "dead", {SNAPSHOTS: ">"})
    client.xclaim(SNAPSHOTS, GROUP, "dead", 0, [entries[2][0]], retrycount=10)
    registry = CollectorRegistry()
    settings = RedisSettings(
        url=redis_server.url, incoming=(Incoming.STREAM,), consumer="living", claim_seconds=0.2, tend_seconds=0.05
    )
    wires = RedisWires(RealWorld(), settings, registry)
    wires.start(deciding)
    async with asyncio.timeout(PATIENCE):
        while not settled(client, feed.ids, feed):  # noqa: ASYNC110 -- another process is waited for
            await asyncio.sleep(0.02)
    await wires.drain(PATIENCE)
    await wires.close()
    assert sorted(symbol for symbol, _ in deciding.asked) == [f"rb{number}.SHFE" for number in (0, 1, 3, 4)]
    assert registry.get_sample_value("signalyard_redis_entries_reclaimed_total") == 5
    ((_, kept),) = client.xrange(REJECTED)
    assert (kept[b"entry"], kept[b"deliveries"]) == (entries[2][0], b"11")
    assert [one["name"] for one in client.xinfo_consumers(SNAPSHOTS, GROUP)] == [b"dead"]
