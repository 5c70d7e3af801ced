"""Sessions, against known days of known exchanges and against a clock that is watched minute by minute."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signalyard_router.rules.sessions import WEEKDAYS, Sessions, hours, open_time, overlap, part_of
from signalyard_router.rules.units import MINUTE, SECOND

SHANGHAI = ZoneInfo("Asia/Shanghai")
CHICAGO = ZoneInfo("America/Chicago")
NEW_YORK = ZoneInfo("America/New_York")
WORKDAYS = frozenset(WEEKDAYS[:5])
# The autumn of 2026 as China's futures exchanges keep it: closed from 1 to 8 October, Thursday to Thursday.
GOLDEN_WEEK = frozenset(date(2026, 10, day) for day in range(1, 9))
METAL = ["09:00-10:15", "10:30-11:30", "13:30-15:00", "21:00-02:30"]


def ns(zone, *parts, fold=0):
    return int(datetime(*parts, tzinfo=zone, fold=fold).timestamp()) * SECOND


def made(texts, zone=SHANGHAI, days=WORKDAYS, holidays=frozenset(), eve="tradingDay"):
    return Sessions(zone, [hours(text) for text in texts], days, holidays, eve=eve)


@pytest.mark.parametrize(
    ("parts", "trading_day"),
    [
        ((2026, 9, 30, 9, 0), (2026, 9, 30)),
        ((2026, 9, 30, 8, 59), None),
        ((2026, 9, 30, 10, 15), None),
        ((2026, 9, 29, 21, 0), (2026, 9, 30)),  # the night belongs to the day that follows
        ((2026, 9, 30, 2, 29), (2026, 9, 30)),
        ((2026, 9, 30, 2, 30), None),
        ((2026, 9, 30, 21, 30), None),  # no night before a holiday
        ((2026, 10, 1, 1, 0), None),
        ((2026, 10, 1, 9, 30), None),
        ((2026, 10, 8, 21, 30), None),  # nor in the evening of the last one
        ((2026, 10, 9, 9, 30), (2026, 10, 9)),
        ((2026, 10, 9, 21, 30), (2026, 10, 12)),  # Friday's night is Monday's
        ((2026, 10, 10, 2, 0), (2026, 10, 12)),
        ((2026, 10, 10, 9, 30), None),
        ((2026, 10, 11, 21, 30), None),
    ],
)
def test_shanghai_around_a_holiday(parts, trading_day):
    span = made(METAL, holidays=GOLDEN_WEEK).span_at(ns(SHANGHAI, *parts))
    assert (span.trading_day if span else None) == (date(*trading_day) if trading_day else None)


@pytest.mark.parametrize(
    ("parts", "trading_day"),
    [
        ((2026, 5, 24, 16, 59), None),
        ((2026, 5, 24, 17, 0), None),  # Memorial Day is closed, its Sunday evening included
        ((2026, 5, 25, 12, 0), None),
        ((2026, 5, 25, 17, 0), (2026, 5, 26)),  # and trading goes on in its own evening
        ((2026, 5, 26, 15, 59), (2026, 5, 26)),
        ((2026, 5, 26, 16, 0), None),
        ((2026, 5, 29, 15, 59), (2026, 5, 29)),
        ((2026, 5, 29, 17, 0), None),  # a Friday has no evening
        ((2026, 5, 31, 17, 0), (2026, 6, 1)),  # a Sunday has
    ],
)
def test_chicago_whose_week_begins_on_sunday(parts, trading_day):
    sessions = made(["17:00-16:00"], CHICAGO, holidays=frozenset({date(2026, 5, 25)}), eve="calendarDay")
    span = sessions.span_at(ns(CHICAGO, *parts))
    assert (span.trading_day if span else None) == (date(*trading_day) if trading_day else None)


def test_a_night_follows_the_clock_through_its_changes():
    sessions = made(["17:00-16:00"], CHICAGO, eve="calendarDay")
    for sunday, hours_open in (((2026, 3, 8), 23), ((2026, 11, 1), 23)):
        span = sessions.span_at(ns(CHICAGO, *sunday, 18))
        assert (span.closes - span.opens) // (60 * MINUTE) == hours_open
    # New York's clock is set in the night to a Sunday; a market that is open then has an hour less, and one more
    always = made(["20:00-08:00"], NEW_YORK, days=frozenset(WEEKDAYS), eve="calendarDay")
    lengths = [
        (span.closes - span.opens) // (60 * MINUTE)
        for day in ((2026, 3, 7), (2026, 10, 31), (2026, 11, 1))
        if (span := always.span_at(ns(NEW_YORK, *day, 23)))
    ]
    assert lengths == [11, 13, 12]


@pytest.mark.parametrize(
    ("text", "day", "opens", "closes"),
    [
        # 02:00 to 03:00 does not exist on 8 March
        ("01:00-02:30", (2026, 3, 8), (6, 0), (7, 0)),
        ("02:30-04:00", (2026, 3, 8), (7, 0), (8, 0)),
        ("02:10-02:50", (2026, 3, 8), None, None),
        # 01:00 to 02:00 comes twice on 1 November
        ("00:30-01:30", (2026, 11, 1), (4, 30), (5, 30)),
        ("01:30-03:00", (2026, 11, 1), (5, 30), (8, 0)),
        ("00:00-02:00", (2026, 11, 1), (4, 0), (7, 0)),
    ],
)
def test_boundaries_in_the_hour_of_a_change(text, day, opens, closes):
    sessions = made([text], NEW_YORK, days=frozenset(WEEKDAYS))
    midnight = ns(UTC, *day)
    span = sessions.span_at(sessions.next_change(midnight))
    if opens is None:
        assert span.opens >= midnight + 24 * 60 * MINUTE
    else:
        assert span.opens == midnight + (opens[0] * 60 + opens[1]) * MINUTE
        assert span.closes == midnight + (closes[0] * 60 + closes[1]) * MINUTE


def test_the_next_change():
    sessions = made(METAL, holidays=GOLDEN_WEEK)
    assert sessions.next_change(ns(SHANGHAI, 2026, 9, 30, 9, 30)) == ns(SHANGHAI, 2026, 9, 30, 10, 15)
    assert sessions.next_change(ns(SHANGHAI, 2026, 9, 30, 15, 0)) == ns(SHANGHAI, 2026, 10, 9, 9, 0)
    assert sessions.next_change(ns(SHANGHAI, 2026, 10, 9, 23, 0)) == ns(SHANGHAI, 2026, 10, 10, 2, 30)
    touching = made(["00:00-12:00", "12:00-16:00", "17:00-24:00"])
    assert touching.next_change(ns(SHANGHAI, 2026, 9, 30, 1)) == ns(SHANGHAI, 2026, 9, 30, 16)
    # 17:00 to 24:00 is the night of the next day, whose hours it touches
    assert touching.next_change(ns(SHANGHAI, 2026, 9, 29, 18)) == ns(SHANGHAI, 2026, 9, 30, 16)
    assert made(["00:00-24:00"], days=frozenset(WEEKDAYS)).next_change(ns(SHANGHAI, 2026, 9, 30)) is None
    never = made(["09:00-10:00"], days=frozenset({"mon"}), holidays=frozenset(
        date(2026, 1, 1) + timedelta(days=day) for day in range(365)
    ))  # fmt: skip
    assert never.next_change(ns(SHANGHAI, 2026, 3, 1)) is None


def test_open_time_and_parts():
    sessions = made(METAL, holidays=GOLDEN_WEEK)
    since, until = ns(SHANGHAI, 2026, 9, 30, 14, 50), ns(SHANGHAI, 2026, 10, 9, 9, 7)
    assert sessions.open_time(since, until, 10**18) == 17 * MINUTE
    assert sessions.open_time(since, until, 5 * MINUTE) == 5 * MINUTE
    assert open_time(None, since, since + 7, 10**18) == 7
    assert open_time(None, until, since, 10**18) == 0
    part = sessions.part(ns(SHANGHAI, 2026, 9, 30, 10, 14), 15 * MINUTE)
    assert (part.key, (part.closes - part.opens) // MINUTE) == ((0, 4), 15)
    assert sessions.part(ns(SHANGHAI, 2026, 10, 10, 0, 1), 15 * MINUTE).key == (3, 12)
    assert sessions.part(ns(SHANGHAI, 2026, 10, 10, 9), 15 * MINUTE) is None
    odd = sessions.part(ns(SHANGHAI, 2026, 9, 30, 10, 14), 40 * MINUTE)
    assert (odd.key, (odd.closes - odd.opens) // MINUTE) == ((0, 1), 35)
    assert part_of(None, ns(UTC, 2026, 9, 30, 1, 20), 15 * MINUTE).key == (0, 5)


@pytest.mark.parametrize(
    "text", ["9:00-10:00", "09:00", "09:00-24:30", "25:00-26:00", "09:60-10:00", "09:00-09:00", ""]
)
def test_what_is_no_hours(text):
    with pytest.raises(ValueError, match=r"hours|whole day"):
        hours(text)


def test_hours_that_overlap():
    assert overlap([hours("09:00-10:15"), hours("10:15-11:00"), hours("21:00-02:30")]) is None
    assert overlap([hours("21:00-09:30"), hours("09:00-10:15")]) == 1


ZONES = [SHANGHAI, CHICAGO, NEW_YORK, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Europe/London")]
CHANGES = [
    date(2026, 3, 7),
    date(2026, 3, 28),
    date(2026, 4, 4),
    date(2026, 10, 3),
    date(2026, 10, 24),
    date(2026, 10, 31),
]


@st.composite
def markets(draw):
    bounds = sorted(draw(st.lists(st.integers(0, 47), min_size=2, max_size=8, unique=True)))
    texts = [_text(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=False)]
    if len(bounds) % 2 and len(bounds) > 2 and draw(st.booleans()) and bounds[0] > 0:
        texts.append(_text(bounds[-1], draw(st.integers(0, bounds[0]))))  # over midnight
    days = frozenset(draw(st.sets(st.sampled_from(WEEKDAYS), min_size=1)))
    first = draw(st.sampled_from(CHANGES))
    holidays = frozenset(first + timedelta(days=off) for off in draw(st.sets(st.integers(-2, 5), max_size=3)))
    eve = draw(st.sampled_from(["tradingDay", "calendarDay"]))
    return draw(st.sampled_from(ZONES)), texts, days, holidays, eve, first


def _text(opens, closes):
    return f"{opens // 2:02}:{opens % 2 * 30:02}-{closes // 2:02}:{closes % 2 * 30:02}"


@settings(max_examples=40, deadline=None)
@example((SHANGHAI, ["00:30-01:00", "01:30-00:00"], frozenset({"mon"}), frozenset(), "calendarDay", CHANGES[0]))
@given(markets())
def test_every_minute_of_days_around_a_change_of_the_clock(market):
    zone, texts, days, holidays, eve, first = market
    sessions = made(texts, zone, days, holidays, eve)
    begin = ns(UTC, first.year, first.month, first.day)
    minutes = range(begin, begin + 3 * 24 * 60 * MINUTE, MINUTE)
    expected = _watched(zone, texts, days, holidays, eve, minutes)
    assert [sessions.open_at(minute) for minute in minutes] == expected
    assert sessions.open_time(minutes[0], minutes[-1] + MINUTE, 10**18) == sum(expected) * MINUTE
    assert sessions.open_time(minutes[100], minutes[2000], 10**18) == sum(expected[100:2000]) * MINUTE
    # the next change is where the watched minutes change
    for at in range(0, len(minutes), 331):
        later = next((n for n in range(at, len(minutes)) if expected[n] != expected[at]), None)
        if later is not None:
            assert sessions.next_change(minutes[at]) == minutes[later]


def _watched(zone, texts, days, holidays, eve, minutes):
    """By watching the wall clock from half a day before: hours end and begin when it first shows their time."""
    highest = datetime(1, 1, 1)
    answers = []
    for minute in range(minutes[0] - 12 * 60 * MINUTE, minutes[-1] + MINUTE, MINUTE):
        shown = datetime.fromtimestamp(minute // SECOND, UTC).astimezone(zone).replace(tzinfo=None)
        highest = max(highest, shown)
        if minute >= minutes[0]:
            answers.append(any(_holds(text, highest, days, holidays, eve) for text in texts))
    return answers


def _holds(text, shown, days, holidays, eve):
    opens, closes = ((int(part[:2]), int(part[3:])) for part in text.split("-"))
    if closes == (0, 0):
        closes = (24, 0)  # they end at midnight and do not run over it
    over = closes <= opens
    night = over or opens >= (17, 0)
    time = (shown.hour, shown.minute)
    if over and time < closes:
        day = shown.date() - timedelta(days=1)
    elif time >= opens and (over or time < closes):
        day = shown.date()
    else:
        return False

    def traded(day):
        return WEEKDAYS[day.weekday()] in days and day not in holidays

    if not night:
        return traded(day)
    following = day + timedelta(days=1)
    if eve == "calendarDay":
        return traded(following)
    while WEEKDAYS[following.weekday()] not in days:
        following += timedelta(days=1)
    return traded(day) and traded(following)
