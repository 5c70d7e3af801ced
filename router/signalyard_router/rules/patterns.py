"""Patterns of instruments, as routes write them: ``*``, ``?`` and ``[...]`` as in file names, case kept."""

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache


@lru_cache(maxsize=65_536)
def matcher(pattern: str) -> Callable[[str], object]:
    """A function that says whether an instrument matches.

    The standard library's own cache holds 256 patterns; with more routes than that every look-up would compile all of them.
    """
    return re.compile(translate(pattern)).match
