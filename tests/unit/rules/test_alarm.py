"""When an alert fires, and the counts that it goes by."""

from collections import deque

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.words import Direction, Outcome, Reason
from signalyard_router.rules.activity import Activity
from signalyard_router.rules.alarm import AlertState, degraded, low_confidence, silence, surged
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.rules.surge import KEPT, Contract, ContractKey, Surge, Surges
from signalyard_router.rules.units import MINUTE, SECOND

START = 1_718_900_000_000_000_000
DAY = 24 * 60 * MINUTE


def record(t, outcome=Outcome.EMITTED, reason=None, confidence=0.7, score=0.7, **more):
    return DecisionRecord(
        v=1,
        seq=1,
        t=t,
        proposal_id="p",
        outcome=outcome,
        reason=reason,
        symbol="rb2410.SHFE",
        ts_event=t,
        ts_recv=t,
        route="r",
        direction=Direction.LONG,
        score=score,
        confidence=confidence,
        prev="",
        **more,
    )


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([None, 0.5, 0.1, 1.0])), max_size=60))
def test_the_window_against_a_plain_count(steps):
    """It holds all that is younger than the window, and nothing that is older by more than a sixtieth of it."""
    window = 600 * SECOND
    activity = Activity(window)
    now, kept = START, deque()
    for gap, confidence in steps:
        now += gap * SECOND
        activity.fold(record(now, confidence=confidence))
        kept.append((now, confidence))
        seen = activity.totals(now)
        young = [c for t, c in kept if t > now - window]
        most = [c for t, c in kept if t > now - window - window // 60]
        assert len(young) <= seen.snapshots <= len(most)
        assert seen.confidences <= sum(c is not None for c in most)
        if len(young) == len(most):
            assert seen.confidence_sum == sum(round(c * 1e9) for c in young if c is not None)
    empty = activity.totals(now + 2 * window)
    assert (empty.snapshots, empty.confidence_sum, empty.reasons) == (0, 0, {})


def test_too_few_are_pending():
    activity = Activity(600 * SECOND)
    for number in range(19):
        activity.fold(record(START + number, confidence=0.4, degraded=True))
    seen = activity.totals(START + SECOND)
    assert low_confidence(0.5, 20, seen).state is AlertState.PENDING
    assert low_confidence(0.5, 19, seen).state is AlertState.FIRING
    assert low_confidence(0.4, 19, seen).state is AlertState.OK
    assert degraded(0.05, 20, seen).state is AlertState.PENDING
    found = degraded(0.05, 19, seen)
    assert (found.state, found.value, found.threshold) == (AlertState.FIRING, 1.0, 0.05)


@pytest.mark.parametrize(
    ("more", "late"),
    [
        ({"budget_us": 100, "elapsed_us": 100}, 0),
        ({"budget_us": 100, "elapsed_us": 101}, 1),
        ({"outcome": Outcome.SUPPRESSED, "reason": Reason.PAST_COMMIT_BY}, 1),
    ],
)
def test_what_is_late(more, late):
    activity = Activity(600 * SECOND)
    activity.fold(record(START, **more))
    assert activity.totals(START).late == late


def test_no_signal_at_its_very_second():
    activity = Activity(600 * SECOND)
    activity.fold(record(START))

    def at(seconds):
        return silence(600 * SECOND, None, activity, START - DAY, START + seconds * SECOND, None).state

    assert [at(299), at(300), at(599), at(600)] == [
        AlertState.OK,
        AlertState.PENDING,
        AlertState.PENDING,
        AlertState.FIRING,
    ]


def surge(count, mean, sessions=5, symbol="rb2410.SHFE"):
    return Surge(symbol, count, mean, sessions)


@pytest.mark.parametrize(
    ("surges", "state"),
    [
        ([], AlertState.OK),
        ([surge(12, 3.0)], AlertState.OK),  # exactly +300%
        ([surge(13, 3.0)], AlertState.FIRING),
        ([surge(10, 0.0)], AlertState.FIRING),
        ([surge(100, 0.0, sessions=2)], AlertState.PENDING),
        ([surge(100, 0.0, sessions=2), surge(100, 3.0)], AlertState.FIRING),
    ],
)
def test_surges(surges, state):
    assert surged(3.0, 10, surges).state is state


def test_the_worst_surge_is_named():
    found = surged(3.0, 10, [surge(20, 3.0, symbol="a.X"), surge(90, 3.0, symbol="b.X"), surge(30, 3.0, symbol="c.X")])
    assert "b.X gave 90 signals" in found.message
    assert "2 other contracts" in found.message
    assert (found.value, found.threshold) == (90.0, 12.0)


def test_a_part_is_compared_with_the_same_part_of_earlier_sessions():
    surges = Surges()

    def feed(day, minute, signals, snapshots=1, symbol="rb2410.SHFE"):
        t = START - START % DAY + day * DAY + minute * MINUTE
        for number in range(signals + snapshots):
            surges.fold("r", symbol, t + number, number < signals, None, 15 * MINUTE, 10)
        return surges.above_floor("r", t + SECOND)

    for day in range(30):
        assert feed(day, 0, day % 3) == []
        assert feed(day, 15, 9) == []
    (found,) = feed(30, 0, 10)
    assert (found.count, found.sessions) == (10, KEPT)
    assert found.mean == pytest.approx(sum(day % 3 for day in range(10, 30)) / KEPT)
    # within the part the count goes on; in the next part it begins anew
    assert feed(30, 1, 5)[0].count == 15
    assert feed(30, 15, 9) == []
    # a day without snapshots is none of the earlier ones, and a quiet one is a zero
    feed(31, 0, 0)
    (found,) = feed(33, 0, 10)
    assert found.mean == pytest.approx((sum(day % 3 for day in range(12, 30)) + 15 + 0) / KEPT)


def test_contracts_are_bounded():
    surges = Surges(contracts=3)
    for number, symbol in enumerate(["a.X", "b.X", "c.X", "d.X"]):
        for signal in range(10):
            surges.fold("r", symbol, START + number * 10 + signal, True, None, 15 * MINUTE, 10)
    assert len(surges) == 3
    assert [surge.symbol for surge in surges.above_floor("r", START + 60)] == ["b.X", "c.X", "d.X"]
    surges.forget("r")
    assert len(surges) == 0
    assert surges.above_floor("r", START + 60) == []


def test_surges_that_were_written_down_go_on_as_they_were():
    before, after = Surges(), Surges()
    for day in range(23):
        for number in range(12 + day % 2):
            for symbol in ("a.X", "b.X"):
                before.fold("r", symbol, START + day * DAY + number, True, None, 15 * MINUTE, 10)
        before.fold("gone", "a.X", START + day * DAY, True, None, 15 * MINUTE, 10)
    kept = before.snapshot()
    written = msgspec.json.decode(msgspec.json.encode(kept), type=list[tuple[ContractKey, Contract]])
    assert written == kept
    after.restore(written, {"r": 10})
    now = START + 22 * DAY + 100
    assert after.above_floor("r", now) == before.above_floor("r", now) != []
    assert len(after) == 2
    for surges in (before, after):
        surges.fold("r", "a.X", now, True, None, 15 * MINUTE, 10)
        surges.fold("r", "b.X", now + DAY, True, None, 15 * MINUTE, 1)
    assert after.above_floor("r", now) == before.above_floor("r", now)
    assert after.above_floor("r", now + DAY) == before.above_floor("r", now + DAY) != []
    assert kept == written  # what was taken has not changed since
