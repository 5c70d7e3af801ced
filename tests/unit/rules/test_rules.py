"""Mapping, filters, budget, rows against a schema, identity, matching."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard import Columnar, ColumnarRow, Direction, Problem, Reason, SignalyardError, Snapshot, Track
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.rules.budget import budget
from signalyard_router.rules.check import Checker
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.filters import objection
from signalyard_router.rules.mapping import direction_of, position_of
from signalyard_router.rules.proposal import identity
from signalyard_router.rules.route import Filters, Mapping, Route, compile_route
from signalyard_router.rules.rows import Row, rows_of
from signalyard_router.rules.table import Table

MAPPING = Mapping(0.6, 0.52, 0.4, 0.48, False, 1.0)
MS = 1_000_000


@pytest.mark.parametrize(
    ("score", "held", "expected"),
    [
        (0.60, None, "long"),
        (0.59, None, None),
        (0.59, "long", "long"),
        (0.52, "long", "long"),
        (0.519, "long", None),
        (0.40, None, "short"),
        (0.41, None, None),
        (0.48, "short", "short"),
        (0.481, "short", None),
        (0.60, "short", "long"),
        (0.40, "long", "short"),
        (0.55, "short", None),
        (0.55, "flat", None),
    ],
)
def test_hysteresis(score, held, expected):
    assert direction_of(score, held and Direction(held), MAPPING) == expected


def test_between_the_thresholds_the_route_may_go_flat():
    assert direction_of(0.5, None, Mapping(0.6, 0.6, 0.4, 0.4, True, None)) is Direction.FLAT


def test_a_side_that_is_not_mapped_is_never_entered():
    assert direction_of(-1e308, None, Mapping(0.6, 0.6, -math.inf, -math.inf, False, None)) is None


def test_positions():
    assert position_of(Direction.LONG, 0.71, 1.0) == pytest.approx(0.42)
    assert position_of(Direction.SHORT, 0.71, 2.0) == pytest.approx(-0.84)
    assert position_of(Direction.LONG, 0.4, 1.0) == 0.0
    assert position_of(Direction.LONG, None, 1.0) is None
    assert position_of(Direction.LONG, 0.9, None) is None
    assert position_of(Direction.FLAT, None, 1.0) == 0.0


def test_filters():
    filters = Filters(frozenset({Direction.LONG}), 0.55)
    assert objection(Direction.LONG, 0.55, filters) is None
    assert objection(Direction.LONG, 0.549, filters) is Reason.LOW_CONFIDENCE
    assert objection(Direction.LONG, None, filters) is Reason.NO_CONFIDENCE
    assert objection(Direction.SHORT, 0.9, filters) is Reason.DIRECTION_FILTERED
    assert objection(Direction.LONG, None, Filters(frozenset(Direction), None)) is None


def route(name: str = "r", **more: object) -> Route:
    spec = {
        "model": "m",
        "instruments": ["*.X"],
        "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "a", "port": 1}}],
        "mapping": {"long": {"enter": 0.6}},
    }
    data = {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalRoute",
        "metadata": {"name": name},
        "spec": spec | more,
    }
    return compile_route(parse_document(data, "x"))


def test_the_budget_keeps_a_reserve_for_the_commit():
    shares = budget(route(deadline="100ms"), 0, None)
    assert (shares.total, shares.score_until, shares.commit_by) == (100 * MS, 80 * MS, 99 * MS)
    assert shares.rung_until(0, 2) == 48 * MS
    assert shares.rung_until(48 * MS, 1) == 80 * MS
    assert shares.rung_until(90 * MS, 2) == 80 * MS


def test_the_reserve_is_at_most_20_ms():
    assert budget(route(deadline="1s"), 0, None).score_until == 980 * MS


def test_what_the_caller_still_waits_bounds_the_budget():
    shares = budget(route(deadline="100ms"), 0, 10 * MS)
    assert (shares.total, shares.score_until, shares.commit_by) == (10 * MS, 8 * MS, 9 * MS)
    assert budget(route(deadline="100ms"), 0, 500 * MS).total == 100 * MS


SCHEMA = FeatureSchema(
    (
        Feature(name="a", minimum=0.0, maximum=10.0),
        Feature(name="b", missing="native"),
        Feature(name="c", missing="impute", fill=1.0),
    )
)


def test_a_row_is_put_into_the_order_of_the_schema():
    checker = Checker(SCHEMA)
    assert checker.vector(("c", "a", "b", "of_another_version"), [3, 1.5, None, 9]) == [1.5, None, 3]
    assert checker.vector(("a",), [0.0]) == [0.0, None, None]


@pytest.mark.parametrize(
    ("columns", "values", "problem", "pointer"),
    [
        (("b", "c"), [1.0, 1.0], Problem.MISSING_FEATURE, "/features/a"),
        (("a",), [None], Problem.MISSING_FEATURE, "/features/a"),
        (("a",), [math.nan], Problem.MISSING_FEATURE, "/features/a"),
        (("a", "a"), [1.0, 1.0], Problem.DUPLICATE_FEATURE, "/features/a"),
        (("a",), [math.inf], Problem.FEATURE_NOT_FINITE, "/features/a"),
        (("a", "b"), [1.0, -math.inf], Problem.FEATURE_NOT_FINITE, "/features/b"),
        (("a",), [-0.1], Problem.FEATURE_OUT_OF_RANGE, "/features/a"),
        (("a",), [10.1], Problem.FEATURE_OUT_OF_RANGE, "/features/a"),
        (("a", "b"), [1.0], Problem.INVALID_SNAPSHOT, "/features"),
    ],
)
def test_a_bad_row_is_refused_by_the_name_of_its_feature(columns, values, problem, pointer):
    with pytest.raises(SignalyardError) as refused:
        Checker(SCHEMA).vector(columns, values)
    assert (refused.value.problem, refused.value.pointer) == (problem, pointer)


numbers = st.none() | st.floats(allow_nan=False) | st.integers(-(2**60), 2**60)


@given(st.dictionaries(st.text(max_size=5), numbers, max_size=6), st.randoms())
def test_identity_is_of_the_input_not_of_its_spelling(features, random):
    names = list(features)
    random.shuffle(names)
    plain = Row(0, "A.X", 5, tuple(features), list(features.values()))
    shuffled = Row(3, "A.X", 5, tuple(names), [features[name] for name in names])
    assert identity("r", plain) == identity("r", shuffled)
    for other in (
        identity("q", plain),
        identity("r", Row(0, "B.X", 5, plain.columns, plain.values)),
        identity("r", Row(0, "A.X", 6, plain.columns, plain.values)),
        identity("r", Row(0, "A.X", 5, plain.columns, plain.values, sequence=1)),
        identity("r", Row(0, "A.X", 5, plain.columns, plain.values, consumer="c")),
        identity("r", Row(0, "A.X", 5, (*plain.columns, "another-name"), [*plain.values, 1.0])),
    ):
        assert other != identity("r", plain)


def test_an_integer_and_a_float_of_one_value_are_one_input():
    assert identity("r", Row(0, "A.X", 5, ("a",), [1])) == identity("r", Row(0, "A.X", 5, ("a",), [1.0]))


def test_the_identity_is_this_for_good():
    # A journal remembers decisions by it across upgrades.
    row = Row(0, "rb2410.SHFE", 1_718_923_456_000_000_000, ("close", "ret_5"), [3512.0, None])
    assert identity("rb-trend", row) == "6df62c2ad8676be25072c59f7ce9556f"


def test_columnar_and_plain_requests_make_the_same_rows():
    plain = rows_of([Snapshot(symbol="A.X", ts_event=1, features={"a": 1.0, "b": None})])
    columnar = rows_of(Columnar(columns=["a", "b"], rows=[ColumnarRow("A.X", 1, [1.0, None])]))
    assert plain == columnar == rows_of(Snapshot(symbol="A.X", ts_event=1, features={"a": 1.0, "b": None}))


def test_matching():
    table = Table([route("all"), route("rb", instruments=["rb*.X"]), route("other", instruments=["rb*.Y"])])
    assert [r.name for r in table.match("rb1.X", None)] == ["all", "rb"]
    assert [r.name for r in table.match("cu1.X", None)] == ["all"]
    assert [r.name for r in table.match("rb1.X", "rb")] == ["rb"]
    assert [r.name for r in table.match("RB1.X", None)] == ["all"]  # case is kept
    for instrument, name, problem in (
        ("cu.Z", None, Problem.NO_ROUTE),
        ("rb1.X", "nope", Problem.UNKNOWN_ROUTE),
        ("rb1.X", "other", Problem.UNKNOWN_ROUTE),
        ("rb1", None, Problem.INVALID_INSTRUMENT),
        (".X", None, Problem.INVALID_INSTRUMENT),
    ):
        with pytest.raises(SignalyardError) as refused:
            table.match(instrument, name)
        assert refused.value.problem is problem
    assert table.track(table.routes["all"], "rb1.X") is Track.STABLE


def test_every_way_to_say_that_a_value_is_missing_is_one_input():
    said = [[1.0, None], [1.0, math.nan], [1, -math.nan]]
    assert len({identity("r", Row(0, "A.X", 5, ("a", "b"), values)) for values in said}) == 1


def test_infinities_that_cancel_out_are_inputs_of_their_own():
    said = [[math.inf, -math.inf], [-math.inf, math.inf], [None, None], [math.inf, None]]
    assert len({identity("r", Row(0, "A.X", 5, ("a", "b"), values)) for values in said}) == 4


@given(st.lists(st.none() | st.floats() | st.integers(-(2**60), 2**60), min_size=3, max_size=3))
def test_the_quick_look_at_a_row_finds_what_the_slow_one_finds(values):
    quick = Checker(
        FeatureSchema((Feature(name="a"), Feature(name="b", minimum=0.0), Feature(name="c", maximum=1e308)))
    )
    slow = Checker(quick.schema)
    slow._plainly_good = lambda whole: False
    answers = []
    for checker in (quick, slow):
        try:
            answers.append(checker.vector(("a", "b", "c"), values))
        except SignalyardError as exc:
            answers.append(str(exc))
    assert answers[0] == answers[1]
