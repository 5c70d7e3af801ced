"""Giving memory back to the system."""

import ctypes
from typing import Any


def release(held: list[Any]) -> None:
    """Let go of what ``held`` has, on the thread that calls this, and of the memory that is free then.

    Freeing a large model takes its time, which is why the thread that serves should not do it; and glibc keeps what was freed for
    later, in every thread's own arena, until it is told to trim them.
    """
    held.clear()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:  # no glibc: its own allocator decides
        return
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    trim(0)
