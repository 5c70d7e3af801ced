"""Who is let in, in time that only passes in numbers."""

import random
from typing import NamedTuple

import pytest

from signalyard_router.rules.admission import CallerRates, Queueing, network_of
from signalyard_router.rules.units import MILLISECOND, SECOND
from signalyard_router.settings import RouterSettings

DEADLINE = 100 * MILLISECOND
COST, REFUSAL = 200_000, 40_000  # of a decision and of a refusal on the one thread, nanoseconds
TURNS = 5  # of the event loop, from being read to being answered


class Outcome(NamedTuple):
    answered: float  # as a share of what one thread can do
    refused: float
    late: int
    slowest: int


def play(load: float, *, guarded: bool = True, seconds: int = 3) -> Outcome:
    """An event loop on one thread: whoever arrived since the last turn is read, then each request is taken a step further."""
    rng, settings = random.Random(7), RouterSettings()
    queueing = Queueing(settings.max_wait_share if guarded else 1e9, settings.wait_settle)
    rate = load / COST
    now, coming = 0.0, rng.expovariate(rate)
    read: list[float] = []
    under_way: list[tuple[float, int]] = []
    times: list[float] = []
    asked = refused = 0
    while now < seconds * SECOND:
        if coming > now and not read and not under_way:
            now = coming
        started, read = read, []
        steps, under_way = under_way, []
        edge = now
        while coming <= edge:
            coming += rng.expovariate(rate)
            now += REFUSAL / 5
            read.append(now)
        for received in started:
            asked += 1
            queueing.observe(int(now - received), int(now))
            if queueing.refuses(int(now - received), DEADLINE):
                refused += 1
                now += REFUSAL * 4 / 5
            else:
                now += COST / TURNS
                under_way.append((received, 1))
        for received, step in steps:
            now += COST / TURNS
            if step + 1 < TURNS:
                under_way.append((received, step + 1))
            else:
                times.append(now - received)
    late = sum(time > DEADLINE for time in times)
    return Outcome(len(times) * COST / (seconds * SECOND), refused / asked, late, int(max(times)))


@pytest.mark.parametrize("load", [0.3, 0.8, 0.9])
def test_below_capacity_nobody_is_refused(load: float) -> None:
    outcome = play(load)
    assert (outcome.refused, outcome.late) == (0, 0)
    assert outcome.answered == pytest.approx(load, rel=0.05)


@pytest.mark.parametrize(("load", "least"), [(1.2, 0.8), (1.5, 0.7), (2.5, 0.4)])
def test_over_capacity_whoever_is_let_in_is_on_time(load: float, least: float) -> None:
    outcome = play(load)
    assert outcome.late <= 0.02 * outcome.answered * 3 * SECOND / COST
    assert outcome.answered > least
    assert outcome.refused > 0.1
    assert play(load, guarded=False).late > 1000


def queue(*waits: int, apart: int = 5 * MILLISECOND) -> tuple[Queueing, int]:
    queueing, now = Queueing(0.1, 20 * MILLISECOND), SECOND
    queueing.observe(0, now)
    for wait in waits:
        now += apart
        queueing.observe(wait, now)
    return queueing, now


def test_one_long_turn_is_no_queue() -> None:
    queueing, _ = queue(45 * MILLISECOND)
    assert not queueing.refuses(45 * MILLISECOND, DEADLINE)
    queueing, _ = queue(*[45 * MILLISECOND] * 3)
    assert queueing.refuses(45 * MILLISECOND, DEADLINE)


def test_once_the_queue_is_gone_nobody_is_refused() -> None:
    queueing, _ = queue(*[20 * MILLISECOND] * 50)
    assert queueing.mean > 15 * MILLISECOND
    assert not queueing.refuses(9 * MILLISECOND, DEADLINE)


def test_one_in_sixteen_is_let_in_unless_it_is_hopeless() -> None:
    queueing, _ = queue(*[20 * MILLISECOND] * 50)
    assert [queueing.refuses(20 * MILLISECOND, DEADLINE) for _ in range(32)].count(False) == 2
    assert all(queueing.refuses(31 * MILLISECOND, DEADLINE) for _ in range(32))


def test_a_tighter_deadline_is_too_late_sooner_but_never_below_what_is_usual() -> None:
    queueing, _ = queue(*[5 * MILLISECOND] * 50)
    assert queueing.too_long(5 * MILLISECOND, 40 * MILLISECOND)
    assert not queueing.too_long(5 * MILLISECOND, DEADLINE)
    assert not queueing.too_long(MILLISECOND, 1)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    rates = CallerRates(10, 3)
    assert [rates.wait("10.0.0.1", 0) for _ in range(4)] == [0, 0, 0, SECOND // 10]
    assert rates.wait("10.0.0.2", 0) == 0
    assert rates.wait("10.0.0.1", SECOND // 10 - 1) == 1
    assert rates.wait("10.0.0.1", SECOND // 10) == 0
    assert rates.wait("10.0.0.1", SECOND // 10) == SECOND // 10
    assert [rates.wait("10.0.0.1", 100 * SECOND) for _ in range(4)] == [0, 0, 0, SECOND // 10]


def test_what_is_refused_does_not_count() -> None:
    rates = CallerRates(1, 1)
    assert rates.wait("a", 0) == 0
    assert [rates.wait("a", SECOND // 2) for _ in range(100)] == [SECOND // 2] * 100
    assert rates.wait("a", SECOND) == 0


@pytest.mark.parametrize("rate", [3, 7, 1000 / 3])
def test_a_rate_that_is_no_whole_number_of_nanoseconds(rate: float) -> None:
    rates = CallerRates(rate, 1)
    let_in = sum(rates.wait("a", now * MILLISECOND) == 0 for now in range(30_000))
    assert let_in == pytest.approx(30 * rate, rel=0.01 if rate < 10 else 0.26)


def test_callers_are_forgotten_oldest_first() -> None:
    rates = CallerRates(1, 1, most=2)
    for name in ("a", "b", "c"):
        assert rates.wait(name, 0) == 0
    assert len(rates) == 2
    assert rates.wait("c", 0) > 0
    assert rates.wait("a", 0) == 0


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::1", "2001:0db8:0001:0002"),
        ("2001:db8:1:2:ffff::", "2001:0db8:0001:0002"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_who_an_address_belongs_to(address: str, caller: str) -> None:
    assert network_of(address) == caller
