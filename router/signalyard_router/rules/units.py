"""Durations and rates as documents write them, and their canonical numbers."""

import re
from typing import Annotated

import msgspec

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND

_NANOSECONDS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": 60 * MINUTE}
# A century at most: times are int64 nanoseconds, and one that lies further on cannot be written down.
_DURATION = re.compile(r"^(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:us|ms|s)|[0-9]{1,6}(?:\.[0-9]{1,6})?(?:m|h))$")
DURATION_PATTERN = _DURATION.pattern
_PARTS = re.compile(r"([0-9]+)(?:\.([0-9]+))?([a-z]+)")
_INCREASE = re.compile(r"^([0-9]{1,6}%|off)$")
_RATE = re.compile(r"^([1-9][0-9]{0,8})/(s|min|h)$")
_RATE_WINDOWS = {"s": SECOND, "min": MINUTE, "h": 60 * MINUTE}

LONGEST_RATE_WINDOW = max(_RATE_WINDOWS.values())
MAX_RATE_COUNT = 100_000
MAX_FLIPS_COUNT = 1_000
"""The gate keeps the times of as many signals of a route, and of as many flips of an instrument."""

Duration = Annotated[str, msgspec.Meta(pattern=_DURATION.pattern, description="such as 100ms, 2.5s, 10m")]
DurationOrOff = Annotated[str, msgspec.Meta(pattern=rf"({_DURATION.pattern}|^off)$", description="such as 10m, or off")]
IncreaseOrOff = Annotated[str, msgspec.Meta(pattern=_INCREASE.pattern, description="such as 300%, or off")]
RateText = Annotated[str, msgspec.Meta(pattern=_RATE.pattern, description="such as 60/min, 10/s, 500/h")]


class Rate(msgspec.Struct, frozen=True):
    """At most ``count`` within any ``window`` nanoseconds."""

    count: int
    window: int


def nanoseconds(text: Duration) -> int:
    """``"2.5s"`` -> 2,500,000,000. Raises ValueError where the text is no duration."""
    match = _PARTS.fullmatch(text)
    if match is None or _DURATION.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a duration such as 100ms, 2.5s or 10m")
    whole, fraction = match[1], match[2]
    unit = _NANOSECONDS[match[3]]
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def rate(text: RateText) -> Rate:
    """``"60/min"`` -> 60 within a minute. Raises ValueError where the text is no rate."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a rate such as 60/min")
    return Rate(int(match[1]), _RATE_WINDOWS[match[2]])
