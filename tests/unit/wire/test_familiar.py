"""What is read by a form of its own is what the general way gives, whatever comes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.problems import SignalyardError
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.wire.familiar import FamiliarReader
from signalyard_router.wire.reading import PredictReader

TS = 1_718_923_456_000_000_000
GOOD = {"symbol": "rb2410.SHFE", "ts_event": TS, "features": {"close": 3512.0, "ret_5": 0.0012}}


def body(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def practised(features: dict[str, Any] = GOOD["features"], times: int = 64) -> PredictReader:  # type: ignore[assignment]
    reader = PredictReader(10)
    for _ in range(times):
        reader.read(body(features=features))
    return reader


def outcome(reader: PredictReader, text: bytes) -> Any:
    """All that a reader says, but for the order of features."""
    try:
        batch = reader.read(text)
    except SignalyardError as exc:
        return exc.problem, exc.detail
    said: list[Any] = [batch.alone]
    for row in batch.rows:
        if isinstance(row, BadRow):
            said.append((row, batch.places(row.index, row.problem)))
        else:
            values = dict(zip(row.columns, row.values, strict=True))
            kinds = sorted((name, type(value).__name__) for name, value in values.items())
            others = (row.index, row.symbol, row.ts_event, row.sequence, row.route, row.consumer)
            said.append((others, values, kinds))
    return said


@pytest.mark.parametrize(
    "text",
    [
        body(),
        body(sequence=7, route="rb-trend", consumer="desk"),
        body(sequence=0, route=None, consumer=""),
        body(features={"ret_5": 1, "close": None}),
        body(features={"close": 1}),
        body(features={"close": 1, "ret_5": 2, "more": 3}),
        body(features={"close": "1", "ret_5": 2}),
        body(features={"close": [[1]], "ret_5": 2}),
        body(ts_event=0),
        body(ts_event=1 << 63),
        body(sequence=1 << 63),
        body(route="r" * 257),
        body(symbol='a"b'),
        body(more=1),
        body()[:-1],
        body() + b"x",
        body().replace(b'"close"', b'"cl\\u006fse"'),
        body().replace(b'"close": 3512.0', b'"close": 1, "close": 3512.0'),
        body().replace(b'"ts_event"', b'"symbol": "a.B", "ts_event"'),
        body().replace(b"3512.0", b"1e999"),
        body().replace(b"3512.0", b"NaN"),
        body().replace(b"3512.0", b"[" * 5_000),
        b"[" + body() + b"]",
    ],
)
def test_it_says_the_same_of(text: bytes) -> None:
    assert outcome(practised(), text) == outcome(PredictReader(10), text)


@given(
    st.dictionaries(
        st.sampled_from(["symbol", "ts_event", "features", "sequence", "route", "consumer", "more"]),
        st.one_of(
            st.none(),
            st.integers(-2, 1 << 65),
            st.floats(),
            st.text(max_size=3),
            st.dictionaries(
                st.sampled_from(["close", "ret_5", "x"]),
                st.one_of(
                    st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=2)
                ),
            ),
        ),
    ),
    st.binary(max_size=3),
    st.integers(0, 200),
)
def test_it_says_the_same_of_whatever_hypothesis_thinks_of(fields: dict[str, Any], noise: bytes, at: int) -> None:
    text = json.dumps(GOOD | fields).encode()
    at = at % (len(text) + 1)
    for version in (text, text[:at] + noise + text[at:], text[:at] + noise + text[at + len(noise) :]):
        assert outcome(practised(), version) == outcome(PredictReader(10), version)


def test_features_stand_in_the_order_in_which_they_were_met() -> None:
    reader = practised()
    (row,) = reader.read(body(features={"ret_5": 1, "close": 2})).rows
    assert row == Row(0, "rb2410.SHFE", TS, ("close", "ret_5"), (2.0, 1.0))


def test_others_are_learnt_once_they_are_all_that_comes() -> None:
    reader = FamiliarReader()
    one, two = ("a",), ("b",)
    texts = {columns: body(features=dict.fromkeys(columns, 1)) for columns in (one, two)}
    for _ in range(64):
        assert reader.read(texts[one]) is None
        reader.met(one)
    assert reader.read(texts[one]) is not None
    for _ in range(200):  # they take turns: it stays as it is
        assert reader.read(texts[two]) is None
        reader.met(two)
        assert reader.read(texts[one]) is not None
    for _ in range(64):
        assert reader.read(texts[two]) is None
        reader.met(two)
    assert reader.read(texts[two]) is not None
    assert reader.read(texts[one]) is None


@pytest.mark.parametrize("names", [['a"b'], ["a\\b"], ["a\nb"], [f"f{index}" for index in range(513)]])
def test_names_that_no_form_can_have_are_read_the_general_way(names: list[str]) -> None:
    reader = practised(dict.fromkeys(names, 1), 70)
    assert reader._familiar._decode is None
    assert outcome(reader, body(features=dict.fromkeys(names, 1)))[1][1] == dict.fromkeys(names, 1.0)


@pytest.mark.parametrize("names", [[], [""], ["价格", "\U0001f600", "a/b~c"]])
def test_names_of_any_other_kind_are_learnt(names: list[str]) -> None:
    reader = practised(dict.fromkeys(names, 1), 70)
    assert reader._familiar._decode is not None
    assert reader._familiar.read(body(features=dict.fromkeys(names, 1))) is not None
