"""The server dies, stands still, forgets, dawdles; the router dies at the worst moment. No snapshot is lost that the server still has,
and none becomes two signals."""

import contextlib
import json
import signal
import socket
import threading
import time

import pytest
from tests.parts.redis.test_streams import GROUP, PATIENCE, SNAPSHOTS, Feed, settled, signals, until

from signalyard import Snapshot
from signalyard.clients import BlockingClient
from signalyard.problems import RouterError
from signalyard.wires.redis import RedisWire

pytestmark = pytest.mark.parts


class Slow:
    """Stands before the server and holds everything back for ``delay`` seconds, both ways."""

    def __init__(self, port, delay):
        self._target = port
        self._delay = delay
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets = [self._listening]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pump, args=(one, other)))
                    self._threads[-1].start()

    def _pump(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                time.sleep(self._delay)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


@pytest.fixture
def feed(client):
    return Feed(client)


def proposals(router):
    """How often each decision stands in the journal."""
    counted = {}
    for record in router.records():
        counted[record["proposal_id"]] = counted.get(record["proposal_id"], 0) + 1
    return counted


def pulse(feed, count):
    for number in range(count):
        feed.add((0.7, 0.3)[number % 2], f"rb{number % 7}.SHFE")


def test_a_server_that_is_killed_and_comes_back_has_lost_nothing(router, redis_server, client, feed):
    router.start()
    pulse(feed, 20)
    redis_server.kill()
    until(lambda: "event=redis_failed wire=source" in router.said())
    redis_server.start()
    pulse(feed, 20)
    until(lambda: settled(client, feed.ids, feed))
    assert set(proposals(router).values()) == {1}
    assert len(proposals(router)) == 40
    until(lambda: {s["signal_id"] for s in signals(client)} == {r["signal_id"] for r in router.records()})
    assert router.terminate() == 0


def test_a_server_that_comes_back_empty_is_begun_with_anew(router, redis_server, client, feed):
    router.start()
    pulse(feed, 10)
    until(lambda: settled(client, feed.ids, feed))
    redis_server.kill()
    redis_server.empty()
    redis_server.start()
    feed.ids.clear()
    pulse(feed, 10)  # before the router has made its group again
    until(lambda: client.exists(SNAPSHOTS) and client.xinfo_groups(SNAPSHOTS) and settled(client, feed.ids, feed))
    assert len(proposals(router)) == 20
    assert set(proposals(router).values()) == {1}


def test_a_server_that_stands_still_delays_and_loses_nothing(router, redis_server, client, feed):
    router.start()
    pulse(feed, 10)
    redis_server.pause()
    until(lambda: "event=redis_failed wire=source" in router.said())
    assert router.ask(0.7, "rb99.SHFE")["outcome"] == "emitted"  # another wire goes on
    redis_server.resume()
    pulse(feed, 10)
    until(lambda: settled(client, feed.ids, feed))
    counted = proposals(router)
    assert len(counted) == 21
    assert set(counted.values()) == {1}


def test_a_slow_server_is_only_slow(router, redis_server, client, feed):
    with Slow(redis_server.port, 0.05) as slow:
        router.environment["SIGNALYARD_REDIS"] = f"redis://127.0.0.1:{slow.port}/0"
        router.start()
        pulse(feed, 30)
        until(lambda: settled(client, feed.ids, feed))
        assert len(proposals(router)) == 30
        assert "event=redis_failed" not in router.said()
        assert router.terminate() == 0


def test_a_server_that_is_full_or_may_not_be_written_costs_replies_and_neither_decisions_nor_signals(
    router, models, redis_server, client, feed
):
    def while_it_refuses(stop, word, score):
        """Seven decisions are made while the server refuses, and a client is told why it cannot ask."""
        models.behave("7", "late")
        stood = len(router.records())
        for number in range(7):
            feed.add(score, f"rb{number}.SHFE")
        until(lambda: client.xpending(SNAPSHOTS, GROUP)["pending"] == 7)
        assert redis_server.ask(*stop) == b"+OK\r\n"
        until(lambda: len(router.records()) == stood + 7 and word in router.said())
        with (
            BlockingClient(lambda: RedisWire(redis_server.url), PATIENCE) as asking,
            pytest.raises(RouterError, match=f"router_unreachable: .*{word}"),
        ):
            asking.predict_one(Snapshot(symbol="rb1.SHFE", ts_event=time.time_ns(), features={"p": score}))
        models.behave("7", "good")

    router.start()
    models.servers["7"].late_seconds = 1.5
    while_it_refuses(("CONFIG", "SET", "maxmemory", "1"), "used memory > 'maxmemory'", 0.7)
    # It takes acknowledgements, and what is acknowledged is in the journal; whoever asks again gets what was decided.
    until(lambda: client.xpending(SNAPSHOTS, GROUP)["pending"] == 0)
    assert b"signalyard_redis_replies_refused_total 7.0" in router.get("/metrics")[1]
    assert redis_server.ask("CONFIG", "SET", "maxmemory", "0") == b"+OK\r\n"
    feed.ids.clear()

    while_it_refuses(("REPLICAOF", "127.0.0.1", "1"), "read only replica", 0.3)
    assert (client.xpending(SNAPSHOTS, GROUP)["pending"], feed.replies()) == (7, [])
    assert redis_server.ask("REPLICAOF", "NO", "ONE") == b"+OK\r\n"
    until(lambda: settled(client, feed.ids, feed))
    assert list(proposals(router).values()) == [1] * 14
    assert sorted(name for name, _ in feed.replies()) == sorted(feed.ids)
    until(lambda: {s["signal_id"] for s in signals(client)} == {r["signal_id"] for r in router.records()})
    assert router.terminate() == 0


def test_a_router_that_dies_between_journal_and_acknowledgement_gives_no_second_signal(
    router, models, redis_server, client, feed
):
    router.start()
    feed.add(0.3, "rb1.SHFE")
    until(lambda: settled(client, feed.ids, feed))
    models.behave("7", "late")
    models.servers["7"].late_seconds = 0.4
    feed.add(0.7, "rb1.SHFE")
    until(lambda: client.xpending(SNAPSHOTS, GROUP)["pending"] == 1)
    redis_server.pause()
    until(lambda: len(router.records()) == 2)
    assert router.kill() == -signal.SIGKILL
    redis_server.resume()
    assert client.xpending(SNAPSHOTS, GROUP)["pending"] == 1
    models.behave("7", "good")
    router.start()
    until(lambda: settled(client, feed.ids, feed))
    assert list(proposals(router).values()) == [1, 1]
    until(lambda: len(signals(client)) >= 2)
    reply = json.loads(dict(feed.replies())["q2"][b"body"])
    assert reply["signal"]["signal_id"] == router.records()[1]["signal_id"]
    assert {s["signal_id"] for s in signals(client)} == {r["signal_id"] for r in router.records()}


def test_sigterm_under_load_leaves_the_rest_to_the_next_router(router, client, feed):
    router.start()
    stop = threading.Event()

    def press():
        while not stop.is_set():
            pulse(feed, 10)
            time.sleep(0.01)

    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        until(lambda: len(router.records()) > 50)
        assert router.terminate() == 0
    finally:
        stop.set()
        pressing.join(PATIENCE)
    assert client.xpending(SNAPSHOTS, GROUP)["pending"] == 0
    stood = len(router.records())
    router.start()
    until(lambda: settled(client, feed.ids, feed))
    counted = proposals(router)
    assert stood < len(counted) == len(feed.ids)
    assert set(counted.values()) == {1}
    assert sorted(name for name, _ in feed.replies()) == sorted(feed.ids)
