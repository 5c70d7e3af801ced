"""The stream's promises, in virtual time: acknowledged after the journal, in order, taken over without a second decision."""

import asyncio
import json

from signalyard_router.adapters.redis.entries import Kind

REPLY = "signalyard:replies:me"


def test_an_entry_is_acknowledged_when_the_journal_has_it_and_not_before(play):
    async def scenario(stage):
        stage.router.down = True
        entry = stage.snapshot(1, reply=REPLY, id="q1")
        source = stage.source()
        source.start()
        await stage.until(lambda: len(stage.router.asked) >= 3)
        assert entry in stage.server.pending
        assert REPLY not in stage.server.streams
        stage.router.down = False
        await stage.until(lambda: not stage.server.pending)
        assert stage.server.acknowledged == [entry]
        ((_, reply),) = stage.server.streams[REPLY]
        assert (reply[b"id"], json.loads(reply[b"body"])["reason"]) == (b"q1", "duplicate")
        assert stage.value("signalyard_redis_entries_tried_again_total") >= 2
        await source.drain(5)

    play(scenario)


def test_one_instrument_keeps_its_order_and_others_do_not_wait(play):
    async def scenario(stage):
        stage.router.hold = lambda row: 1.0 / row.ts_event if row.symbol == "rb1.SHFE" else 0.0
        for number in range(1, 11):
            stage.snapshot(number)
            stage.snapshot(number, "rb2.SHFE")
        source = stage.source()
        source.start()
        await stage.until(lambda: len(stage.router.asked) == 20)
        slow = [ts for symbol, ts in stage.router.asked if symbol == "rb1.SHFE"]
        assert slow == list(range(1, 11))
        assert [symbol for symbol, _ in stage.router.asked[:10]] == ["rb2.SHFE"] * 10
        await source.drain(5)

    play(scenario)


def test_what_is_under_way_is_bounded_and_the_rest_stays_in_redis(play):
    async def scenario(stage):
        stage.router.hold = lambda row: 3.0
        for number in range(1, 41):
            stage.snapshot(number, f"rb{number}.SHFE")
        source = stage.source(most_in_flight=8)
        source.start()
        await asyncio.sleep(2)
        assert len(stage.server.pending) == 8
        assert stage.value("signalyard_redis_lag") == 32
        assert stage.value("signalyard_redis_in_flight") == 8
        await stage.until(lambda: len(stage.router.journal) == 40 and not stage.server.pending)
        await source.drain(5)

    play(scenario)


def test_a_dead_consumers_entries_are_taken_over_and_decided_once(play):
    async def scenario(stage):
        dead = stage.source("dead")
        stage.server.lost, stage.server.before = 1000, True  # it decides, and its acknowledgements never arrive
        for number in range(1, 6):
            stage.snapshot(number)
        dead.start()
        await stage.until(lambda: len(stage.router.journal) == 5)
        for task in dead._tasks:
            task.cancel()
        stage.server.lost = 0
        living = stage.source("living", claim_seconds=30.0)
        living.start()
        await asyncio.sleep(20)
        assert len(stage.server.pending) == 5  # it may yet live
        await stage.until(lambda: not stage.server.pending)
        assert len(stage.router.journal) == 5
        assert stage.value("signalyard_redis_entries_reclaimed_total") == 5
        await living.drain(5)

    play(scenario)


def test_a_lost_acknowledgement_is_made_up_for(play):
    async def scenario(stage):
        cases = [(True, 0.1), (False, 0.1), (True, 3.0)]
        for number, (before, pause) in enumerate(cases, 1):
            stage.server.lost, stage.server.before = 1, before
            source = stage.source(first_pause_seconds=pause, longest_pause_seconds=3.0)
            entry = stage.snapshot(number, reply=REPLY)
            source.start()
            await asyncio.sleep(10)  # sooner than anything is taken over
            assert entry in stage.server.acknowledged
            assert not stage.server.pending
            await source.drain(5)
        assert len(stage.router.journal) == len(cases)

    play(scenario)


def test_what_is_under_way_for_long_is_not_taken_over(play):
    async def scenario(stage):
        stage.router.hold = lambda row: 100.0
        entry = stage.snapshot(1)
        slow, other = stage.source("slow", claim_seconds=30.0), stage.source("other", claim_seconds=30.0)
        slow.start()
        await stage.until(lambda: entry in stage.server.pending)
        other.start()
        await asyncio.sleep(90)
        consumer, _, deliveries = stage.server.pending[entry]
        assert (consumer, deliveries) == ("slow", 1)
        await stage.until(lambda: not stage.server.pending)
        assert stage.value("signalyard_redis_entries_reclaimed_total") == 0
        assert len(stage.router.asked) == 1
        await slow.drain(5)
        await other.drain(5)

    play(scenario)


def test_an_entry_that_was_delivered_too_often_is_set_aside(play):
    async def scenario(stage):
        entry = stage.snapshot(1, reply=REPLY, id="q1")
        source = stage.source(most_deliveries=3)
        stage.server.group, stage.server.delivered = True, 1
        stage.server.pending[entry] = ["one", 0.0, 3]
        source.start()
        await stage.until(lambda: not stage.server.pending)
        assert stage.router.asked == []
        ((_, kept),) = stage.server.streams["signalyard:rejected"]
        assert (kept[b"entry"], kept[b"reason"], kept[b"deliveries"]) == (entry, b"internal", b"4")
        assert b"problem" in stage.server.streams[REPLY][0][1]
        await source.drain(5)

    play(scenario)


def test_an_entry_that_breaks_the_router_is_set_aside_and_the_next_goes_on(play):
    async def scenario(stage):
        stage.router.fault = ZeroDivisionError("secret value")
        first = stage.snapshot(1)
        source = stage.source()
        source.start()
        await stage.until(lambda: first in stage.server.acknowledged)
        stage.router.fault = None
        second = stage.snapshot(2)
        await stage.until(lambda: second in stage.server.acknowledged)
        ((_, kept),) = stage.server.streams["signalyard:rejected"]
        assert kept[b"detail"] == b"the router failed: ZeroDivisionError"
        await source.drain(5)

    play(scenario)


def test_an_entry_that_breaks_its_reading_is_set_aside_and_those_read_with_it_go_on(play, monkeypatch):
    from signalyard_router.adapters.redis import source as module

    read, entries = module.read_request, []

    def breaks(entry, *more):
        if entry.id == entries[0]:
            raise ZeroDivisionError("secret value")
        return read(entry, *more)

    monkeypatch.setattr(module, "read_request", breaks)

    async def scenario(stage):
        entries.extend(stage.snapshot(number) for number in range(3))
        source = stage.source()
        source.start()
        await stage.until(lambda: set(entries) <= set(stage.server.acknowledged))
        ((_, kept),) = stage.server.streams["signalyard:rejected"]
        assert (kept[b"entry"], kept[b"detail"]) == (entries[0], b"the router failed: ZeroDivisionError")
        await source.drain(5)

    play(scenario)


def test_what_cannot_be_set_aside_stays_unfinished(play):
    async def scenario(stage):
        stage.server.refuse["XADD"] = "OOM command not allowed"
        entry = stage.server.add(v="1", body="{")
        source = stage.source()
        source.start()
        await asyncio.sleep(5)
        assert entry in stage.server.pending
        del stage.server.refuse["XADD"]
        await stage.until(lambda: not stage.server.pending)
        assert len(stage.server.streams["signalyard:rejected"]) == 1
        await source.drain(5)

    play(scenario)


def test_a_trimmed_entry_is_counted_as_gone(play):
    async def scenario(stage):
        entry = stage.snapshot(1)
        stage.server.group, stage.server.delivered = True, 1
        stage.server.pending[entry] = ["one", 0.0, 1]
        stage.server.streams["signalyard:snapshots"].clear()
        source = stage.source()
        source.start()
        await stage.until(lambda: not stage.server.pending)
        assert stage.value("signalyard_redis_entries_total", result="gone") == 1
        await source.drain(5)

    play(scenario)


def test_a_shutdown_finishes_what_is_under_way_and_leaves_what_cannot_be_recorded(play):
    async def scenario(stage):
        stage.router.hold = lambda row: 2.0
        stage.snapshot(1)
        source = stage.source()
        source.start()
        await stage.until(lambda: len(stage.server.pending) == 1)
        await source.drain(10)
        assert not stage.server.pending
        stage.router.down, stage.router.hold = True, lambda row: 0.0
        entry = stage.snapshot(2)
        again = stage.source()
        again.start()
        await stage.until(lambda: len(stage.router.asked) >= 2)
        await again.drain(10)
        assert entry in stage.server.pending
        assert stage.value("signalyard_redis_entries_total", result="left") == 1

    play(scenario)


def test_the_state_can_be_asked_for(play):
    async def scenario(stage):
        stage.server.add(v="1", kind=str(Kind.STATE), body='{"symbol": "rb1.SHFE"}', reply=REPLY, id="s")
        stage.server.add(v="1", kind=str(Kind.STATE), body='{"symbol": 1}', reply=REPLY, id="bad")
        source = stage.source()
        source.start()
        await stage.until(lambda: len(stage.server.streams.get(REPLY, ())) == 2)
        replies = {reply[b"id"]: reply for _, reply in stage.server.streams[REPLY]}
        assert json.loads(replies[b"s"][b"body"])["epoch"] == 2
        assert json.loads(replies[b"bad"][b"problem"])["code"] == "invalid_request"
        await source.drain(5)

    play(scenario)
