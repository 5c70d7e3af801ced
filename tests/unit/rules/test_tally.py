"""Sliding counts against a list of everything, and the pairing of observations against a plain model."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from signalyard.words import Direction
from signalyard_router.rules.compare import Comparison, Emitter, Kind, Live
from signalyard_router.rules.pairing import CAPACITY, WAIT, Lapsed, Match, Pairing
from signalyard_router.rules.route import Filters, GateRules, Mapping, Thresholds
from signalyard_router.rules.tally import BUCKET, EDGES, WINDOWS, Excluded, Windows
from signalyard_router.rules.units import SECOND
from signalyard_router.rules.verdict import judge, report

SIDES = (*Direction, None)
STEPS = st.integers(0, 3) | st.integers(0, 900) | st.integers(0, 5_000)
EVENTS = st.one_of(
    st.tuples(st.just("pair"), st.sampled_from(SIDES), st.sampled_from(SIDES), st.floats(-2, 2)),
    st.tuples(st.just("exclude"), st.sampled_from(list(Excluded))),
)


@given(st.lists(st.tuples(STEPS, EVENTS), max_size=80), st.integers(0, 10_000_000_000), STEPS)
def test_windows_count_what_a_list_of_everything_counts(steps, start, rest):
    windows, everything, now = Windows(), [], start
    for seconds, event in steps:
        now += seconds * SECOND
        everything.append((now, event))
        tally = windows.at(now)
        if event[0] == "pair":
            tally.pair(event[1], event[2])
            tally.score.note(event[3])
        else:
            tally.exclude(event[1])
    now += rest * SECOND
    for width in (*WINDOWS.values(), None):
        found = windows.total() if width is None else windows.over(now, width)
        kept = [e for at, e in everything if width is None or at // BUCKET > now // BUCKET - width // BUCKET]
        pairs = [event for event in kept if event[0] == "pair"]
        gone = [event[1] for event in kept if event[0] == "exclude"]
        assert found.paired == len(pairs)
        assert found.compared == sum(1 for e in pairs if {e[1], e[2]} & {Direction.LONG, Direction.SHORT})
        assert found.agreed == sum(1 for e in pairs if e[1] is e[2] and e[1] in (Direction.LONG, Direction.SHORT))
        assert found.selected == len(kept) - gone.count(Excluded.REJECTED)
        assert found.exclusions() == {str(reason): gone.count(reason) for reason in Excluded}
        for live in SIDES:
            for other in SIDES:
                count = found.matrix()[str(live or "none")][str(other or "none")]
                assert count == sum(1 for e in pairs if e[1] is live and e[2] is other)
        assert found.score.count == len(pairs)
        assert abs(found.score.total - sum(e[3] for e in pairs)) < 1e-9
        low = -1.0
        for edge, count in zip((*EDGES, float("inf")), found.score.buckets, strict=True):
            assert count == sum(1 for e in pairs if low < abs(e[3]) <= edge)
            low = edge


def test_a_window_covers_between_its_length_and_a_bucket_less():
    windows = Windows()
    windows.at(0).exclude(Excluded.FAILED)
    minute = WINDOWS["1m"]
    assert windows.over(minute - 1, minute).selected == 1
    assert windows.over(minute, minute).selected == 0


def test_memory_is_an_hour_of_buckets():
    windows = Windows()
    for number in range(10_000):
        windows.at(number * BUCKET).exclude(Excluded.FAILED)
    assert len(windows._buckets) == 360
    assert windows.total().selected == 10_000


MAPPING = Mapping(0.6, 0.52, 0.4, 0.48, False, None)


def test_the_emitter_knows_windows_and_filters_and_nothing_else():
    rules = GateRules(window=5, filters=Filters(frozenset({Direction.LONG, Direction.FLAT}), 0.6))
    emitter = Emitter()
    story = [
        (0, Direction.LONG, 0.7, True),
        (4, Direction.LONG, 0.7, False),
        (5, Direction.LONG, 0.5, False),  # too low, and no window
        (5, Direction.LONG, 0.7, True),
        (6, Direction.SHORT, 0.7, False),  # filtered
        (7, None, None, False),
        (7, Direction.FLAT, None, True),  # an exit
        (8, Direction.LONG, 0.7, True),
    ]
    for at, direction, confidence, emits in story:
        assert emitter.emits(direction, confidence, at, rules) is emits
    strict = msgspec.structs.replace(rules, filter_exits=True)
    assert not Emitter().emits(Direction.FLAT, None, 0, strict)


def test_the_memory_of_instruments_is_bounded():
    comparison = Comparison("r", Kind.SHADOW, "9", GateRules(mapping=MAPPING))
    for number in range(70_000):
        comparison.scored(Live(symbol=f"s{number}", ts_event=1, at=1), 0.7, None, 1)
    assert len(comparison._memories) < 65_537
    assert comparison.windows.total().paired == 70_000


def test_a_difference_that_has_no_numbers_is_not_judged():
    comparison = Comparison("r", Kind.BASELINE, "old", GateRules())
    live = Live(symbol="s", ts_event=1, at=1, direction=Direction.LONG, score=0.7)
    for _ in range(2):
        comparison.observed(live, Direction.LONG, 1)
    asked = Thresholds(minimum=2, score_difference=0.0)
    assert judge(comparison.windows.total(), asked).result == "pass"
    figures = report(comparison.windows.total(), asked)
    assert (figures.score.mean, figures.disagreement, figures.coverage) == (None, 0.0, 1.0)


class Model:
    """Pairing as a list of everything that ever came."""

    def __init__(self):
        self.waiting, self.lives, self.matched = {}, {}, set()

    def lapse(self, now):
        gone = sorted(source for (_, source), at in self.waiting.items() if at <= now - WAIT)
        self.waiting = {key: at for key, at in self.waiting.items() if at > now - WAIT}
        self.lives = {place: at for place, at in self.lives.items() if at > now - WAIT}
        return gone


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(["live", "a", "b"]), st.sampled_from("xyz"), st.integers(1, 3)),
        max_size=60,
    )
)
def test_pairing_against_a_model(steps):
    pairing, model, now = Pairing(), Model(), 1_000 * SECOND
    for source in ("a", "b"):
        pairing.begin(source, now)
    for seconds, what, symbol, ts_event in steps:
        now += seconds * SECOND
        place = (symbol, ts_event)
        unmatched = sorted(lapsed.source for lapsed in pairing.lapse(now) if lapsed.observed)
        before = set(model.lives)
        assert unmatched == model.lapse(now)
        model.matched -= {(gone, source) for gone in before - set(model.lives) for source in "ab"}
        if what == "live":
            found = pairing.decided(Live(symbol=symbol, ts_event=ts_event, at=now), now)
            expected = [] if place in model.lives else [s for s in "ab" if (place, s) in model.waiting]
            model.lives.setdefault(place, now)
            for source in expected:
                del model.waiting[place, source]
                model.matched.add((place, source))
            assert [match.source for match in found] == expected
            continue
        known = (place, what) in model.matched or (place, what) in model.waiting
        assert pairing.known(what, symbol, ts_event) is known
        if known:
            continue
        match = pairing.observed(what, symbol, ts_event, Direction.LONG, now)
        if place in model.lives:
            model.matched.add((place, what))
            assert isinstance(match, Match)
        else:
            model.waiting[place, what] = now
            assert match is None
        assert pairing.waiting(what) == sum(1 for _, source in model.waiting if source == what)


def test_what_waits_is_bounded():
    pairing = Pairing()
    pairing.begin("a", 0)
    for number in range(CAPACITY + 10):
        pairing.observed("a", "x", number, None, 1)
        pairing.decided(Live(symbol="y", ts_event=number, at=1), 1)
    lapsed = pairing.lapse(1)
    assert lapsed.count(Lapsed("a", observed=True)) == 10
    assert lapsed.count(Lapsed("a", observed=False)) == 10


def test_a_decision_that_can_be_compared_takes_the_place_of_one_that_cannot():
    pairing = Pairing()
    pairing.begin("a", 0)
    pairing.decided(Live(symbol="x", ts_event=1, at=1, excluded=Excluded.REJECTED), 1)
    good = Live(symbol="x", ts_event=1, at=2)
    pairing.decided(good, 2)
    assert pairing.observed("a", "x", 1, None, 3) == Match("a", good, None)
