"""Remembering what was made of texts that callers choose, without letting them fill the memory."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

_Text = TypeVar("_Text", str, bytes)
_Made = TypeVar("_Made")


def remembered(longest: int, most: int) -> Callable[[Callable[[_Text], _Made]], Callable[[_Text], _Made]]:
    """Remember what a function makes of the last ``most`` texts; of one longer than ``longest`` it is made each time."""

    def around(function: Callable[[_Text], _Made]) -> Callable[[_Text], _Made]:
        known = lru_cache(maxsize=most)(function)

        @wraps(function)
        def made(text: _Text) -> _Made:
            return known(text) if len(text) <= longest else function(text)

        return made

    return around
