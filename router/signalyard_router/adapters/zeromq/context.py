"""What makes sockets, and has the threads that read and write them."""

import logging
import os

import zmq

_log = logging.getLogger("signalyard.zeromq")


def new_context(*, sleeps: bool) -> "zmq.Context[zmq.Socket[bytes]]":
    """A context whose threads leave the core to who has it, where the event loop ``sleeps`` when there is nothing to do.

    libzmq writes by a thread of its own, and a router often has one core. The kernel would hand it to that thread at every message, and
    back: 40 us of CPU each. As SCHED_BATCH it runs when the loop waits, and writes what has gathered: 8 us. From a loop that
    never waits it must be able to take the core.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    policy = getattr(os, "SCHED_BATCH", None)  # Linux alone has it
    if sleeps and policy is not None and _may_take(policy):
        context.set(zmq.THREAD_SCHED_POLICY, policy)
    return context


def _may_take(policy: int) -> bool:
    """Whether a thread of ours may have it; libzmq would end the process where it may not."""
    own, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    if own != os.SCHED_OTHER:
        return False  # somebody has chosen another one for all of us
    try:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setscheduler(0, own, priority)
    except OSError as exc:
        _log.warning("event=zeromq_thread_policy_refused error=%s", exc)
        return False
    return True
