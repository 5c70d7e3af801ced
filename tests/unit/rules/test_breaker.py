"""The breaker against a plain model that keeps everything it was ever told."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from signalyard_router.rules.breaker import Breaker, BreakerRules, BreakerState

RULES = BreakerRules(failures=3, ratio=0.5, least=6, window=100, backoff=40, backoff_max=100)


def fail(breaker, now, times=1):
    for _ in range(times):
        breaker.failed(breaker.begin(now), now)


def test_so_many_failures_in_a_row_open_it():
    breaker = Breaker(RULES)
    fail(breaker, 0, 2)
    breaker.succeeded(breaker.begin(0), 0)
    fail(breaker, 0, 2)
    assert breaker.admits(0)
    fail(breaker, 0)
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)
    assert not breaker.admits(39)
    assert breaker.admits(40)


def test_half_of_the_calls_within_the_window_open_it_and_older_ones_do_not_count():
    breaker = Breaker(RULES)
    for _ in range(2):
        breaker.succeeded(breaker.begin(0), 0)
        fail(breaker, 0, 2)
    assert breaker.state is BreakerState.OPEN

    breaker = Breaker(RULES)
    fail(breaker, 0, 2)
    breaker.succeeded(breaker.begin(0), 0)
    for _ in range(3):
        breaker.succeeded(breaker.begin(100), 100)
    fail(breaker, 100, 2)
    assert breaker.state is BreakerState.CLOSED


def test_half_open_lets_one_through_and_its_outcome_decides():
    breaker = Breaker(RULES)
    fail(breaker, 0, 3)
    probe = breaker.begin(40)
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.admits(1000)
    breaker.failed(probe, 1000)
    assert not breaker.admits(1079)  # twice the back-off
    probe = breaker.begin(1080)
    breaker.failed(probe, 1080)
    assert not breaker.admits(1179)  # and no longer than the longest
    probe = breaker.begin(1180)
    breaker.succeeded(probe, 1181)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1200, 3)
    assert breaker.admits(1240)  # the back-off has begun anew


def test_what_was_on_its_way_when_it_opened_says_nothing():
    breaker = Breaker(RULES)
    early = [breaker.begin(0) for _ in range(2)]
    fail(breaker, 0, 3)
    breaker.succeeded(early[0], 10)
    assert not breaker.admits(10)
    probe = breaker.begin(40)
    breaker.failed(early[1], 41)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(probe, 42)
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_that_was_given_up_leaves_its_place_to_the_next():
    breaker = Breaker(RULES)
    fail(breaker, 0, 3)
    breaker.abandoned(breaker.begin(40), 45)
    assert breaker.admits(45)


def test_a_sign_of_life_ends_the_wait():
    breaker = Breaker(RULES)
    fail(breaker, 0, 3)
    breaker.hint(5)
    assert breaker.admits(5)


@dataclass
class Plain:
    """The same in so many words: a list of all outcomes since the last change of state."""

    state: str = "closed"
    since: int = 0
    outcomes: list = field(default_factory=list)
    due: int = 0
    backoff: int = RULES.backoff

    def turn(self, state):
        self.state, self.outcomes, self.since = state, [], self.since + 1

    def outcome(self, now, bad):
        if self.state == "half_open":
            if bad:
                self.backoff = min(2 * self.backoff, RULES.backoff_max)
                self.due = now + self.backoff
                self.turn("open")
            else:
                self.backoff = RULES.backoff
                self.turn("closed")
            return
        self.outcomes.append((now // 10, bad))
        row = 0
        for _, failed in reversed(self.outcomes):
            if not failed:
                break
            row += 1
        recent = [failed for bucket, failed in self.outcomes if bucket > now // 10 - 10]
        if bad and (row >= 3 or (len(recent) >= 6 and sum(recent) * 2 >= len(recent))):
            self.due = now + self.backoff
            self.turn("open")


@given(st.lists(st.tuples(st.sampled_from(["call", "ok", "bad", "give up", "hint"]), st.integers(0, 60))))
def test_against_a_plain_model(steps):
    breaker, plain, now, under_way = Breaker(RULES), Plain(), 0, []
    for what, passed in steps:
        now += passed
        admits = plain.state == "closed" or (plain.state == "open" and now >= plain.due)
        assert breaker.admits(now) is admits
        if what == "call":
            if admits:
                if plain.state == "open":
                    plain.turn("half_open")
                under_way.append((breaker.begin(now), plain.since))
        elif what == "hint":
            breaker.hint(now)
            if plain.state == "open":
                plain.due = min(plain.due, now)
        elif under_way:
            ticket, since = under_way.pop(0)
            {"ok": breaker.succeeded, "bad": breaker.failed, "give up": breaker.abandoned}[what](ticket, now)
            if since == plain.since and what != "give up":
                plain.outcome(now, what == "bad")
            elif since == plain.since and plain.state == "half_open":
                plain.due = now
                plain.turn("open")
        assert breaker.state == plain.state
