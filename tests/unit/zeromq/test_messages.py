"""What is in a message, and what is said where it is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clients.conftest import signal

from signalyard.problems import Problem
from signalyard.wires import zeromq as client
from signalyard_router.adapters.zeromq import messages
from signalyard_router.adapters.zeromq.messages import Flaw, Refused, Request, read_published, read_request

V = messages.VERSION


def test_both_sides_speak_of_the_same():
    assert (client.VERSION, client.BEAT_TOPIC) == (messages.VERSION, messages.BEAT_TOPIC)


def test_a_request():
    assert read_request([V, b"predict", b"7", b"1500", b"{}"], 10) == Request(b"predict", b"7", 1_500_000, b"{}")
    assert read_request([V, b"beat", b"", b"", b""], 10) == Request(b"beat", b"", None, b"")


@pytest.mark.parametrize(
    ("frames", "flaw", "problem", "pointer", "id_"),
    [
        ([], Flaw.MALFORMED, Problem.INVALID_REQUEST, "", b""),
        ([V, b"predict", b"7"], Flaw.MALFORMED, Problem.INVALID_REQUEST, "", b"7"),
        ([V, b"predict", b"7", b"", b"{}", b""], Flaw.MALFORMED, Problem.INVALID_REQUEST, "", b"7"),
        ([b"signalyard/2", b"predict", b"7", b"", b"{}"], Flaw.VERSION, Problem.INVALID_REQUEST, "/0", b"7"),
        ([b"", b"x"], Flaw.VERSION, Problem.INVALID_REQUEST, "/0", b""),
        ([V, b"sell", b"7", b"", b"{}"], Flaw.MALFORMED, Problem.INVALID_REQUEST, "/1", b"7"),
        ([V, b"predict", b"7" * 65, b"", b"{}"], Flaw.MALFORMED, Problem.INVALID_REQUEST, "/2", b""),
        ([V, b"predict", b"7", b"-1", b"{}"], Flaw.MALFORMED, Problem.INVALID_BUDGET, "/3", b"7"),
        ([V, b"predict", b"7", b"0", b"{}"], Flaw.MALFORMED, Problem.INVALID_BUDGET, "/3", b"7"),
        ([V, b"predict", b"7", b"3600000001", b"{}"], Flaw.MALFORMED, Problem.INVALID_BUDGET, "/3", b"7"),
        ([V, b"predict", b"7", b"", b"12345678901"], Flaw.OVERSIZE, Problem.BODY_TOO_LARGE, "/4", b"7"),
    ],
)
def test_what_is_no_request(frames, flaw, problem, pointer, id_):
    found = read_request(frames, 10)
    assert isinstance(found, Refused)
    assert (found.flaw, found.problem.problem, found.problem.pointer, found.id) == (flaw, problem, pointer, id_)


@given(st.lists(st.binary(max_size=70), max_size=8))
def test_nothing_that_comes_is_more_than_refused(frames):
    assert isinstance(read_request(frames, 50), Request | Refused)
    assert isinstance(read_published(frames, 50), bytes | Flaw)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([b"rb", V, b"snapshot", b"{}"], b"{}"),
        ([b"rb", V, b"snapshot"], Flaw.MALFORMED),
        ([b"rb", V, b"signal", b"{}"], Flaw.MALFORMED),
        ([b"rb", b"signalyard/9", b"snapshot", b"{}"], Flaw.VERSION),
        ([b"rb", V, b"snapshot", b"12345678901"], Flaw.OVERSIZE),
    ],
)
def test_what_a_publisher_sends(frames, found):
    assert read_published(frames, 10) == found


def test_no_topic_is_the_beginning_of_another_instruments():
    assert messages.topic(signal(1, "rb2410.SHF")) == b"rb2410.SHF/r"
    assert not messages.topic(signal(1, "rb2410.SHFE")).startswith(b"rb2410.SHF/")
