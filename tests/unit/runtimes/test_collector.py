"""The garbage collector during a start: in a process of its own, because all of it is the process's."""

import subprocess
import sys

SCRIPT = """
import gc, weakref
from signalyard_runtimes import collector

class Cycle:
    def __init__(self):
        self.me = self

collector.rest()
held, before = [[] for _ in range(20_000)], gc.get_stats()
lost, kept = Cycle(), Cycle()
gone, there = weakref.ref(lost), weakref.ref(kept)
del lost
assert not gc.isenabled() and gc.get_stats() == before and gone() is not None
collector.settle()
assert gone() is None and there() is kept
assert gc.isenabled() and gc.get_count()[0] < 700
assert gc.get_freeze_count() > len(held)
assert not any(one is held for one in gc.get_objects())
"""


def test_it_rests_until_all_is_there_and_then_looks_at_what_comes_alone() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)
