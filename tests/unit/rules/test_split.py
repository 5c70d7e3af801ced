from hypothesis import given
from hypothesis import strategies as st

from signalyard.words import Track
from signalyard_router.rules.split import SLOTS, assign, slot

instruments = st.lists(st.text(min_size=1, max_size=12).map(lambda text: f"{text}.X"), unique=True, max_size=60)
weights = st.integers(0, SLOTS)


def split(names, canary, pin=None):
    table = {Track.STABLE: SLOTS - canary, Track.CANARY: canary}
    return {name: assign("model", name, table, pin or {}) for name in names}


@given(instruments, weights, st.randoms())
def test_neither_order_nor_company_counts(names, canary, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    whole = split(names, canary)
    assert split(shuffled, canary) == whole
    assert all(split([name], canary)[name] is whole[name] for name in names)


@given(instruments, weights, weights)
def test_a_change_of_weight_moves_only_the_slots_that_change_hands(names, before, after):
    one, other = split(names, before), split(names, after)
    for name in names:
        between = min(before, after) <= slot("model", name) < max(before, after)
        assert (one[name] is not other[name]) == between


def test_the_weight_is_the_share():
    names = [f"i{number}.X" for number in range(20_000)]
    share = sum(1 for track in split(names, 1_000).values() if track is Track.CANARY) / len(names)
    assert 0.09 < share < 0.11
    assert set(split(names, 0).values()) == {Track.STABLE}
    assert set(split(names, SLOTS).values()) == {Track.CANARY}


def test_a_pin_beats_the_hash():
    assert split(["rb2410.SHFE"], 0, {"rb2410.SHFE": Track.CANARY}) == {"rb2410.SHFE": Track.CANARY}


def test_the_slots_are_these_for_good():
    # Another value here would move live positions to another model when the software is upgraded.
    assert [slot("rb-trend", name) for name in ("rb2410.SHFE", "cu2409.SHFE", "ES.CME")] == [2547, 1086, 5589]
