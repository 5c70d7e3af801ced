"""What a follower makes of what it gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clients.conftest import NOW, SECOND, opinion, signal, state

from signalyard.following import Follower, Verdict, Wanted, wanted


def heard(follower, *signals, now=NOW):
    return [follower.heed(one, now) for one in signals]


def test_a_sequence_without_a_gap():
    follower = Follower(Wanted())
    assert heard(follower, signal(4), signal(5), signal(6)) == [Verdict.NEXT] * 3
    assert heard(follower, signal(1, "ag.SHFE"), signal(1, route="s")) == [Verdict.NEXT] * 2


def test_repetitions_gaps_and_what_is_too_late():
    follower = Follower(Wanted())
    heard(follower, signal(4))
    assert heard(follower, signal(4), signal(3)) == [Verdict.REPEATED] * 2
    assert heard(follower, signal(7)) == [Verdict.AFTER_GAP]
    assert heard(follower, signal(8), now=NOW + 5 * SECOND) == [Verdict.EXPIRED]
    assert heard(follower, signal(9)) == [Verdict.NEXT]  # what had expired was no gap


def test_another_epoch_begins_anew():
    follower = Follower(Wanted())
    heard(follower, signal(9, epoch=3))
    assert heard(follower, signal(1, epoch=4)) == [Verdict.NEXT]
    assert heard(follower, signal(10, epoch=3)) == [Verdict.REPEATED]
    assert heard(follower, signal(5, epoch=5)) == [Verdict.AFTER_GAP]


@pytest.mark.parametrize(
    ("asked", "takes"),
    [
        (wanted((), None), (True, True, True)),
        (wanted("rb2410.SHFE", None), (True, False, True)),
        (wanted(["rb2410.SHFE", "ag.SHFE"], "r"), (True, True, False)),
    ],
)
def test_what_was_not_asked_for(asked, takes):
    found = heard(Follower(asked), signal(1), signal(1, "ag.SHFE"), signal(1, route="s"))
    assert tuple(verdict is not Verdict.OTHERS for verdict in found) == takes


def test_the_state_gives_what_did_not_come_and_lives():
    follower = Follower(wanted((), None))
    heard(follower, signal(4), signal(2, "ag.SHFE"))
    answer = state(opinion(signal(4)), opinion(signal(3, "ag.SHFE")), opinion(signal(9, "al.SHFE"), live=False))
    assert [one.symbol for one in follower.reconcile(answer)] == ["ag.SHFE"]
    assert follower.reconcile(answer) == []
    assert heard(follower, signal(9, "al.SHFE")) == [Verdict.REPEATED]


@given(st.lists(st.integers(1, 30), max_size=60))
def test_whatever_comes_in_whatever_order_nothing_is_given_twice_and_no_gap_is_overlooked(order):
    follower = Follower(Wanted())
    last = 0
    for seq in order:
        verdict = follower.heed(signal(seq), NOW)
        if seq <= last:
            assert verdict is Verdict.REPEATED
        else:
            assert verdict is (Verdict.NEXT if last in (0, seq - 1) else Verdict.AFTER_GAP)
            last = seq
