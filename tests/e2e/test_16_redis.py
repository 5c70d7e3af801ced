"""The Redis on which routers share their journal is killed, frozen, emptied and failed over: what cannot be recorded leaves as no signal and in
time, nothing that was given out is given out again, and afterwards there are signals as before."""

from collections import Counter

import pytest
from desk import DEADLINE, ROUTER
from redis_pair import PODS, SHARED

pytestmark = [pytest.mark.replicas, pytest.mark.kills]

RACING = ("--patience=60", "--renew=10", "--shared")
HELD = {"journal_unavailable", "journal_recovering"}
WINDOW = 3.0
"""The route's ``dedupe.window``, seconds: so long is held back what might repeat a lost signal, longer than routers that were away from Redis
take to be led to again."""

WAKING = 0.05
"""Seconds that the client may take to wake up at its deadline: what waits for a Redis that is frozen is answered a millisecond before it, and
the client is one process beside two routers that fold the log. The routers' own time has no such allowance."""


def decisions(lines):
    return [one for line in lines for one in line["decisions"]]


def epochs(lines):
    """Those of the signals."""
    return [one["epoch"] for one in decisions(lines) if one["outcome"] == "emitted"]


def test_16_redis(desk, scenario, cluster, redis_pair):
    namespace = scenario.namespace

    def signals_again(began):
        """Wait until signals leave under an epoch later than any before ``began``, from whatever replica; the reasons meanwhile."""
        before = max(epochs(load.lines()[:began]))
        load.await_lines(lambda lines: max(epochs(lines[began:]), default=0) > before, timeout=60)
        load.await_more(60)
        return Counter(one["reason"] for one in decisions(load.lines()[began:]))

    redis_pair.start()
    desk.install_router(**SHARED)
    desk.install_model(desk.model("7", route={"dedupe": {"window": f"{WINDOW:.0f}s"}}))
    desk.await_ready()
    with scenario.load(ROUTER, rate=40, deadline=DEADLINE, options=RACING) as load:
        load.await_lines(lambda lines: len(epochs(lines)) > 20)

        began = len(load.lines())
        cluster.crash(namespace, "redis-a", "redis")
        assert set(signals_again(began)) >= HELD

        began = len(load.lines())
        cluster.freeze(namespace, "redis-a", "redis")
        load.await_lines(lambda lines: _doubted(lines[began:]) and "journal_unavailable" in _told(lines[began:]))
        cluster.thaw(namespace, "redis-a", "redis")
        # It lost nothing, and goes on where it was.
        thawed = len(load.lines())
        load.await_lines(lambda lines: bool(epochs(lines[thawed:])))

        began = len(load.lines())
        redis_pair.ask("redis-a", "FLUSHALL")
        assert set(signals_again(began)) >= HELD

        redis_pair.await_copy("redis-b")
        began = len(load.lines())
        cluster.freeze(namespace, "redis-a", "redis")
        load.await_lines(lambda lines: "journal_unavailable" in _told(lines[began:]))
        redis_pair.fail_over("redis-b")
        assert set(signals_again(began)) >= HELD
        # The old server is back, with what was sent to it and was not carried out; nobody is led there.
        cluster.thaw(namespace, "redis-a", "redis")
        load.await_more(60)
    journal = scenario.shared_journal(*PODS)
    account = scenario.account_by(load, journal.records, window=WINDOW, allowance=WAKING)

    assert account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert not journal.contradictions
    assert not account.marks
    assert set(account.problems) <= {"router_unreachable", "deadline_exceeded"}
    assert max(one["elapsed_us"] for one in decisions(load.lines())) <= DEADLINE * 1e6
    # A decision that nobody could confirm says so.
    assert account.outcomes["unknown"] == account.reasons["unconfirmed"]
    _given_out_once(redis_pair.signals(), journal.records)


def _doubted(lines):
    """Whether a call was told that its record is not confirmed: a millisecond before the deadline, when a client may have given up."""
    gave_up = any(attempt.get("problem") == "deadline_exceeded" for line in lines for attempt in line["tries"])
    return gave_up or "unconfirmed" in _told(lines)


def _told(lines):
    return {one["reason"] for one in decisions(lines)}


def _given_out_once(stream, records):
    """Whoever reads the stream of signals gets each one once, and what the journals hold."""
    named = {
        one["signal_id"]: one["direction"] for one in records if one.get("signal_id") and one["outcome"] == "emitted"
    }
    assert stream
    assert len({one["signal_id"] for one in stream}) == len(stream)
    assert {one["signal_id"]: one["signal"] for one in stream}.items() <= named.items()
