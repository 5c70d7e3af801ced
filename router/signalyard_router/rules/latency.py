"""What calls took lately, as far as decisions hang on it."""

from math import inf

_KEPT = 256
_EVERY = 16
_LEAST = 32


class Recent:
    """The newest durations, in nanoseconds, and their 95th percentile, worked out anew with every 16th.

    Exact over the newest 256, so that it follows a server that grows slower or faster; a sketch of the whole past would not.
    """

    __slots__ = ("_durations", "_next", "_since", "p95")

    def __init__(self) -> None:
        self._durations: list[int] = []
        self._next = 0
        self._since = 0
        self.p95: int | None = None
        """None while fewer than 32 durations are known."""

    def observe(self, nanoseconds: int) -> None:
        """A call was answered after so long."""
        durations = self._durations
        if len(durations) < _KEPT:
            durations.append(nanoseconds)
        else:
            durations[self._next] = nanoseconds
            self._next = (self._next + 1) % _KEPT
        self._since += 1
        if self._since >= _EVERY and len(durations) >= _LEAST:
            self._since = 0
            self.p95 = sorted(durations)[len(durations) * 95 // 100]


class RowTime:
    """What a row of a large call costs, in nanoseconds: a moving average. Small calls say more of the way than of the rows."""

    __slots__ = ("nanoseconds",)

    def __init__(self) -> None:
        self.nanoseconds = 0.0
        """0 while nothing is known."""

    def observe(self, nanoseconds: int, rows: int) -> None:
        """A call of so many rows was answered after so long."""
        if rows >= 16:
            each = nanoseconds / rows
            self.nanoseconds = each if self.nanoseconds == 0.0 else self.nanoseconds + (each - self.nanoseconds) / 8


class Sharing:
    """How many rows of different requests should share a call: found out by trying.

    A call of several rows may take twice as long as one of a single row, and ``allowance`` (nanoseconds) besides. As long as
    full ones do not take longer, they may carry twice as many; one that does halves them. So a small model gets whole bursts in
    a call, and a large one rows by twos. Both kinds of call are held up alike by what else the router does, so that the
    comparison holds under load, too. Where nothing ever comes alone, the least that a row of a call took stands in for a single one.
    """

    __slots__ = ("_allowance", "_least", "_most", "_single", "rows")

    def __init__(self, allowance: int, most: int) -> None:
        self._allowance = allowance
        self._most = most
        self._single = 0.0
        self._least = inf
        self.rows = 2 if allowance > 0 and most > 1 else 1
        """At most so many; 1: they are not to be shared."""

    def observe(self, nanoseconds: int, rows: int) -> None:
        """A call of so many rows was answered after so long."""
        if rows == 1:
            self._single = self._single + (nanoseconds - self._single) / 8 if self._single else float(nanoseconds)
            return
        if self.rows == 1:
            return
        if not self._single:
            self._least = min(self._least, nanoseconds / rows)
        if nanoseconds > 2 * (self._single or self._least) + self._allowance:
            self.rows = max(2, min(self.rows, rows) // 2)
        elif 2 * rows > self.rows:
            self.rows = min(self._most, 2 * self.rows)
