import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.problems import CallerError, Problem, describe
from signalyard.wire import (
    Columnar,
    ColumnarRow,
    Decision,
    Opinion,
    Signal,
    Snapshot,
    StateAnswer,
    split_instrument,
)
from signalyard.words import REASONS_BY_OUTCOME, Direction, Outcome, Reason, Track

INT64 = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.mark.parametrize(
    ("instrument", "parts"),
    [
        ("rb2410.SHFE", ("rb2410", "SHFE")),
        ("BRK.B.NYSE", ("BRK.B", "NYSE")),
        ("m2409-C-3000.DCE", ("m2409-C-3000", "DCE")),
        ("SP a&b.CZCE".replace(" ", "_"), ("SP_a&b", "CZCE")),
        ("a..B", ("a.", "B")),
        ("x.y", ("x", "y")),
        ("豆粕.DCE", ("豆粕", "DCE")),
        ("r" * 59 + ".SHFE", ("r" * 59, "SHFE")),
    ],
)
def test_instruments_are_split_on_the_last_dot(instrument: str, parts: tuple[str, str]) -> None:
    assert split_instrument(instrument) == parts


@pytest.mark.parametrize(
    "instrument",
    [
        "",
        ".",
        "rb2410",
        "rb2410.",
        ".SHFE",
        "rb 2410.SHFE",
        " rb2410.SHFE",
        "rb2410.SHFE\n",
        "rb2410\t.SHFE",
        "rb2410\x00.SHFE",
        "rb2410\u3000.SHFE",
        "rb2410\u200b.SHFE",
        "\ud800.SHFE",
        "r" * 60 + ".SHFE",
        "r" * 100_000,
    ],
    ids=lambda instrument: ascii(instrument)[:20],
)
def test_what_is_no_instrument_is_refused(instrument: str) -> None:
    with pytest.raises(CallerError) as raised:
        split_instrument(instrument)
    assert raised.value.problem is Problem.INVALID_INSTRUMENT
    assert raised.value.pointer == "/symbol"
    assert len(str(raised.value)) < 800
    str(raised.value).encode()  # it can be logged and answered


@given(st.text())
def test_any_text_is_split_or_refused(instrument: str) -> None:
    try:
        symbol, exchange = split_instrument(instrument)
    except CallerError:
        return
    assert f"{symbol}.{exchange}" == instrument
    assert "." not in exchange


@given(
    st.builds(
        Snapshot,
        symbol=TEXT,
        ts_event=INT64,
        features=st.dictionaries(TEXT, st.none() | FINITE, max_size=5),
        sequence=INT64,
        route=st.none() | TEXT,
        consumer=TEXT,
    )
)
def test_snapshots_round_trip(snapshot: Snapshot) -> None:
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


@given(
    st.builds(
        Columnar,
        columns=st.lists(TEXT, max_size=3),
        rows=st.lists(st.builds(ColumnarRow, TEXT, INT64, st.lists(st.none() | FINITE, max_size=3), INT64), max_size=3),
        route=st.none() | TEXT,
        consumer=TEXT,
    )
)
def test_columns_round_trip(columnar: Columnar) -> None:
    assert msgspec.json.decode(msgspec.json.encode(columnar), type=Columnar) == columnar


def _signal() -> Signal:
    return Signal(
        symbol="rb2410.SHFE",
        signal=Direction.LONG,
        score=0.82,
        timestamp=1718923456,
        signal_id="a1",
        epoch=3,
        seq=81,
        prev_seq=80,
        ts_event=1718923456000000001,
        ts_init=1718923456000000002,
        ts_expire=1718923461000000002,
        route="rb-trend",
        revision="r1",
        model="rb-trend",
        version="7",
        digest="sha256:00",
        track=Track.CANARY,
        confidence=0.71,
        position=0.42,
        failover=True,
    )


@pytest.mark.parametrize(
    "decision",
    [
        Decision(outcome=Outcome.EMITTED, symbol="rb2410.SHFE", ts_event=1, route="r", signal=_signal()),
        Decision(outcome=Outcome.SUPPRESSED, reason=Reason.DUPLICATE, row=2, duplicate_of="a1"),
        Decision(outcome=Outcome.REJECTED, row=3, problem=describe(Problem.MISSING_FEATURE, "close", "/3/features")),
        Decision(outcome=Outcome.UNKNOWN, reason=Reason.UNCONFIRMED, proposal_id="p"),
    ],
)
def test_decisions_round_trip(decision: Decision) -> None:
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


def test_states_round_trip() -> None:
    opinion = Opinion(
        symbol="rb2410.SHFE",
        route="rb-trend",
        signal=Direction.FLAT,
        signal_id="a1",
        epoch=3,
        seq=81,
        ts_event=1,
        ts_init=2,
        ts_expire=3,
        live=False,
    )
    answer = StateAnswer(now=2**62, epoch=3, opinions=[opinion])
    assert msgspec.json.decode(msgspec.json.encode(answer), type=StateAnswer) == answer


def test_nanoseconds_keep_their_last_digit() -> None:
    assert msgspec.json.decode(msgspec.json.encode(_signal()), type=Signal).ts_event == 1718923456000000001


def test_a_snapshot_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="feature_"):
        msgspec.json.decode(b'{"symbol": "a.B", "ts_event": 1, "features": {}, "feature_": 1}', type=Snapshot)


def test_a_decision_with_an_unknown_field_is_read() -> None:
    """A newer router may say more."""
    assert msgspec.json.decode(b'{"outcome": "emitted", "news": 1}', type=Decision).outcome is Outcome.EMITTED


def test_each_reason_belongs_to_one_outcome() -> None:
    assert set(REASONS_BY_OUTCOME) == set(Outcome)
    reasons = [reason for some in REASONS_BY_OUTCOME.values() for reason in some]
    assert sorted(reasons) == sorted(Reason)


def test_directions_have_signs() -> None:
    assert [direction.sign for direction in (Direction.LONG, Direction.SHORT, Direction.FLAT)] == [1, -1, 0]
