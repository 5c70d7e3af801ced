"""What must be the same on every wire, and what may differ."""

import msgspec
import pytest
from tests.unit.clients.conftest import signal

from signalyard.wire import Decision
from signalyard.words import Outcome
from signalyard_demo.compare import compare, decide_all
from signalyard_demo.replay import ReplayError

EMITTED = Decision(
    outcome=Outcome.EMITTED, symbol="a.X", ts_event=1, proposal_id="p", elapsed_us=3, signal=signal(7, "a.X")
)


def changed(**more):
    return msgspec.structs.replace(EMITTED, signal=msgspec.structs.replace(EMITTED.signal, **more))


def test_ids_sequences_and_times_may_differ():
    other = changed(signal_id="s-9", epoch=9, seq=9, prev_seq=8, ts_init=5, ts_expire=6)
    other = msgspec.structs.replace(other, proposal_id="q", elapsed_us=9, row=2, duplicate_of="s-4")
    first, second = compare({"rest": [EMITTED], "zeromq": [other]})
    assert (first.differences, second.differences, second.outcomes) == (0, 0, {"emitted": 1})


@pytest.mark.parametrize(
    "more", [{"score": 0.1}, {"ts_event": 2}, {"signal": "short"}, {"position": 1.0}, {"version": "8"}]
)
def test_nothing_else_may(more):
    _, other = compare({"rest": [EMITTED, EMITTED], "zeromq": [EMITTED, changed(**more)]})
    assert other.differences == 1
    assert next(iter(more)) in other.first


def test_a_wire_that_decides_less_is_no_comparison():
    with pytest.raises(ValueError, match="shorter"):
        compare({"rest": [EMITTED, EMITTED], "zeromq": [EMITTED]})


class Client:
    def __init__(self, answer):
        self.answer = answer
        self.sizes = []

    def predict(self, rows):
        self.sizes.append(len(rows))
        return self.answer(rows)


def test_all_rows_are_asked_for_in_their_order():
    client = Client(lambda rows: [msgspec.structs.replace(EMITTED, row=n, ts_event=r) for n, r in enumerate(rows)])
    found = decide_all(client, list(range(1, 31)))
    assert [decision.ts_event for decision in found] == list(range(1, 31))
    assert client.sizes == [1] * 9 + [4] + [1] * 9 + [4] + [1] * 4


def test_a_row_without_its_decision_ends_it():
    with pytest.raises(ReplayError):
        decide_all(Client(lambda rows: []), [1])
