"""Replicas on a real server: races, and every way in which a server goes away."""

import asyncio
import contextlib
import os

import msgspec
import pytest
from tests.parts.redis.conftest import RedisServer
from tests.parts.redis.replica import RedisReplica
from tests.unit.journal.replicas import signal

from signalyard.problems import CallerError, RouterError
from signalyard_router.ports import JournalInDoubt
from signalyard_router.rules.levers import Order
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import SECOND

pytestmark = pytest.mark.parts

RACES = int(os.environ.get("RACES", "10000"))
AT_ONCE = 100
QUICK = {"connect_seconds": 1.0, "call_seconds": 0.5}

halt = Order(action="halt", by="me", why="because")


def rows(server, *words):
    """The bulk strings of an answer, flat."""
    return [part for part in server.ask(*words).split(b"\r\n") if part[:1] not in (b"$", b"*", b"")]


async def joined(*replicas):
    for replica in replicas:
        await asyncio.wait_for(replica.journal.joined.wait(), 30)


async def test_of_two_routers_that_race_on_one_key_exactly_one_emits(redis_server, tmp_path):
    redis_server.ask("CONFIG", "SET", "appendfsync", "no")
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    two = await RedisReplica(redis_server.url, "two", tmp_path / "two").start()
    emitted = 0
    for first in range(0, RACES, AT_ONCE):
        races = [
            (replica.commit(signal(2 * number + place, symbol=f"I{number}.X")))
            for number in range(first, first + AT_ONCE)
            for place, replica in enumerate((one, two))
        ]
        decisions = [decision for (decision,) in await asyncio.gather(*races)]
        for left, right in zip(decisions[::2], decisions[1::2], strict=True):
            winner, loser = (left, right) if left.signal else (right, left)
            assert (winner.outcome, loser.outcome) == ("emitted", "suppressed")
            assert loser.reason in ("duplicate", "out_of_order")
            emitted += 1
    assert emitted == RACES
    assert (
        one.value("signalyard_log_conflicts_total") + two.value("signalyard_log_conflicts_total") >= RACES / AT_ONCE / 2
    )
    async with asyncio.timeout(10):
        while one.journal.place != two.journal.place:  # noqa: ASYNC110 -- the last entry of the other is still to be heard
            await asyncio.sleep(0.01)
    for replica in (one, two):
        left = [record.signal_id for record in replica.records if record.outcome == "emitted"]
        assert len(left) == len(set(left)) == RACES
        await replica.close()


async def test_signals_stand_in_the_stream_as_they_are_answered(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    (long,) = await one.commit(signal(1))
    await one.commit(signal(2))  # a duplicate
    (short,) = await one.commit(signal(3, "short"))
    found = [row for row in rows(redis_server, "XRANGE", one.log.signals, "-", "+") if row[:1] == b"{"]
    assert [msgspec.json.decode(row) for row in found] == [
        msgspec.json.decode(msgspec.json.encode(decision.signal)) for decision in (long, short)
    ]
    await one.close()


async def test_a_replica_by_a_socket_and_one_by_the_network_share_a_log(tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, "--unixsocket", str(folder / "socket"))
    server.start()
    try:
        one = await RedisReplica(f"unix://{folder}/socket?db=0", "one", tmp_path / "one").start()
        two = await RedisReplica(server.url, "two", tmp_path / "two").start()
        (long,) = await one.commit(signal(1))
        assert long.outcome == "emitted"
        assert await two.commit(signal(1)) == [long]
        (duplicate,) = await two.commit(signal(2))
        assert duplicate.reason == "duplicate"
        await one.close()
        await two.close()
    finally:
        server.stop()


async def test_an_entry_is_told_to_the_others_alone_and_who_is_gone_is_forgotten(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    two = await RedisReplica(redis_server.url, "two", tmp_path / "two").start()
    heard = {replica: [] for replica in (one, two)}
    for replica, positions in heard.items():

        def listen(push, log=replica.log, positions=positions):
            positions.append(int(push[2].split(b" ")[1]))
            log._on_push(push)

        replica.log._connection._on_push = listen
    # An answer comes behind all that others appended before: whoever commits last has heard them.
    for number, replica in enumerate((one, two, one, two, one, two), start=1):
        await replica.commit(signal(number, symbol=f"I{number}.X"))
    assert (heard[one][:2], heard[two]) == ([2, 4], [1, 3, 5])
    assert len(rows(redis_server, "SMEMBERS", one.log._ears)) == 2
    await two.close()
    await one.commit(signal(7))
    assert rows(redis_server, "SMEMBERS", one.log._ears) == [one.log._me.encode()]
    await one.close()


async def test_a_killed_server_refuses_at_once_and_what_it_kept_binds_after_a_hold(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one", log=QUICK).start()
    two = await RedisReplica(redis_server.url, "two", tmp_path / "two", log=QUICK).start()
    (before,) = await one.commit(signal(1))
    lever = await two.journal.pull(Order(action="halt", by="me", why="because", symbol="H.X"))
    epoch = one.journal.epoch
    redis_server.kill()
    while one.journal.joined.is_set() or two.journal.joined.is_set():  # noqa: ASYNC110 -- the event is for the other way
        await asyncio.sleep(0.01)
    for replica in (one, two):
        with pytest.raises(RouterError, match="is not reached") as refused:
            await replica.commit(signal(2))
        assert not isinstance(refused.value, JournalInDoubt)
        assert not replica.journal.available
    redis_server.start()
    await joined(one, two)
    # Whether it kept all of it nobody can know: it is another epoch, and all that was known is known.
    assert one.journal.epoch == two.journal.epoch > epoch
    assert await two.commit(signal(1)) == [before]
    assert [held.id for held in one.journal.levers] == [lever.id]
    (after,) = await one.commit(signal(3, "short"))
    assert after.signal.prev_seq == before.signal.seq
    await one.close()
    await two.close()


async def test_an_emptied_server_gets_what_the_replicas_know(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one", log=QUICK).start()
    two = await RedisReplica(redis_server.url, "two", tmp_path / "two", log=QUICK).start()
    (before,) = await one.commit(signal(1))
    await two.journal.pull(halt)
    redis_server.kill()
    redis_server.empty()
    redis_server.start()
    while one.journal.epoch != two.journal.epoch or one.journal.epoch == before.signal.epoch:  # noqa: ASYNC110 -- two epochs
        await asyncio.sleep(0.05)
    await joined(one, two)
    (halted,) = await one.commit(signal(2, "short"))
    assert halted.reason == "halted"
    assert await two.commit(signal(1)) == [before]
    # A third one learns it from there.
    three = await RedisReplica(redis_server.url, "three", tmp_path / "three").start()
    assert [lever.action for lever in three.journal.levers] == ["halt"]
    assert three.journal.place == one.journal.place
    for replica in (one, two, three):
        await replica.close()


async def test_flushed_under_running_replicas_it_is_begun_anew(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    (before,) = await one.commit(signal(1))
    redis_server.ask("FLUSHALL")
    with pytest.raises(RouterError, match="was lost"):
        await one.commit(signal(2, "short"))
    await joined(one)
    assert one.journal.epoch > before.signal.epoch
    assert await one.commit(signal(1)) == [before]
    await one.close()


async def test_a_paused_server_leaves_the_first_in_doubt_and_refuses_the_others_for_certain(redis_server, tmp_path):
    one = await RedisReplica(
        redis_server.url, "one", tmp_path / "one", patience_seconds=0.05, log={"call_seconds": 20}
    ).start()
    redis_server.pause()
    first = one.journal.commit([signal(1, symbol="A.X")])
    await asyncio.sleep(0)
    second = one.journal.commit([signal(2, symbol="B.X")])
    with pytest.raises(RouterError, match="does not answer") as refused:
        await second
    assert not isinstance(refused.value, JournalInDoubt)
    assert not first.done()
    redis_server.resume()
    (settled,) = await first
    assert settled.decision.outcome == "emitted"
    assert [record.symbol for record in one.records] == ["A.X"]
    (after,) = await one.commit(signal(3, symbol="C.X"))
    assert after.outcome == "emitted"
    await one.close()


async def test_what_a_paused_server_takes_up_too_late_is_not_carried_out(redis_server, tmp_path):
    one = await RedisReplica(
        redis_server.url, "one", tmp_path / "one", patience_seconds=5, doubt_seconds=0.2, log=QUICK
    ).start()
    redis_server.pause()
    with pytest.raises(JournalInDoubt):
        await one.commit(signal(1))
    redis_server.resume()
    await joined(one)
    assert rows(redis_server, "XLEN", one.log.signals) == [b":0"]
    (decision,) = await one.commit(signal(2))
    assert decision.outcome == "emitted"
    assert [record.proposal_id for record in one.records] == [signal(2).proposal_id]
    await one.close()


async def test_a_server_that_may_not_be_written_or_is_full_refuses_for_certain(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    await one.commit(signal(1, symbol="A.X"))
    epoch = one.journal.epoch
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RouterError, match="OOM") as refused:
        await one.commit(signal(2, symbol="B.X"))
    assert not isinstance(refused.value, JournalInDoubt)
    redis_server.ask("CONFIG", "SET", "maxmemory", "0")
    (decision,) = await one.commit(signal(2, symbol="B.X"))
    assert decision.outcome == "emitted"
    # As a master that a failover has made a replica of another one. It is no longer the server that the epoch began on.
    redis_server.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(RouterError, match=r"READONLY|was lost") as refused:
        await one.commit(signal(3, symbol="C.X"))
    assert not isinstance(refused.value, JournalInDoubt)
    redis_server.ask("REPLICAOF", "NO", "ONE")
    decision = await answered(one, signal(3, symbol="C.X"))
    assert (decision.outcome, decision.signal.epoch) == ("emitted", one.journal.epoch)
    assert one.journal.epoch > epoch
    await one.close()


async def test_another_maxmemory_policy_is_refused(redis_server, tmp_path):
    redis_server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(CallerError, match="allkeys-lru, set it to noeviction") as refused:
        await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    assert refused.value.details.pointer == "/journal-redis"


async def answered(replica, proposal):
    """The decision, as soon as the replica is at its log again."""
    async with asyncio.timeout(30):
        while True:
            await replica.journal.joined.wait()
            try:
                (decision,) = await replica.commit(proposal)
            except RouterError:
                continue
            return decision


class Way:
    """A way to the server on which answers take ``delay`` seconds more, and on which the answer to one append can be lost after it was carried
    out, and the connection with it."""

    def __init__(self, port, delay=0.0):
        self._port = port
        self._delay = delay
        self.lose = False
        self.lost = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._tasks = set()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await asyncio.wait_for(asyncio.gather(*self._tasks), 30)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        answering = asyncio.create_task(self._answer(there, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                back.write(data)
        back.close()
        writer.close()
        await answering

    async def _answer(self, there, writer):
        while data := await there.read(1 << 20):
            if self.lose and b"done" in data:
                self.lose = False
                self.lost += 1
                writer.transport.abort()
                return
            await asyncio.sleep(self._delay)
            writer.write(data)


async def test_an_answer_that_is_lost_after_the_script_ran_is_found_out(redis_server, tmp_path):
    async with Way(redis_server.port) as way:
        one = await RedisReplica(way.url, "one", tmp_path / "one").start()
        two = await RedisReplica(redis_server.url, "two", tmp_path / "two").start()
        for number in range(5):
            way.lose = True
            (decision,) = await one.commit(signal(number, symbol=f"I{number}.X"))
            assert decision.outcome == "emitted"
            assert await one.commit(signal(number, symbol=f"I{number}.X")) == [decision]
        assert way.lost == 5
        assert rows(redis_server, "XLEN", one.log.signals) == [b":5"]
        await joined(one, two)
        for replica in (one, two):
            assert [record.symbol for record in replica.records if record.outcome == "emitted"] == [
                f"I{number}.X" for number in range(5)
            ]
            await replica.close()


async def test_a_slow_server_is_only_slow(redis_server, tmp_path):
    async with Way(redis_server.port, delay=0.05) as way:
        far = await RedisReplica(way.url, "far", tmp_path / "far").start()
        near = await RedisReplica(redis_server.url, "near", tmp_path / "near").start()
        for number in range(10):
            asked = [
                replica.commit(signal(2 * number + k, symbol=f"I{number}.X")) for k, replica in enumerate((far, near))
            ]
            outcomes = [decision.outcome for (decision,) in await asyncio.gather(*asked)]
            assert sorted(outcomes) == ["emitted", "suppressed"]
        assert rows(redis_server, "XLEN", far.log.signals) == [b":10"]
        assert far.journal.epoch == near.journal.epoch
        assert far.journal.available
        for replica in (far, near):
            await replica.close()


async def test_a_hundred_proposals_travel_in_one_append(redis_server, tmp_path):
    one = await RedisReplica(redis_server.url, "one", tmp_path / "one").start()
    rules = GateRules(window=5 * SECOND, valid_for=SECOND)
    decisions = await one.commit(*(signal(n, symbol=f"I{n}.X", rules=rules) for n in range(100)))
    assert {decision.outcome for decision in decisions} == {"emitted"}
    assert one.journal.place.position == 1
    assert rows(redis_server, "XLEN", one.log.signals) == [b":100"]
    await one.close()
