"""The account by which the scenarios on a cluster are judged sees what must not be."""

import pytest
from traffic.account import account, longest_silence

SECOND = 1_000_000_000


def answer(at, outcome="emitted", **more):
    plain = {"route": "r", "outcome": outcome, "reason": None, "proposal_id": f"p{at}", "elapsed_us": 900}
    if outcome == "emitted":
        plain |= {
            "signal_id": f"s{at}",
            "epoch": 1,
            "seq": at,
            "prev_seq": at - 1,
            "version": "7",
            "digest": "sha256:7",
        }
        plain |= {"direction": "long", "track": "stable", "failover": False, "degraded": False, "drift": False}
    return plain | more


def line(at, *decisions, took_us=1000, tries=None, symbol="rb2410.SHFE"):
    return {
        "symbol": symbol,
        "ts_event": at * SECOND,
        "at": at * SECOND,
        "tries": tries or [{"took_us": took_us}],
        "decisions": list(decisions),
    }


def record(at, outcome="emitted", **more):
    plain = {"kind": "decision", "seq": at, "t": at * SECOND, "proposal_id": f"p{at}", "outcome": outcome}
    plain |= {"route": "r", "symbol": "rb2410.SHFE"}
    if outcome == "emitted":
        plain |= {"signal_id": f"s{at}", "direction": "long"}
    return plain | more


def test_a_good_run():
    lines = [line(1, answer(1)), line(2, answer(2, "abstained"), took_us=2500), line(9, answer(9))]
    records = [{"kind": "start", "seq": 0}, record(1), record(2, "abstained"), record(9)]
    seen = account(lines, deadline=0.1, window=5.0, journal=records)
    assert (seen.requests, seen.failures, seen.unanswered, seen.late, seen.slowest_us) == (3, 0, 0, 0, 2500)
    assert not seen.duplicates
    assert not seen.lost
    assert seen.outcomes == {"emitted": 2, "abstained": 1}
    assert seen.versions == {"7": 2}


def test_calls_that_failed_before_there_was_a_decision():
    tries = [{"took_us": 100_400, "problem": "deadline_exceeded", "detail": ""}, {"took_us": 900}]
    lost = [{"took_us": 300, "problem": "router_unreachable", "detail": ""}]
    seen = account([line(1, answer(1), tries=tries), line(2, tries=lost)], deadline=0.1)
    assert (seen.requests, seen.failures, seen.unanswered, seen.late) == (2, 2, 1, 0)
    assert seen.problems == {"deadline_exceeded": 1, "router_unreachable": 1}


@pytest.mark.parametrize("took_us", [110_001, 5_000_000])
def test_late(took_us):
    assert account([line(1, answer(1), took_us=took_us)], deadline=0.1).late == 1


def test_one_signal_for_two_snapshots():
    seen = account([line(1, answer(1)), line(2, answer(2, signal_id="s1"))], deadline=0.1)
    assert seen.duplicates == (
        "s1 came for two snapshots: ('r', 'rb2410.SHFE', 1000000000) and ('r', 'rb2410.SHFE', 2000000000)",
    )


def test_one_number_for_two_signals():
    seen = account([line(1, answer(1)), line(2, answer(2, seq=1))], deadline=0.1)
    assert seen.duplicates == ("s2 and s1 both bear the number ('r', 'rb2410.SHFE', 1, 1)",)


def test_the_same_signal_again_is_the_same_decision():
    assert account([line(1, answer(1)), line(1, answer(1))], deadline=0.1).duplicates == ()


def test_a_signal_within_its_window():
    records = [record(1), record(4)]
    assert account([], deadline=0.1, window=3.0, journal=records).duplicates == ()
    (found,) = account([], deadline=0.1, window=3.001, journal=records).duplicates
    assert found.startswith("s4 says long 3.000 s after s1 did")
    turned = [record(1), record(2, direction="short"), record(3)]
    assert account([], deadline=0.1, window=60.0, journal=turned).duplicates == ()
    elsewhere = [record(1), record(2, symbol="rb2501.SHFE")]
    assert account([], deadline=0.1, window=60.0, journal=elsewhere).duplicates == ()


def test_acknowledged_and_lost():
    lines = [line(1, answer(1)), line(2, answer(2, "unknown")), line(3, answer(3)), line(4, answer(4))]
    records = [record(1, "suppressed"), record(4, signal_id="other")]
    lost = account(lines, deadline=0.1, journal=records).lost
    assert [one.split(" ", 1)[0] for one in lost] == ["p1", "p3", "p4"]
    assert "recorded as suppressed" in lost[0]
    assert "not in the journal" in lost[1]
    assert "recorded as emitted other" in lost[2]


def test_what_was_told_to_be_in_no_record_and_is():
    unavailable = {"outcome": "suppressed", "reason": "journal_unavailable"}
    again = [{"took_us": 100_400, "problem": "deadline_exceeded", "detail": ""}, {"took_us": 900}]
    lines = [line(1, answer(1, **unavailable)), line(2, answer(2, **unavailable))]
    lines += [line(3, answer(3, **unavailable), tries=again)]  # the record is of the time that nobody waited for
    (found,) = account(lines, deadline=0.1, journal=[record(2), record(3)]).lost
    assert found.startswith("p2 ")
    assert found.endswith("is recorded as emitted s2, and was told to be in no record")


def test_the_gap_between_two_answers():
    assert (
        longest_silence([line(1, answer(1)), line(3, answer(3)), line(4), line(9, answer(9)), line(10, answer(10))])
        == 6.0
    )
