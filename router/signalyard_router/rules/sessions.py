"""When a market is open: explicit hours of the trading days, in the market's own time.

A night session belongs to the trading day that follows it. Hours are of the night where they run over midnight or begin at 17:00 or
later. They open on the eve of their trading day, which is the trading day before (a Friday for a Monday, as in Shanghai) or the
calendar day before (a Sunday, as in Chicago). A holiday closes its whole trading day, the night before it included; and
where the eve is the trading day before, a holiday has no evening either.

Hours are wall time. Where the clock is set forward over a boundary, the boundary is the moment of the change; where it is set
back, the first of the two.
"""

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec

from signalyard_router.rules.units import MINUTE, SECOND

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_HOURS = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$")
HoursText = Annotated[str, msgspec.Meta(pattern=_HOURS.pattern, description="such as 09:00-10:15 or 21:00-02:30")]

DAY = 24 * 60 * MINUTE
_EVENING = 17 * 60
_AHEAD = 60
"""Days within which the next change is looked for; no exchange is closed for longer."""
_CACHED = 256


class Hours(msgspec.Struct, frozen=True):
    """Minutes of the opening day, from its midnight; ``closes`` is beyond 1,440 where they run over midnight."""

    opens: int
    closes: int

    @property
    def night(self) -> bool:
        """Whether they belong to the trading day that follows."""
        return self.closes > 24 * 60 or self.opens >= _EVENING


class Span(msgspec.Struct, frozen=True):
    """A stretch of open market, UTC nanoseconds, [opens, closes). ``index`` is that of its hours in the document."""

    opens: int
    closes: int
    index: int
    trading_day: date


class Part(msgspec.Struct, frozen=True):
    """One slot of a session. ``key`` is the same in every session; ``opens`` and ``closes`` are of this one."""

    key: tuple[int, int]
    opens: int
    closes: int


def hours(text: HoursText) -> Hours:
    """``"21:00-02:30"`` -> minutes 1,260 to 1,590. Raises ValueError where the text is no hours."""
    match = _HOURS.fullmatch(text)
    if match is None or (match[3] == "24" and match[4] != "00"):
        raise ValueError("write hours such as 09:00-10:15, 21:00-02:30 or 00:00-24:00")
    opens, closes = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
    if opens == closes:
        raise ValueError(f"{text!r} opens and closes at the same time; a whole day is 00:00-24:00")
    return Hours(opens, closes if closes > opens else closes + 24 * 60)


def overlap(kept: list[Hours]) -> int | None:
    """The index of the first hours that overlap others before them, by the time of day; None where there are none."""
    taken: set[int] = set()
    for index, each in enumerate(kept):
        minutes = {minute % (24 * 60) for minute in range(each.opens, each.closes)}
        if minutes & taken:
            return index
        taken |= minutes
    return None


class Sessions:
    """The open hours of one market. All that ever changes in it is a cache. Times are UTC nanoseconds."""

    def __init__(
        self,
        zone: ZoneInfo,
        kept: list[Hours],
        days: frozenset[Weekday],
        holidays: frozenset[date],
        *,
        eve: Literal["tradingDay", "calendarDay"] = "tradingDay",
    ) -> None:
        self._zone = zone
        self._hours = kept
        self._weekdays = frozenset(WEEKDAYS.index(day) for day in days)
        self._holidays = holidays
        self._eve = eve
        self._spans: dict[date, tuple[Span, ...]] = {}
        self._from = self._until = 0
        self._current: Span | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sessions) and self._says() == other._says()

    def __hash__(self) -> int:
        return hash(self._says())

    def _says(self) -> tuple[object, ...]:
        return self._zone.key, tuple(self._hours), self._weekdays, self._holidays, self._eve

    def span_at(self, ns: int) -> Span | None:
        """The open stretch that holds a time; None while the market is closed."""
        if not self._from <= ns < self._until:
            self._find(ns)
        return self._current

    def open_at(self, ns: int) -> bool:
        """Whether the market is open."""
        return self.span_at(ns) is not None

    def next_change(self, ns: int) -> int | None:
        """When it closes, or opens; None where that is not within sixty days. Stretches that touch are one."""
        local = self._date(ns)
        end: int | None = None
        for ahead in range(-1, _AHEAD):
            for span in self._opened_on(local + timedelta(days=ahead)):
                if end is not None:
                    if span.opens > end:
                        return end
                    end = span.closes
                elif span.opens <= ns < span.closes:
                    end = span.closes
                elif span.opens > ns:
                    return span.opens
        return end if end is not None and end < ns + (_AHEAD - 2) * DAY else None

    def open_time(self, since: int, until: int, at_most: int) -> int:
        """How much of [since, until) the market was open, nanoseconds. Not counted on once ``at_most`` is reached, and not
        further back than sixty days before ``until``."""
        total = 0
        day, first = self._date(until), self._date(since) - timedelta(days=1)
        for _ in range(_AHEAD):
            if day < first or total >= at_most:
                break
            for span in self._opened_on(day):
                total += max(0, min(until, span.closes) - max(since, span.opens))
            day -= timedelta(days=1)
        return min(total, at_most)

    def part(self, ns: int, length: int) -> Part | None:
        """The slot of ``length`` nanoseconds, counted from the opening, that holds a time; None while closed."""
        span = self.span_at(ns)
        if span is None:
            return None
        number = (ns - span.opens) // length
        opens = span.opens + number * length
        return Part((span.index, number), opens, min(opens + length, span.closes))

    def _find(self, ns: int) -> None:
        local = self._date(ns)
        spans = [span for ahead in (-1, 0, 1) for span in self._opened_on(local + timedelta(days=ahead))]
        place = bisect_right(spans, ns, key=lambda span: span.opens)
        before = spans[place - 1] if place else None
        if before is not None and ns < before.closes:
            self._from, self._until, self._current = before.opens, before.closes, before
            return
        self._current = None
        self._from = before.closes if before is not None else ns
        self._until = spans[place].opens if place < len(spans) else ns + 1

    def _opened_on(self, day: date) -> tuple[Span, ...]:
        """What opens on a calendar day, in order of time."""
        spans = self._spans.get(day)
        if spans is None:
            if len(self._spans) >= _CACHED:
                self._spans.clear()
            found = [
                Span(opens, closes, index, trading_day)
                for index, each in enumerate(self._hours)
                if (trading_day := self._night(day) if each.night else self._trading_day(day)) is not None
                # hours that lie wholly in the hour that a change of the clock leaves out do not take place
                and (opens := self._instant(day, each.opens)) < (closes := self._instant(day, each.closes))
            ]
            spans = self._spans[day] = tuple(sorted(found, key=lambda span: span.opens))
        return spans

    def _trading_day(self, day: date) -> date | None:
        return day if day.weekday() in self._weekdays and day not in self._holidays else None

    def _night(self, eve: date) -> date | None:
        """The trading day whose night opens on this eve."""
        if self._eve == "calendarDay":
            return self._trading_day(eve + timedelta(days=1))
        if self._trading_day(eve) is None:
            return None
        following = (eve + timedelta(days=ahead) for ahead in range(1, 8))
        return self._trading_day(next(day for day in following if day.weekday() in self._weekdays))

    def _date(self, ns: int) -> date:
        return datetime.fromtimestamp(ns // SECOND, self._zone).date()

    def _instant(self, day: date, minutes: int) -> int:
        """The first moment at which the market's clock shows so many minutes after a day's midnight, or more."""
        naive = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)
        guess = naive.replace(tzinfo=self._zone)
        seconds = int(guess.timestamp())
        if _shown(seconds, self._zone) != naive:
            low = int(guess.replace(fold=1).timestamp())  # in a gap the other fold is the earlier one
            while seconds - low > 1:
                middle = (low + seconds) // 2
                if _shown(middle, self._zone) >= naive:
                    seconds = middle
                else:
                    low = middle
        return seconds * SECOND


def part_of(sessions: Sessions | None, ns: int, length: int) -> Part | None:
    """The slot of a session; without sessions the day, UTC, is one."""
    if sessions is not None:
        return sessions.part(ns, length)
    midnight = ns - ns % DAY
    number = (ns - midnight) // length
    opens = midnight + number * length
    return Part((0, number), opens, min(opens + length, midnight + DAY))


def open_time(sessions: Sessions | None, since: int, until: int, at_most: int) -> int:
    """How much of [since, until) the market was open, up to ``at_most``, nanoseconds; without sessions all of it."""
    if sessions is not None:
        return sessions.open_time(since, until, at_most)
    return min(max(0, until - since), at_most)


def _shown(seconds: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).replace(tzinfo=None)
