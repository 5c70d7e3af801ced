"""Inference calls in worlds full of faults: one answer each, in its time, its version recorded. Planted bugs show that it would be seen."""

import asyncio
from unittest.mock import patch

import pytest
from simulated.calls import play

from signalyard_router.flow.passthrough import Passthrough
from signalyard_router.rules.budget import Budget
from signalyard_router.rules.record import call_record
from signalyard_router.wire import tensors_json

WORLDS = 200


def test_every_call_has_one_answer_in_its_time_that_its_record_tells_of():
    outcomes = {}
    for seed in range(WORLDS):
        world = play(seed)
        assert not world.findings, f"seed {seed}: {world.findings[:5]}"
        for outcome, count in world.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    # the worlds are such that all of it happens
    assert all(outcomes[each] > 50 for each in ("200", "502", "504", "6", "7", "8")), outcomes


def test_a_seed_is_the_same_world():
    first, second = play(3), play(3)
    assert [(asked.ended, asked.answer) for asked in first.asked] == [
        (asked.ended, asked.answer) for asked in second.asked
    ]


def anybodys(*args, **kwargs):
    """Takes any answer for its own."""


def too_long(self, now, calls_left):
    """Gives each rung what it asks for."""
    return now + 300_000_000


_record = Passthrough._record


async def afterwards(self, call, times):
    """Answers first, and records then."""

    async def late():
        await asyncio.sleep(0.001)
        await _record(self, call, times)

    LATER.append(asyncio.get_running_loop().create_task(late()))
    return call_record(call, seq=len(LATER) + 10**6, t=0, elapsed=0)


LATER = []


async def nobody_else(self, climb, choice, asked, times):
    """Records whoever was assigned, whoever answered."""
    await _climb(self, climb, choice, asked, times)
    climb.failover = False


_climb = Passthrough._climb


@pytest.mark.parametrize(
    ("place", "name", "wrong", "said"),
    [
        (tensors_json, "check_answer", anybodys, "another call's answer"),
        (Budget, "rung_until", too_long, "it had"),
        (Passthrough, "_record", afterwards, "in no record"),
        (Passthrough, "_climb", nobody_else, "failover"),
    ],
    ids=["any_id", "no_budget", "recorded_later", "failover_hidden"],
)
def test_a_planted_bug_is_found(place, name, wrong, said):
    with patch.object(place, name, wrong):
        for seed in range(WORLDS):
            findings = play(seed).findings
            if any(said in finding for finding in findings):
                return
    pytest.fail(f"{wrong.__name__} was not found in {WORLDS} worlds")
