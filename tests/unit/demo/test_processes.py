"""Children end with the run, however it ends."""

import os
import signal
import sys
import threading

import pytest

from signalyard_demo.processes import Children, InterruptError, ProcessError, free_ports, tail, wait_ready

SLEEPER = [sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def until_up(log) -> None:
    for _ in range(1_000):
        if "up" in tail(log):
            return
        threading.Event().wait(0.01)
    raise AssertionError("the child did not start")


def test_children_are_reaped_frozen_or_deaf(tmp_path) -> None:
    with Children(grace=0.3) as children:
        frozen = children.start("frozen", SLEEPER, tmp_path / "frozen.log")
        deaf = children.start("deaf", STUBBORN, tmp_path / "deaf.log")
        until_up(tmp_path / "frozen.log")
        until_up(tmp_path / "deaf.log")
        frozen.send(signal.SIGSTOP)
    assert gone(frozen.pid)
    assert gone(deaf.pid)
    assert frozen.exit_code == -signal.SIGTERM
    assert deaf.exit_code == -signal.SIGKILL


def test_an_interrupt_ends_the_run_and_its_children(tmp_path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    pids = []

    def interrupted_run() -> None:
        with Children(grace=1.0) as children:
            pids.append(children.start("sleeper", SLEEPER, tmp_path / "log").pid)
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(10.0)

    with pytest.raises(InterruptError):
        interrupted_run()
    assert gone(pids[0])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_child_that_ends_early_is_said_with_its_log(tmp_path) -> None:
    (port,) = free_ports(1)
    with Children() as children:
        child = children.start(
            "short", [sys.executable, "-S", "-c", "raise SystemExit('no model here')"], tmp_path / "log"
        )
        with pytest.raises(ProcessError, match="short ended with exit code 1 before it was ready") as caught:
            wait_ready(child, port, "/", 10.0)
    assert caught.value.log is not None
    assert "no model here" in tail(caught.value.log)


def test_a_program_that_is_not_there_is_said(tmp_path) -> None:
    with Children() as children, pytest.raises(ProcessError, match="cannot be started"):
        children.start("ghost", [str(tmp_path / "ghost")], tmp_path / "log")


def test_ports_differ() -> None:
    assert len(set(free_ports(10))) == 10
