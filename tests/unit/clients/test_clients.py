"""The clients over a wire that does what a test says."""

import asyncio
import math
import threading
from contextlib import asynccontextmanager

import msgspec
import pytest
from tests.unit.clients.conftest import NOW, signal, state

from signalyard import AsyncClient, BlockingClient, Decision, Outcome, Snapshot
from signalyard.problems import CallerError, Problem, RouterError, error

SNAPSHOT = Snapshot(symbol="a.X", ts_event=1, features={"p": 0.5})
DECISION = Decision(outcome=Outcome.ABSTAINED, symbol="a.X", ts_event=1, route="r")
ANSWER = msgspec.json.encode(DECISION)
PATIENT = 20


class Wire:
    """Answers with ``answer``, or raises it, or does neither where it is None."""

    def __init__(self, answer=ANSWER):
        self.answer = answer
        self.asked = []
        self.threads = set()
        self.closed = False

    async def predict(self, body, budget):
        self.asked.append((body, budget))
        self.threads.add(threading.current_thread().name)
        if self.answer is None:
            await asyncio.get_running_loop().create_future()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def state(self, symbol=None, route=None):
        return msgspec.json.encode(state())

    @asynccontextmanager
    async def signals(self, wanted):
        yield self._signals()

    async def _signals(self):
        yield signal(1)
        await asyncio.get_running_loop().create_future()

    async def close(self):
        self.closed = True


def over(wire, **more):
    """A client for coroutines and one for threads, as functions that call `predict`."""

    async def within():
        async with AsyncClient(wire, **more) as client:
            return await client.predict(SNAPSHOT)

    def blocking():
        with BlockingClient(lambda: wire, **more) as client:
            return client.predict(SNAPSHOT)

    return [lambda: asyncio.run(within()), blocking]


@pytest.mark.parametrize("way", [0, 1], ids=["coroutines", "threads"])
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, Problem.DEADLINE_EXCEEDED),
        (ConnectionResetError("gone"), Problem.ROUTER_UNREACHABLE),
        (EOFError(), Problem.ROUTER_UNREACHABLE),
        (error(Problem.OVERLOADED, "too much"), Problem.OVERLOADED),
        (b"{", Problem.INTERNAL),
        (msgspec.json.encode(msgspec.structs.replace(DECISION, symbol="b.X")), Problem.INTERNAL),
    ],
)
def test_what_goes_wrong_is_a_problem(way, answer, problem):
    wire = Wire(answer)
    with pytest.raises(RouterError) as caught:
        # Who gets an answer gets it at once, unless a busy machine has no time for threads.
        over(wire, deadline=0.05 if answer is None else 20.0)[way]()
    assert caught.value.problem is problem
    assert wire.closed


@pytest.mark.parametrize("way", [0, 1], ids=["coroutines", "threads"])
def test_the_budget_is_what_is_left(way):
    wire = Wire()
    assert over(wire, deadline=PATIENT)[way]() == [DECISION]
    ((body, budget),) = wire.asked
    assert msgspec.json.decode(body, type=Snapshot) == SNAPSHOT
    assert 0 < budget <= PATIENT * 1_000_000


@pytest.mark.parametrize("deadline", [0, -1, math.nan, math.inf, 3601])
def test_a_deadline_that_is_none(deadline):
    for make in (lambda: AsyncClient(Wire(), deadline), lambda: BlockingClient(Wire, deadline)):
        with pytest.raises(CallerError) as caught:
            make()
        assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_SETTING, "/deadline")


def test_a_deadline_that_has_passed_asks_nobody():
    wire = Wire()
    with BlockingClient(lambda: wire) as client, pytest.raises(RouterError) as caught:
        client.predict(SNAPSHOT, deadline=0)
    assert caught.value.problem is Problem.DEADLINE_EXCEEDED
    assert wire.asked == []


def test_the_wire_runs_on_one_thread_whoever_asks():
    wire = Wire()
    with BlockingClient(lambda: wire, deadline=PATIENT) as client:
        threads = [threading.Thread(target=client.predict, args=(SNAPSHOT,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENT)
    assert len(wire.asked) == 8
    assert wire.threads == {"signalyard-client"}


def test_a_closed_client_says_so_and_its_subscriptions_end():
    wire = Wire()
    client = BlockingClient(lambda: wire, deadline=PATIENT)
    subscription = client.subscribe(now=lambda: NOW)
    assert subscription.next(PATIENT).seq == 1
    client.close()
    client.close()
    assert subscription.next(PATIENT) is None
    assert "signalyard-client" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="closed"):
        client.predict(SNAPSHOT)
