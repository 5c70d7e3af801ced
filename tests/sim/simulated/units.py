"""Durations and rates as documents write them."""

from functools import lru_cache

_UNITS = {
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}


@lru_cache
def duration(text: str) -> int:
    """Nanoseconds."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return round(float(digits) * _UNITS[text[len(digits) :]])


def rate(text: str | None) -> tuple[int, int] | None:
    """Count and window."""
    if text is None:
        return None
    count, _, unit = text.partition("/")
    return int(count), _UNITS[unit]
