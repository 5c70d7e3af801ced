"""Rows to matrix: order, checks, gaps, steps."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.problems import CallerError, Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import Bin, Clip, Impute, Moments, Standardise, Step
from signalyard_runtimes.features import Features, to_values

NAN = math.nan
INF = math.inf


def features(*items: Feature, steps: Sequence[Step] = ()) -> Features:
    return Features(FeatureSchema(features=items), steps)


THREE = features(
    Feature(name="a", minimum=0.0, maximum=10.0),
    Feature(name="b", missing="native"),
    Feature(name="c", missing="impute", fill=-1.0),
)


def test_columns_are_put_in_the_schemas_order() -> None:
    built = THREE.build(("c", "a", "b"), np.array([[3.0, 1.0, 2.0], [6.0, 4.0, 5.0]]))
    assert built.matrix.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert built.good is None
    assert built.row_error == ["", ""]


def test_a_gap_is_refused_left_or_filled_as_the_schema_says() -> None:
    built = THREE.build(("a", "b", "c"), np.array([[1.0, NAN, NAN], [NAN, 1.0, 1.0]]))
    np.testing.assert_array_equal(built.matrix, [[1.0, NAN, -1.0]])
    assert built.good is not None
    assert built.good.tolist() == [0]
    assert built.row_error == ["", "a: is missing and the model needs it"]


def test_a_column_may_be_left_out_where_its_rows_may_miss_it() -> None:
    built = THREE.build(("a",), np.array([[1.0]]))
    np.testing.assert_array_equal(built.matrix, [[1.0, NAN, -1.0]])


@pytest.mark.parametrize(
    ("columns", "problem", "name"),
    [
        (("a", "b", "d"), Problem.UNKNOWN_FEATURE, "'d'"),
        (("b", "c"), Problem.MISSING_FEATURE, "'a'"),
        (("a", "b", "b"), Problem.DUPLICATE_FEATURE, "'b'"),
    ],
)
def test_wrong_columns_are_the_whole_requests_error(columns: tuple[str, ...], problem: Problem, name: str) -> None:
    for _ in range(2):  # a wrong order must not be remembered as a right one
        with pytest.raises(CallerError) as caught:
            THREE.build(columns, np.ones((1, len(columns))))
        assert caught.value.problem is problem
        assert name in caught.value.detail
        assert caught.value.pointer == "/inputs/0/parameters/columns"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((-0.5, 0.0, 0.0), "a: -0.5 is below the minimum of 0.0"),
        ((10.5, 0.0, 0.0), "a: 10.5 is above the maximum of 10.0"),
        ((INF, 0.0, 0.0), "a: inf is not finite"),
        ((1.0, -INF, 0.0), "b: -inf is not finite"),
        ((1.0, INF, 0.0), "b: inf is not finite"),
        ((0.0, 1.7e308, 0.0), ""),
        ((10.0, -1.7e308, 0.0), ""),
    ],
)
def test_a_bad_value_names_its_feature_and_spares_the_other_rows(row: tuple[float, ...], text: str) -> None:
    built = THREE.build(("a", "b", "c"), np.array([[1.0, 2.0, 3.0], row, [4.0, 5.0, 6.0]]))
    assert built.row_error == ["", text, ""]
    assert len(built.matrix) == (3 if not text else 2)
    assert built.matrix[-1].tolist() == [4.0, 5.0, 6.0]


def test_whole_numbers_and_booleans() -> None:
    both = features(Feature(name="n", dtype="int64", missing="native"), Feature(name="flag", dtype="bool"))
    built = both.build(
        ("n", "flag"), np.array([[-3.0, 1.0], [0.5, 0.0], [1.0, 2.0], [1.0, 0.5], [NAN, 0.0], [INF, 1.0]])
    )
    assert built.row_error == [
        "",
        "n: 0.5 is not a whole number",
        "flag: 2.0 is neither 0 nor 1",
        "flag: 0.5 is neither 0 nor 1",
        "",
        "n: inf is not finite",
    ]


def test_steps_run_in_the_order_in_which_they_are_declared() -> None:
    steps = (
        Impute(values={"x": 5.0}),
        Clip(bounds={"x": (0.0, 4.0)}),
        Standardise(moments={"x": Moments(mean=2.0, scale=2.0)}),
        Bin(edges={"y": (0.0, 1.0)}),
    )
    made = features(Feature(name="x", missing="native"), Feature(name="y", missing="native"), steps=steps)
    values = np.array([[NAN, -0.1], [9.0, 0.0], [-9.0, 1.0], [3.0, NAN]])
    before = values.copy()
    built = made.build(("x", "y"), values)
    np.testing.assert_array_equal(built.matrix, [[1.0, 0.0], [1.0, 1.0], [-1.0, 2.0], [0.5, NAN]])
    np.testing.assert_array_equal(values, before)


def test_no_good_row() -> None:
    built = THREE.build(("a", "b", "c"), np.array([[-1.0, 0.0, 0.0]]))
    assert built.matrix.shape == (0, 3)


@given(st.lists(st.tuples(*[st.none() | st.floats(allow_nan=True)] * 3), min_size=1, max_size=8))
def test_each_row_is_judged_alone(rows: list[tuple[float | None, ...]]) -> None:
    together = THREE.build(("a", "b", "c"), to_values([value for row in rows for value in row], len(rows), 3))
    alone = [THREE.build(("a", "b", "c"), to_values(row, 1, 3)) for row in rows]
    assert together.row_error == [built.row_error[0] for built in alone]
    np.testing.assert_array_equal(together.matrix, np.concatenate([built.matrix for built in alone]))


def test_wire_data_may_be_flat_or_a_list_a_row() -> None:
    expected = [[1.0, NAN], [3.0, 4.0]]
    np.testing.assert_array_equal(to_values([1, None, 3.0, 4.0], 2, 2), expected)
    np.testing.assert_array_equal(to_values([[1, None], [3.0, 4.0]], 2, 2), expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1.0, 2.0, 3.0], "asks for 4 values, there are 3"),
        ([[1.0, 2.0], [3.0]], "must have 2 values"),
        ([1.0, "2.0", 3.0, 4.0], "not a str"),
        ([1.0, True, 3.0, 4.0], "not a bool"),
        ([1.0, [2.0], 3.0, 4.0], "not a list"),
        ([1.0, 10**400, 3.0, 4.0], "larger than FP64"),
    ],
)
def test_wire_data_that_is_no_table_of_numbers(data: list[object], words: str) -> None:
    with pytest.raises(CallerError, match=words):
        to_values(data, 2, 2)
