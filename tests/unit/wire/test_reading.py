"""Bodies into rows: the good, every listed kind of bad, and whatever hypothesis thinks of."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.problems import Problem, SignalyardError
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.wire.reading import Batch, PredictReader

TS = 1_718_923_456_000_000_000
GOOD = {"symbol": "rb2410.SHFE", "ts_event": TS, "features": {"close": 3512.0, "ret_5": 0.0012}}


def read(body: bytes | Any, max_rows: int = 1_000) -> Batch:
    return PredictReader(max_rows).read(body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(body: bytes | Any, max_rows: int = 1_000) -> tuple[Problem, str]:
    with pytest.raises(SignalyardError) as caught:
        read(body, max_rows)
    return caught.value.problem, caught.value.detail


def only(batch: Batch) -> BadRow:
    (row,) = batch.rows
    assert isinstance(row, BadRow)
    return row


def place(batch: Batch, row: BadRow) -> str:
    return batch.places(row.index, row.problem)


# The good


def test_one_snapshot() -> None:
    batch = read(GOOD)
    assert batch.alone
    assert batch.rows == [Row(0, "rb2410.SHFE", TS, ("close", "ret_5"), [3512.0, 0.0012])]


def test_every_optional_field_also_at_its_default() -> None:
    full = GOOD | {"sequence": 7, "route": "rb-trend", "consumer": "desk"}
    assert read(full).rows == [Row(0, "rb2410.SHFE", TS, ("close", "ret_5"), [3512.0, 0.0012], 7, "rb-trend", "desk")]
    assert read(GOOD | {"sequence": 0, "route": None, "consumer": ""}).rows == read(GOOD).rows


def test_ints_are_numbers_and_null_is_missing() -> None:
    (row,) = read(GOOD | {"features": {"a": 1, "b": None, "c": -0.0}}).rows
    assert isinstance(row, Row)
    assert list(row.values) == [1.0, None, 0.0]
    assert isinstance(row.values[0], float)


def test_a_list_keeps_its_order() -> None:
    batch = read([GOOD | {"symbol": f"rb{index}.SHFE"} for index in range(3)])
    assert not batch.alone
    assert [(row.index, row.symbol) for row in batch.rows] == [(0, "rb0.SHFE"), (1, "rb1.SHFE"), (2, "rb2.SHFE")]


@pytest.mark.parametrize(
    "body", [b"[]", b" [ ] ", b'{"columns": ["a"], "rows": []}', b'{"columns": ["a", "a"], "rows": []}']
)
def test_no_rows(body: bytes) -> None:
    batch = read(body)
    assert batch.rows == []
    assert not batch.alone


def test_columns_and_rows() -> None:
    batch = read(
        {
            "columns": ["close", "ret_5"],
            "rows": [["rb2410.SHFE", TS, [3512, None]], ["au2412.SHFE", TS, [1.0, 2.0], 9]],
            "route": "rb-trend",
            "consumer": "desk",
        }
    )
    assert not batch.alone
    assert batch.rows == [
        Row(0, "rb2410.SHFE", TS, ("close", "ret_5"), [3512.0, None], 0, "rb-trend", "desk"),
        Row(1, "au2412.SHFE", TS, ("close", "ret_5"), [1.0, 2.0], 9, "rb-trend", "desk"),
    ]


def test_equal_columns_are_one_tuple_whatever_the_form() -> None:
    reader = PredictReader(10)
    rows = [
        *reader.read(json.dumps(GOOD).encode()).rows,
        *reader.read(json.dumps([GOOD, GOOD]).encode()).rows,
        *reader.read(json.dumps({"columns": ["close", "ret_5"], "rows": [["a.B", TS, [1, 2]]]}).encode()).rows,
    ]
    columns = [row.columns for row in rows if isinstance(row, Row)]
    assert len(columns) == 4
    assert all(each is columns[0] for each in columns)


def test_the_cache_of_columns_is_bounded() -> None:
    reader = PredictReader(10)
    for index in range(3_000):
        reader.read(json.dumps(GOOD | {"features": {f"f{index}": 1}}).encode())
    assert len(reader._columns._sets) <= 1_024


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a/b~c", "价格", "\U0001f600", "a\nb", ""])
def test_any_name_is_a_name(name: str) -> None:
    for ascii_only in (True, False):
        (row,) = read(json.dumps(GOOD | {"features": {name: 1, "x": 2}}, ensure_ascii=ascii_only).encode()).rows
        assert isinstance(row, Row)
        assert row.columns == (name, "x")


def test_white_space_around() -> None:
    assert read(b"\r\n\t " + json.dumps(GOOD).encode() + b" \n").rows == read(GOOD).rows
    assert read(b"\r\n\t " + json.dumps([GOOD]).encode() + b" \n").rows == read([GOOD]).rows


# Bodies that are not JSON: refused whole


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated"),
        (b"   ", "truncated"),
        (b"{", "truncated"),
        (b'{"symbol": "a.B",', "truncated"),
        (b"nonsense", "byte"),
        (b'{"symbol": 5} trailing', "byte"),
        (b'[{"symbol": 5}, garbage]', "byte"),
        (b'[{"symbol": "a.B", "ts_event": 1, "features": {}},]', "byte"),
        (b"\xff\xfe\x00", "UTF-8 (byte 0)"),
        (b'{"symbol": "\xff", "ts_event": 1, "features": {}}', "UTF-8 (byte 12)"),
        (b'{"symbol": "a.B", "ts_event": 1, "features": {"\xc3\x28": 1}}', "UTF-8"),
        (b'\xef\xbb\xbf{"symbol": "a.B", "ts_event": 1, "features": {}}', "byte 0"),
        (b'{"symbol": "\\ud800", "ts_event": 1, "features": {}}', "byte"),
        (b'{"symbol": "a.B", "ts_event": 1, "features": {"a": NaN}}', "byte 51"),
        (b'{"symbol": "a.B", "ts_event": 1, "features": {"a": Infinity}}', "byte 51"),
        (b'{"symbol": "a.B", "ts_event": 1, "features": {"a": -Infinity}}', "byte"),
        (b"[" * 1_000_000, "nested"),
        (b'{"a":' * 1_000_000, "nested"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b'{"symbol": "a.B", "ts_event": 1, "features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"columns": [], "rows": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    ],
)
def test_malformed(body: bytes, said: str) -> None:
    problem, detail = refusal(body)
    assert problem is Problem.MALFORMED_BODY
    assert said in detail


# Too many


@pytest.mark.parametrize("bad", [False, True])
def test_a_hundred_thousand_rows(bad: bool) -> None:
    item = {"symbol": 5 if bad else "a.B", "ts_event": TS, "features": {}}
    assert refusal([item] * 100_000) == (Problem.TOO_MANY_ROWS, "it has 100000 rows, at most 1000 are taken")
    row = [5 if bad else "a.B", TS, []]
    assert refusal({"columns": [], "rows": [row] * 100_000})[0] is Problem.TOO_MANY_ROWS


def test_as_many_rows_as_may_be() -> None:
    assert len(read([GOOD] * 3, max_rows=3).rows) == 3
    assert refusal([GOOD] * 4, max_rows=3)[0] is Problem.TOO_MANY_ROWS


# Bad snapshots

BIG = int("9" * 400)


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"symbol": 5}, "/symbol", "symbol is a string such as rb2410.SHFE, not 5"),
        ({"symbol": None}, "/symbol", "not null"),
        ({"ts_event": 1.0}, "/ts_event", "nanoseconds"),
        ({"ts_event": 1718923456.25}, "/ts_event", "not 1718923456.25, which looks like seconds"),
        ({"ts_event": "1718923456000"}, "/ts_event", "looks like milliseconds"),
        ({"ts_event": "1718923456000000"}, "/ts_event", "looks like microseconds"),
        ({"ts_event": "2024-06-20"}, "/ts_event", 'not "2024-06-20"'),
        ({"ts_event": 0}, "/ts_event", "above 0"),
        ({"ts_event": -TS}, "/ts_event", "above 0"),
        ({"ts_event": 2**63}, "/ts_event", "below 2**63"),
        ({"ts_event": 2**64}, "/ts_event", "below 2**63"),
        ({"ts_event": BIG}, "/ts_event", "below 2**63"),
        ({"ts_event": True}, "/ts_event", "not true"),
        ({"features": None}, "/features", "an object from names to numbers, not null"),
        ({"features": [1, 2]}, "/features", "an object"),
        (
            {"features": {"close": "3512"}},
            "/features/close",
            'close is a number, or null where it is missing, not "3512"',
        ),
        ({"features": {"ok": 1, "close": True}}, "/features/close", "not true"),
        ({"features": {"ok": None, "close": []}}, "/features/close", "not []"),
        ({"features": {"a/b~c": {}}}, "/features/a~1b~0c", "a/b~c is a number"),
        ({"features": {"x" * 200: "y"}}, "/features/" + "x" * 200, "x… is a number"),
        ({"x" * 9_000: 1}, "/" + "x" * 60 + "…", "is not a field"),
        ({"features": {"close": BIG}}, "/features/close", "that a 64-bit float can hold"),
        ({"features": {"x" * 257: 1}}, "/features", "at most 256 characters"),
        ({"sequence": "1"}, "/sequence", "a whole number of 64 bits"),
        ({"sequence": 2**63}, "/sequence", "a whole number of 64 bits"),
        ({"route": 5}, "/route", "a route's name or null, not 5"),
        ({"consumer": None}, "/consumer", "not null"),
        ({"consumer": "x" * 257}, "/consumer", "at most 256"),
        ({"tsevent": 1}, "/tsevent", "tsevent is not a field of a snapshot; those are symbol, ts_event, features"),
    ],
)
def test_bad_snapshot(change: dict[str, Any], pointer: str, said: str) -> None:
    bad = GOOD | change
    batch = read(bad)
    row = only(batch)
    assert batch.alone
    assert (row.problem.code, row.problem.pointer, place(batch, row)) == (Problem.INVALID_SNAPSHOT, pointer, pointer)
    assert said in row.problem.detail
    assert len(row.problem.detail) < 300
    assert row.symbol == (GOOD["symbol"] if "symbol" not in change else "")
    assert row.ts_event == (TS if "ts_event" not in change else 0)

    # the same in a list spoils no other
    batch = read([GOOD, GOOD, GOOD, bad, GOOD])
    assert [type(row) for row in batch.rows] == [Row, Row, Row, BadRow, Row]
    row = batch.rows[3]
    assert isinstance(row, BadRow)
    assert row.index == 3
    assert place(batch, row) == f"/3{pointer}"
    assert said in row.problem.detail


@pytest.mark.parametrize("name", ["symbol", "ts_event", "features"])
def test_missing_field(name: str) -> None:
    row = only(read({key: value for key, value in GOOD.items() if key != name}))
    assert (row.problem.pointer, row.problem.detail) == (f"/{name}", f"{name} is missing")


@pytest.mark.parametrize("body", [b"5", b"null", b'"text"', b"true"])
def test_json_that_is_no_snapshot(body: bytes) -> None:
    row = only(read(body))
    assert row.problem.detail == f"a snapshot is an object with symbol, ts_event and features, not {body.decode()}"
    batch = read(b"[%s]" % body)
    assert place(batch, only(batch)) == "/0"


def test_an_exponent_beyond_a_float() -> None:
    row = only(read(b'{"symbol": "a.B", "ts_event": 1, "features": {"x": 1e400}}'))
    assert row.problem.pointer == "/features/x"


def test_numbers_of_very_many_digits() -> None:
    row = only(read(b'{"symbol": "a.B", "ts_event": 1, "features": {"x": %s}}' % (b"9" * 5_000)))
    assert row.problem.pointer == "/features/x"
    row = only(read(b'{"symbol": "a.B", "ts_event": %s, "features": {}}' % (b"9" * 5_000)))
    assert row.problem.pointer == "/ts_event"
    # with a doubled key beside, so that the strict look reads it too
    row = only(read(b'{"symbol": "a.B", "ts_event": 1, "features": {"y": 0.%s1, "x": 1, "x": 2}}' % (b"0" * 5_000)))
    assert row.problem.code is Problem.DUPLICATE_FEATURE


# Doubled keys


@pytest.mark.parametrize(
    "features",
    [b'{"close": 1, "close": 2}', b'{"a": 1, "close": null, "b": 3, "close": 1}', b'{"close": 1, "clo\\u0073e": 1}'],
)
def test_duplicate_feature(features: bytes) -> None:
    body = b'{"symbol": "rb2410.SHFE", "ts_event": 5, "features": %s}' % features
    row = only(read(body))
    assert row.problem.code is Problem.DUPLICATE_FEATURE
    assert row.problem.detail == "the feature close is given twice"
    assert row.problem.pointer == "/features/close"
    assert (row.symbol, row.ts_event) == ("rb2410.SHFE", 5)

    batch = read(b"[%s, %s]" % (json.dumps(GOOD).encode(), body))
    assert isinstance(batch.rows[0], Row)
    bad = batch.rows[1]
    assert isinstance(bad, BadRow)
    assert place(batch, bad) == "/1/features/close"


@pytest.mark.parametrize("field", [b'"symbol": "a.B"', b'"features": {"close": 1}', b'"sequence": 1, "sequence": 1'])
def test_duplicate_field(field: bytes) -> None:
    row = only(read(b'{"symbol": "rb2410.SHFE", "ts_event": 5, "features": {"close": 1}, %s}' % field))
    assert row.problem.code is Problem.INVALID_SNAPSHOT
    assert "given twice" in row.problem.detail


def test_duplicate_columns_spoil_every_row() -> None:
    body = {"columns": ["a", "b", "a"], "rows": [["x.Y", TS, [1, 2, 3]], ["z.Y", TS, [1, 2, 3]], ["z.Y", TS, "no"]]}
    for rows in (body["rows"][:2], body["rows"]):
        batch = read(body | {"rows": rows})
        assert [type(row) for row in batch.rows] == [BadRow] * len(rows)
        first = batch.rows[0]
        assert isinstance(first, BadRow)
        assert (first.problem.code, first.symbol, first.ts_event) == (Problem.DUPLICATE_FEATURE, "x.Y", TS)
        assert place(batch, first) == "/columns/2"


def test_duplicate_field_of_a_columnar_body() -> None:
    batch = read(b'{"columns": ["a"], "columns": ["b"], "rows": [["x.Y", 1, [1]]]}')
    assert batch.alone
    assert only(batch).problem.detail == "the field columns is given twice"


# Bad columnar rows


@pytest.mark.parametrize(
    ("row", "pointer", "said"),
    [
        (["x.Y", TS, [1]], "/rows/1/2", "2 columns are named, the row has 1 values"),
        (["x.Y", TS, [1, 2, 3]], "/rows/1/2", "2 columns are named, the row has 3 values"),
        (["x.Y", TS, [1, "2"]], "/rows/1/2/1", 'the feature b~/" is a number'),
        (["x.Y", TS, [1, 2], "s"], "/rows/1/3", "sequence"),
        (["x.Y", 1.5, [1, 2]], "/rows/1/1", "nanoseconds"),
        ([5, TS, [1, 2]], "/rows/1/0", "symbol is a string"),
        (["x.Y", TS, None], "/rows/1/2", "a row's values are a list of numbers, not null"),
        (["x.Y", TS], "/rows/1", "it is a list of 2"),
        ([], "/rows/1", "it is a list of 0"),
        (["x.Y", TS, [1, 2], 1, 1], "/rows/1", "it is a list of 5"),
        ({"symbol": "x.Y"}, "/rows/1", 'it is {"symbol": "x.Y"}'),
    ],
)
def test_bad_columnar_row(row: Any, pointer: str, said: str) -> None:
    good = ["x.Y", TS, [1, 2]]
    batch = read({"columns": ["a", 'b~/"'], "rows": [good, row, good]})
    assert [type(each) for each in batch.rows] == [Row, BadRow, Row]
    bad = batch.rows[1]
    assert isinstance(bad, BadRow)
    assert bad.problem.code is Problem.INVALID_SNAPSHOT
    assert place(batch, bad) == pointer
    assert said in bad.problem.detail


@pytest.mark.parametrize(
    ("change", "pointer", "said"),
    [
        ({"columns": None}, "/columns", "the list of the features' names, not null"),
        ({"columns": ["a", 5]}, "/columns/1", "a feature's name is a string"),
        ({"columns": ["x" * 300, "b"]}, "/columns/0", "at most 256 characters"),
        ({"rows": {}}, "/rows", "rows is a list"),
        ({"route": 1}, "/route", "a route's name"),
        ({"consumer": 1}, "/consumer", "consumer"),
        ({"sequence": 1}, "/sequence", "not a field of a columnar request"),
    ],
)
def test_bad_columnar_body(change: dict[str, Any], pointer: str, said: str) -> None:
    batch = read({"columns": ["a", "b"], "rows": [["x.Y", TS, [1, 2]]]} | change)
    assert batch.alone
    row = only(batch)
    assert place(batch, row) == pointer
    assert said in row.problem.detail


@pytest.mark.parametrize("name", ["columns", "rows"])
def test_half_a_columnar_body(name: str) -> None:
    body = {"columns": ["a"], "rows": []}
    del body[name]
    assert only(read(body)).problem.detail == f"{name} is missing"


# Whatever else

texts = st.text(max_size=8) | st.sampled_from(["symbol", "ts_event", "features", "columns", "rows", "route", "a.B"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
snapshots = st.fixed_dictionaries(
    {
        "symbol": texts | values,
        "ts_event": st.just(TS) | values,
        "features": st.dictionaries(texts, values, max_size=3),
    },
    optional={"sequence": values, "route": values, "consumer": values, "more": values},
)
columnars = st.fixed_dictionaries(
    {"columns": st.lists(texts, max_size=3) | values},
    optional={
        "rows": st.lists(st.tuples(texts, st.just(TS), st.lists(st.floats(0, 1), max_size=3)) | values, max_size=3)
        | values,
        "route": values,
        "consumer": values,
    },
)


def parses_or_refuses(body: bytes) -> None:
    try:
        batch = PredictReader(3).read(body)
    except SignalyardError as exc:
        assert exc.problem in (Problem.MALFORMED_BODY, Problem.TOO_MANY_ROWS)  # noqa: PT017 -- others must not be raised
        return
    assert [row.index for row in batch.rows] == list(range(len(batch.rows)))
    for row in batch.rows:
        if isinstance(row, BadRow):
            assert row.problem.code in (Problem.INVALID_SNAPSHOT, Problem.DUPLICATE_FEATURE)
            assert row.problem.detail
            assert isinstance(place(batch, row), str)
        else:
            assert len(row.columns) == len(row.values) == len(set(row.columns))
            assert row.ts_event > 0


@given(st.binary(max_size=200))
def test_arbitrary_bytes(body: bytes) -> None:
    parses_or_refuses(body)


@given(values | snapshots | st.lists(snapshots, max_size=4) | columnars, st.booleans())
def test_arbitrary_json(value: Any, ascii_only: bool) -> None:
    parses_or_refuses(json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass"))


@given(snapshots | st.lists(snapshots, max_size=3) | columnars, st.data())
def test_a_good_body_with_a_wound(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    wound = data.draw(st.binary(max_size=3))
    body[at : at + data.draw(st.integers(0, 3))] = wound
    parses_or_refuses(bytes(body))


names = st.text(min_size=1, max_size=4)


@given(st.lists(st.tuples(names, st.floats(allow_nan=False, allow_infinity=False)), max_size=6))
def test_doubled_names_are_found_and_single_ones_are_not(pairs: list[tuple[str, float]]) -> None:
    inside = ",".join(f"{json.dumps(name)}:{value}" for name, value in pairs)
    (row,) = read(b'{"symbol": "a.B", "ts_event": 1, "features": {%s}}' % inside.encode()).rows
    if len({name for name, _ in pairs}) == len(pairs):
        assert isinstance(row, Row)
        assert list(zip(row.columns, row.values, strict=True)) == pairs
    else:
        assert isinstance(row, BadRow)
        assert row.problem.code is Problem.DUPLICATE_FEATURE
