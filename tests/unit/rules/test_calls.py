"""Retry budget, latency, chunks."""

from hypothesis import given
from hypothesis import strategies as st

from signalyard_router.rules.chunks import chunks, rows_within
from signalyard_router.rules.latency import Recent, RowTime
from signalyard_router.rules.retries import RetryBudget


@given(st.lists(st.booleans(), max_size=300))
def test_second_calls_never_exceed_their_share(wishes):
    budget, granted = RetryBudget(0.2, 10.0), 0
    for calls, wish in enumerate(wishes, start=1):
        budget.deposit()
        granted += wish and budget.withdraw()
        assert granted <= 10 + 0.2 * calls


def test_an_outage_costs_a_fifth_more():
    budget = RetryBudget(0.2, 10.0)
    granted = 0
    for _ in range(1000):
        budget.deposit()
        granted += budget.withdraw()
    assert 200 <= granted <= 210


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=700))
def test_the_95th_percentile_is_that_of_the_newest(durations):
    recent = Recent()
    for number, duration in enumerate(durations, start=1):
        recent.observe(duration)
        if number < 32:
            assert recent.p95 is None
        elif number % 16 == 0:
            newest = sorted(durations[:number][-256:])
            assert recent.p95 == newest[len(newest) * 95 // 100]


def test_what_a_row_takes_is_learnt_from_large_calls():
    time = RowTime()
    time.observe(1_000_000, 1)
    assert time.nanoseconds == 0
    for _ in range(100):
        time.observe(5_000_000, 100)
    assert time.nanoseconds == 50_000


@given(st.integers(1, 5000), st.integers(1, 300))
def test_chunks_cover_the_rows_and_are_even(count, most):
    parts = chunks(count, most)
    assert [index for part in parts for index in range(count)[part]] == list(range(count))
    sizes = [len(range(count)[part]) for part in parts]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-count // most)


def test_slow_rows_travel_in_smaller_chunks():
    assert rows_within(50_000_000, 0.0, 256, 16) == 256
    assert rows_within(50_000_000, 10_000.0, 256, 16) == 256
    assert rows_within(50_000_000, 250_000.0, 256, 16) == 100
    assert rows_within(50_000_000, 50_000_000.0, 256, 16) == 16
