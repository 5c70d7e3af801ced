"""What calls took lately, as far as decisions hang on it."""

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


class RowShare:
    """What a row of a call costs at most, in nanoseconds: the least time of a call a row of it, of late.

    Most of a small call's time is spent on the way, which more rows do not make longer; so the figure falls as calls grow, until
    it is what the rows themselves take. It forgets slowly, so that it follows a model that grows slower.
    """

    __slots__ = ("nanoseconds",)

    def __init__(self) -> None:
        self.nanoseconds = 0.0
        """0 while nothing is known."""

    def observe(self, nanoseconds: int, rows: int) -> None:
        """A call of so many rows was answered after so long."""
        each = nanoseconds / rows
        known = self.nanoseconds
        self.nanoseconds = each if known == 0.0 else min(each, known + known / 64)
