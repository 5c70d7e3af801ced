"""A machine that is busy with other things makes no example wrong: no time limit for one."""

from hypothesis import settings

settings.register_profile("signalyard", deadline=None)
settings.load_profile("signalyard")
