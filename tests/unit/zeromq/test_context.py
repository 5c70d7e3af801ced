"""The threads of libzmq: they wait for the loop, where they may."""

import logging
import os
from pathlib import Path

import pytest
import zmq

from signalyard_router.adapters.zeromq import context as module
from signalyard_router.adapters.zeromq.context import new_context


def policies():
    """Of the threads in this process that read and write for libzmq."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().startswith("ZMQbg/IO"):
            found[int(task.name)] = os.sched_getscheduler(int(task.name))
    return found


@pytest.fixture
def threads():
    """The policies of those that a context begins."""

    def begun(*, sleeps=True):
        before = policies()
        context = new_context(sleeps=sleeps)
        router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        try:
            dealer.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
            dealer.send(b"here")
            assert router.poll(10_000), "a thread sets its policy before it does anything else"
            return [policy for task, policy in policies().items() if task not in before]
        finally:
            router.close(0)
            dealer.close(0)
            context.term()

    return begun


@pytest.fixture
def ordinary():
    """Tests may run under another policy than programs do."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    yield
    os.sched_setscheduler(0, policy, priority)


@pytest.mark.usefixtures("ordinary")
def test_they_do_not_take_the_core_from_the_loop(threads):
    assert threads() == [os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.usefixtures("ordinary")
def test_from_a_loop_that_never_sleeps_they_may(threads):
    assert threads(sleeps=False) == [os.SCHED_OTHER]


@pytest.mark.usefixtures("ordinary")
def test_where_it_is_forbidden_they_are_as_the_kernel_has_them(threads, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError("not here")

    with monkeypatch.context() as forbidden, caplog.at_level(logging.WARNING):
        forbidden.setattr(module.os, "sched_setscheduler", refuse)
        found = threads()
    assert found == [os.SCHED_OTHER]
    assert "zeromq_thread_policy_refused error=not here" in caplog.text


@pytest.mark.usefixtures("ordinary")
def test_a_policy_that_somebody_has_chosen_for_all_is_left_alone(threads, monkeypatch):
    real = os.sched_getscheduler
    monkeypatch.setattr(module.os, "sched_getscheduler", lambda task: real(task) if task else os.SCHED_FIFO)
    assert threads() == [os.SCHED_OTHER]
