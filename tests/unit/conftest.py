"""A machine that is busy with other things makes no example wrong: no time limit for one.

How long the fuzzers run: a bounded, repeatable round each, or with FUZZ_SECONDS new rounds until the time is over.
"""

import os
import time

import pytest
from hypothesis import settings

settings.register_profile("signalyard", deadline=None)
settings.load_profile("signalyard")

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """With FUZZ_SECONDS each test is repeated, with other examples every time, for its share of them."""
    until = time.monotonic() + SECONDS / max(1, len(pyfuncitem.session.items))
    result = yield
    names = pyfuncitem._fixtureinfo.argnames
    while SECONDS and time.monotonic() < until:
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    return result
