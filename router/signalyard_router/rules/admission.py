"""Who is let in: not more requests of one caller than agreed, and none that would be answered late.

Both rules are told the time, in monotonic nanoseconds, and know no clock.
"""

from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import exp

from signalyard_router.rules.units import MILLISECOND, SECOND

NEVER = 2**63
"""A deadline that nothing is too late for, nanoseconds."""

_USUAL = MILLISECOND
"""A wait of no more is how an event loop works, and no queue; nobody is refused for it."""

_MOST_WEIGHT = 0.2
"""What a single turn of the event loop may count for in the mean."""

_HOPELESS = 2
"""How many times what it may be a wait is, when five turns of it are all that there is."""

_LET_IN = 16

_TURN = 100_000
"""Requests looked at within so many nanoseconds are of one turn, and count as one."""

MAX_CALLERS = 16_384
"""How many callers' credit is kept; beyond it the one that was heard least recently begins anew."""


class Queueing:
    """How long requests wait between being read and being looked at, and whether that leaves them time enough.

    On one thread this wait is the length of a turn of the event loop, and a request passes through some five turns: its
    batch is begun, its model's answer is read, its record is written, it is settled, it is answered. So a request whose wait is more than a share of
    its deadline may well be answered late, and making it wait longer makes the others late too.

    The mean is weighted by time, not by requests: one long turn, a garbage collection or a large body, holds many requests up
    at once and says little; several of them in a row are a queue. ``settle`` is its time constant, nanoseconds.
    """

    def __init__(self, share: float, settle: int) -> None:
        self._share = share
        self._settle = settle
        self._mean = 0.0
        self._at: int | None = None
        self._turn = 0

    @property
    def mean(self) -> float:
        """The mean wait, nanoseconds, when it was last observed."""
        return self._mean

    def observe(self, wait: int, now: int) -> None:
        """A request was looked at ``wait`` nanoseconds after it was read."""
        at = self._at
        if at is None:
            self._at = now
        elif now - at >= _TURN:
            self._mean += (wait - self._mean) * min(_MOST_WEIGHT, 1.0 - exp((at - now) / self._settle))
            self._at = now

    def too_long(self, wait: int, deadline: int) -> bool:
        """Whether there is a queue that a request is too late for; ``deadline`` is its own, as a duration.

        It must have waited too long itself, so that nobody is refused once the queue is gone, and the mean must be too long.
        """
        most = max(self._share * deadline, _USUAL)
        return wait > most and self._mean > most

    def refuses(self, wait: int, deadline: int) -> bool:
        """Whether a request is to be refused. Of those that are too late, but not hopelessly, one in sixteen is let in.

        Refusing costs time as well. Where callers try again at once, that alone keeps the wait long, and without the
        exception nobody would ever be answered.
        """
        if not self.too_long(wait, deadline):
            return False
        if wait > _HOPELESS * self._share * deadline:
            return True
        self._turn = (self._turn + 1) % _LET_IN
        return self._turn != 0


class CallerRates:
    """A token bucket for each caller: ``rate`` a second on average, ``burst`` at once.

    What is kept of a caller is one number, the time at which its bucket is full again.
    """

    def __init__(self, rate: float, burst: int, most: int = MAX_CALLERS) -> None:
        self._cost = max(1, round(SECOND / rate))
        self._depth = burst * self._cost
        self._most = most
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def wait(self, address: str, now: int) -> int:
        """0 where a request of this address is let in, and it is counted; else the nanoseconds until one would be."""
        caller = network_of(address)
        full_at = max(self._full_at.get(caller, 0), now) + self._cost
        over = full_at - now - self._depth
        if over > 0:
            return over
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return 0

    def __len__(self) -> int:
        return len(self._full_at)


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Who an address belongs to: itself, or of IPv6 its /64, all of which one machine may use."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.exploded[:19]
