"""Rows to matrix: order, checks, gaps, steps."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler

from signalyard.problems import CallerError, Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import Bin, Clip, Impute, Moments, Standardise, Step
from signalyard_runtimes.features import Features, Matrix, to_values

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


number = st.floats(-1e9, 1e9, allow_nan=False)
tables = st.integers(2, 12).flatmap(lambda rows: arrays(np.float64, (rows, 3), elements=number))


@settings(deadline=None)
@given(known=tables, asked=tables, holes=st.integers(0, 2**36 - 1), edges=st.lists(number, min_size=2, max_size=2))
def test_steps_are_scikit_learns_own_to_the_last_bit(
    known: Matrix, asked: Matrix, holes: int, edges: list[float]
) -> None:
    names = ("a", "b", "c")
    # Not where scikit-learn itself would divide by nothing, or has no two bins to tell apart.
    assume((np.ptp(known, axis=0) > 1e-6).all())
    asked = asked.copy()
    asked.flat[[index for index in range(asked.size) if holes >> index & 1]] = NAN
    low, high = min(edges), max(edges)
    impute, clip = SimpleImputer().fit(known), FunctionTransformer(np.clip, kw_args={"a_min": low, "a_max": high})
    scale = StandardScaler().fit(known)
    bins = KBinsDiscretizer(3, encode="ordinal", strategy="uniform").fit(scale.transform(known)[:, :1])
    steps = (
        Impute(values=dict(zip(names, impute.statistics_.tolist(), strict=True))),
        Clip(bounds=dict.fromkeys(names, (low, high))),
        Standardise(
            moments={
                name: Moments(mean=mean, scale=by)
                for name, mean, by in zip(names, scale.mean_.tolist(), scale.scale_.tolist(), strict=True)
            }
        ),
        Bin(edges={"a": tuple(bins.bin_edges_[0][1:-1].tolist())}),
    )
    wanted = scale.transform(clip.transform(impute.transform(asked)))
    wanted[:, :1] = bins.transform(wanted[:, :1])
    made = features(*(Feature(name=name, missing="native") for name in names), steps=steps)
    np.testing.assert_array_equal(made.build(names, asked).matrix, wanted)


def test_ten_thousand_features() -> None:
    names = tuple(f"f{index}" for index in range(10_000))
    many = features(*(Feature(name=name) for name in names))
    values = np.arange(10_000.0)[None]
    np.testing.assert_array_equal(many.build(names[::-1], values).matrix, values[:, ::-1])
    values[0, 7] = NAN
    assert many.build(names, values).row_error == ["f7: is missing and the model needs it"]
    with pytest.raises(CallerError) as caught:
        many.build((*names[:-1], "f0"), values)
    assert caught.value.problem is Problem.DUPLICATE_FEATURE
    for made, asked in ((THREE, names), (many, (*names[:-1], "g"))):
        with pytest.raises(CallerError) as caught:
            made.build(asked, values)
        assert caught.value.problem is Problem.UNKNOWN_FEATURE
        # Not all the others' names.
        assert len(caught.value.detail) < 500


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
