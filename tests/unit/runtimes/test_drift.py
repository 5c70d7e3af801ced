"""Feature drift: histograms of training rows, rows by bin, the index, the window, the metrics."""

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from signalyard.problems import CallerError, ModelError, Problem
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.digest import bundle_digest
from signalyard_runtimes.bundle.manifest import MANIFEST_FILE, GoldenRows, Histogram
from signalyard_runtimes.drift.bins import Bins
from signalyard_runtimes.drift.histograms import histograms
from signalyard_runtimes.drift.stability import stability
from signalyard_runtimes.drift.training import TrainingRows, read_training_rows
from signalyard_runtimes.drift.watch import DriftWatch
from signalyard_runtimes.drift.window import Window
from signalyard_runtimes.mlserver import drift
from signalyard_runtimes.mlserver.budget import Call
from signalyard_runtimes.mlserver.lightgbm import LightGBMRuntime
from signalyard_runtimes.mlserver.planes import model_settings
from signalyard_runtimes.packing import PackSpec, pack
from signalyard_runtimes.scorer import load

COLUMNS = ("close", "ret_5")
GOLDEN = GoldenRows(columns=COLUMNS, rows=((3512.0, 0.0012), (3480.0, -0.8)))
numbers = st.floats(allow_nan=False, allow_infinity=False)


def training(rows: int = 1000, seed: int = 7) -> TrainingRows:
    random = np.random.default_rng(seed)
    return TrainingRows(
        columns=COLUMNS, values=np.column_stack((random.normal(3500, 10, rows), random.normal(size=rows)))
    )


def watch_of(rows: TrainingRows, clock: "Clock | None" = None) -> DriftWatch:
    return DriftWatch(histograms(rows.columns, rows.values), 3600.0, clock or Clock())


def add_each(watch: DriftWatch, columns: tuple[str, ...], values: Any) -> None:
    for row in values:
        watch.add(columns, row[np.newaxis], [""])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


# the index


def test_the_index_of_a_shift_computed_by_hand() -> None:
    # (0.25 - 0.5) ln(0.25 / 0.5) + (0.75 - 0.5) ln(0.75 / 0.5)
    index = stability(np.array([[50, 50]]), np.array([[25, 75]]))
    assert index == pytest.approx([0.25 * math.log(2) + 0.25 * math.log(1.5)])
    assert index == pytest.approx([0.274653], abs=1e-6)


def test_an_empty_bin_counts_as_one_row_in_ten_thousand() -> None:
    index = stability(np.array([[100, 0]]), np.array([[50, 50]]))
    assert index == pytest.approx([-0.5 * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)])


counts = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=12).filter(
    lambda pairs: all(map(sum, zip(*pairs, strict=True)))
)


@given(counts)
def test_the_index_is_symmetric_and_never_negative(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array([list(column) for column in zip(*pairs, strict=True)])[:, np.newaxis]
    index = stability(one, other)
    assert index == pytest.approx(stability(other, one))
    assert 0 <= index[0] < math.inf


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=12).filter(any), st.integers(1, 1000))
def test_the_index_of_equal_shares_is_zero(rows: list[int], times: int) -> None:
    assert stability(np.array([rows]), np.array([rows]) * times) == pytest.approx([0.0], abs=1e-12)


@given(st.integers(1, 50), st.integers(1, 50))
def test_the_index_grows_as_more_rows_move(first: int, more: int) -> None:
    before = np.array([[1000, 1000]])
    moved = [stability(before, np.array([[1000 - step, 1000 + step]]))[0] for step in (0, first, first + more)]
    assert moved[0] == 0 < moved[1] < moved[2]


# histograms


def test_each_bin_holds_a_tenth_of_the_training_rows() -> None:
    histogram = histograms(("a",), np.arange(1000.0)[:, np.newaxis])[0]
    assert len(histogram.edges) == 9
    assert sum(histogram.counts) == 1000
    assert all(95 <= count <= 105 for count in histogram.counts)


def test_missing_values_are_counted_apart() -> None:
    values = np.array([[1.0], [2.0], [math.nan], [3.0], [math.nan]])
    histogram = histograms(("a",), values)[0]
    assert (histogram.missing, sum(histogram.counts)) == (2, 3)
    assert histograms(("a",), values[[2]])[0] == Histogram(feature="a", edges=(), counts=(0,), missing=1)


@pytest.mark.parametrize(("usual", "other"), [(0.0, 1.0), (1.0, 0.0), (-3.5, -3.0), (1e9, 1e9 + 1)])
@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_flag_that_hardly_changes_has_a_bin_of_its_own(usual: float, other: float, share: float) -> None:
    values = np.where(np.arange(100) < 100 * share, other, usual)[:, np.newaxis]
    found = histograms(("flag",), values)[0]
    bins = Bins([found])
    turned = bins.count(np.full((100, 1), other))
    assert stability(bins.of([found]), turned)[0] > 5


@settings(max_examples=200, deadline=None)
@given(st.lists(numbers | st.sampled_from((0.0, 1.0)), min_size=1, max_size=60))
@example([1.7976931348623157e308, -1.7976931348623157e308])
@example([5e-324, 0.0, 1e-323])
@example([1.7976931348623157e308] * 3 + [1.7976931348623155e308] * 3)
def test_any_histogram_is_one_that_a_manifest_may_have(values: list[float]) -> None:
    column = np.array(values)[:, np.newaxis]
    histogram = histograms(("a",), column)[0]
    assert len(histogram.edges) <= 18
    assert all(math.isfinite(edge) for edge in histogram.edges)
    assert list(histogram.edges) == sorted(set(histogram.edges))
    bins = Bins([histogram])
    assert (bins.count(column) == bins.of([histogram])).all()


def test_the_histograms_of_ten_thousand_features_are_small() -> None:
    names = tuple(f"feature_{place}" for place in range(10_000))
    found = histograms(names, np.random.default_rng(1).normal(3500, 10, (200, 10_000)))
    assert len(msgspec.json.format(msgspec.json.encode(found), indent=2)) < store.MANIFEST_LIMIT / 4
    assert Bins(found).count(np.full((2, 10_000), 3500.0)).sum() == 20_000


# rows by bin


@settings(deadline=None)
@given(
    edges=st.lists(st.lists(numbers, max_size=4, unique=True).map(sorted), min_size=1, max_size=4),
    data=st.data(),
)
def test_rows_are_counted_as_the_manifest_says(edges: list[list[float]], data: st.DataObject) -> None:
    known = sorted({edge for row in edges for edge in row})
    values = st.one_of(numbers, st.just(math.nan), *([st.sampled_from(known)] if known else []))
    matrix = data.draw(arrays.arrays(np.float64, (data.draw(st.integers(0, 9)), len(edges)), elements=values))
    bins = Bins([Histogram(feature="", edges=tuple(row), counts=(0,) * (len(row) + 1)) for row in edges])
    expected = np.zeros(bins.shape, dtype=np.int64)
    for row in matrix:
        for feature, value in enumerate(row):
            place = -1 if math.isnan(value) else sum(edge <= value for edge in edges[feature])
            expected[feature, place] += 1
    assert (bins.count(matrix) == expected).all()


def test_many_rows_are_counted_as_each_alone() -> None:
    random = np.random.default_rng(3)
    values = random.normal(3500, 20, (1000, 2))
    together, alone = watch_of(training()), watch_of(training())
    together.add(COLUMNS, values, [""] * 1000)
    add_each(alone, COLUMNS, values)
    one, other = together.read(), alone.read()
    assert one.rows == other.rows == 1000
    assert one.stability.tolist() == other.stability.tolist()


def test_columns_may_come_in_any_order_and_be_left_out() -> None:
    values = training(seed=8).values
    straight, turned, short, many = (watch_of(training()) for _ in range(4))
    add_each(straight, COLUMNS, values)
    add_each(turned, COLUMNS[::-1], values[:, ::-1])
    many.add(COLUMNS[::-1], values[:, ::-1], [""] * len(values))
    assert straight.read().stability.tolist() == turned.read().stability.tolist() == many.read().stability.tolist()
    add_each(short, ("close",), values[:, :1])
    close, ret_5 = short.read().stability
    assert close == straight.read().stability[0]
    assert ret_5 > 5  # all of it is missing, and never was


def test_callers_with_columns_of_their_own_take_turns() -> None:
    watch, straight = watch_of(training()), watch_of(training())
    values = training(seed=8).values
    for row in values:
        watch.add(("close", "ret_5"), row[np.newaxis], [""])
        watch.add(("ret_5", "close"), row[np.newaxis, ::-1], [""])
        watch.add((COLUMNS[0], COLUMNS[1]), row[np.newaxis], [""])
    straight.add(COLUMNS, np.repeat(values, 3, axis=0), [""] * (3 * len(values)))
    assert watch.read().stability.tolist() == straight.read().stability.tolist()


def test_no_row_is_lost_where_every_caller_has_columns_of_its_own() -> None:
    watch, straight = watch_of(training()), watch_of(training())
    values = training(seed=8).values[:150]
    for place, row in enumerate(values):
        watch.add(("close", f"other_{place % 75}", "ret_5"), np.array([[row[0], 0.0, row[1]]]), [""])
    add_each(straight, COLUMNS, values)
    one, other = watch.read(), straight.read()
    assert one.rows == other.rows == 150
    assert one.stability.tolist() == other.stability.tolist()


def test_rows_as_they_came_off_the_wire_count_as_those_of_a_matrix() -> None:
    watch, straight = watch_of(training()), watch_of(training())
    values = training(seed=8).values[:300]
    values[::7, 1] = np.nan
    for place, row in enumerate(values):
        given = [None if math.isnan(value) else float(value) for value in row]
        watch.add_row(COLUMNS, given if place % 3 else row, "")
    watch.add_row(COLUMNS, [-1.0, 0.0], "close: -1.0 is below the minimum of 0.0")
    straight.add(COLUMNS, values, [""] * 300)
    one, other = watch.read(), straight.read()
    assert one.rows == other.rows == 300
    assert one.stability.tolist() == other.stability.tolist()


def test_rows_that_could_not_be_scored_are_not_counted() -> None:
    watch = watch_of(training())
    watch.add(COLUMNS, np.array([[-1.0, 0.0]]), ["close: -1.0 is below the minimum of 0.0"])
    watch.add(COLUMNS, np.array([[3500.0, 0.0], [math.inf, 0.0], [3501.0, 0.0]]), ["", "close: inf is not finite", ""])
    assert watch.read().rows == 2


def test_rows_like_the_training_rows_have_not_drifted_and_others_have() -> None:
    watch = watch_of(training())
    watch.add(COLUMNS, training(seed=8).values, [""] * 1000)
    assert (watch.read().stability < 0.05).all()
    moved = training(seed=9).values + np.array([0.0, 1.0])
    watch.clear()
    watch.add(COLUMNS, moved, [""] * 1000)
    still, shifted = watch.read().stability
    assert still < 0.05
    assert 0.5 < shifted < 2


def test_threads_lose_no_row() -> None:
    watch = watch_of(training())
    values = training(seed=8).values
    threads = [
        threading.Thread(target=add_each, args=(watch, COLUMNS[:: 1 if place % 2 else -1], values))
        for place in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        watch.read()
    for thread in threads:
        thread.join()
    assert watch.read().rows == 4000


# the window


def test_the_window_slides_by_half_of_itself() -> None:
    window, one = Window((1, 1), 60.0), np.ones((1, 1), dtype=np.int64)
    counted = []
    for now in (0.0, 10.0, 29.0, 30.0, 59.0, 60.0, 89.0, 90.0, 500.0):
        if now < 60:
            window.add(one, now)
        counted.append(int(window.counts(now)[0, 0]))
    assert counted == [1, 2, 3, 4, 5, 2, 2, 0, 0]


def test_single_rows_are_in_the_window_when_somebody_asks() -> None:
    clock = Clock()
    watch = watch_of(training(), clock)
    watch.add(COLUMNS, np.array([[3500.0, 0.0]]), [""])
    assert watch.read().rows == 1
    clock.now += 1800
    watch.add(COLUMNS, np.array([[3500.0, 0.0]]), [""])
    assert watch.read().rows == 2
    clock.now += 1800
    assert watch.read().rows == 1
    clock.now += 1800
    found = watch.read()
    assert (found.rows, found.stability.size) == (0, 0)


# the manifest


@pytest.fixture
def watched_bundle(booster_text: bytes, lightgbm_spec: PackSpec, tmp_path: Path) -> Path:
    pack(lightgbm_spec, booster_text, GOLDEN, tmp_path / "rb", training())
    return tmp_path / "rb"


def test_packing_keeps_the_histograms_and_the_digest_covers_them(
    watched_bundle: Path, booster_text: bytes, lightgbm_spec: PackSpec, tmp_path: Path
) -> None:
    loaded = load(watched_bundle)
    assert loaded.histograms == histograms(COLUMNS, training().values)
    turned = TrainingRows(columns=COLUMNS[::-1], values=training().values[:, ::-1])
    again = pack(lightgbm_spec, booster_text, GOLDEN, tmp_path / "again", turned)
    assert again.digest == loaded.card.digest
    others = pack(lightgbm_spec, booster_text, GOLDEN, tmp_path / "others", training(seed=8))
    without = pack(lightgbm_spec, booster_text, GOLDEN, tmp_path / "without")
    assert len({again.digest, others.digest, without.digest}) == 3
    assert load(tmp_path / "without").histograms == ()
    assert b"histograms" not in (tmp_path / "without" / MANIFEST_FILE).read_bytes()


@pytest.mark.parametrize(
    ("columns", "values", "problem", "words"),
    [
        (COLUMNS, np.empty((0, 2)), Problem.INVALID_SNAPSHOT, "at least one training row"),
        (COLUMNS, np.ones((2, 3)), Problem.INVALID_SNAPSHOT, r"must be \[rows, 2\]"),
        (COLUMNS, np.ones(2), Problem.INVALID_SNAPSHOT, r"must be \[rows, 2\]"),
        (
            COLUMNS,
            np.array([[1.0, 1.0], [-1.0, 1.0]]),
            Problem.INVALID_SNAPSHOT,
            "training row 1 .*close: -1.0 is below",
        ),
        (COLUMNS, np.array([[math.nan, 1.0]]), Problem.INVALID_SNAPSHOT, "training row 0 .*close: is missing"),
        (("close", "label"), np.ones((1, 2)), Problem.UNKNOWN_FEATURE, "'label'"),
        (("ret_5",), np.ones((1, 1)), Problem.MISSING_FEATURE, "'close'"),
        (("close", "close"), np.ones((1, 2)), Problem.DUPLICATE_FEATURE, "'close'"),
    ],
)
def test_training_rows_that_could_not_be_scored(
    columns: tuple[str, ...],
    values: Any,
    problem: Problem,
    words: str,
    booster_text: bytes,
    lightgbm_spec: PackSpec,
    tmp_path: Path,
) -> None:
    with pytest.raises(CallerError, match=words) as caught:
        pack(lightgbm_spec, booster_text, GOLDEN, tmp_path / "rb", TrainingRows(columns=columns, values=values))
    assert caught.value.problem is problem
    assert not (tmp_path / "rb").exists()


def histogram(feature: str = "close", **change: Any) -> dict[str, Any]:
    return {"feature": feature, "edges": [1.0], "counts": [1, 1], **change}


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ([], "", "at least one"),
        ([histogram("volume")], "/0/feature", "no feature of the schema"),
        ([histogram("ret_5"), histogram("close"), histogram("ret_5")], "/2/feature", "given twice"),
        ([histogram(edges=[2.0, 1.0], counts=[1, 2, 3])], "/0/edges", "'close' must rise"),
        ([histogram(edges=[1.0, 1.0], counts=[1, 2, 3])], "/0/edges", "'close' must rise"),
        ([histogram(edges=list(range(33)), counts=[1] * 34)], "/0/edges", "at most 32"),
        ([histogram(counts=[1])], "/0/counts", "must be 2 counts, not 1"),
        ([histogram(counts=[0, 0])], "/0/counts", "no row at all"),
        ([histogram(counts=[1, -1])], "/0/counts/1", ">= 0"),
        ([histogram(counts=[1, 2**53 + 1])], "/0/counts/1", "<= 9007199254740992"),
        ([histogram(counts=[1, 1.5])], "/0/counts/1", "int"),
        ([histogram(edges=["1"])], "/0/edges/0", "float"),
        ([histogram(missing=None)], "/0/missing", "int"),
        ([histogram(bins=2)], "/0", "bins"),
        ([{"feature": "close", "edges": [1.0]}], "/0", "counts"),
        ({}, "", "array"),
        (None, "", "array"),
    ],
)
def test_a_wrong_histogram_names_its_field(change: Any, pointer: str, words: str, watched_bundle: Path) -> None:
    file = watched_bundle / MANIFEST_FILE
    document = {**msgspec.json.decode(file.read_bytes()), "histograms": change}
    document["digest"] = bundle_digest(msgspec.json.encode(document))
    file.write_bytes(msgspec.json.encode(document))
    with pytest.raises(ModelError, match=words) as caught:
        load(watched_bundle)
    assert (caught.value.problem, caught.value.pointer) == (Problem.BUNDLE_MANIFEST_INVALID, f"/histograms{pointer}")


# files of training rows


def test_a_table_of_comma_separated_values(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("ret_5,close\n0.5,3500\n,3501.5\n\n")
    rows = read_training_rows(file, COLUMNS)
    assert rows.columns == ("ret_5", "close")
    np.testing.assert_array_equal(rows.values, [[0.5, 3500.0], [math.nan, 3501.5]])


def test_a_matrix_of_numpys(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([[3500, 1], [3501, 2]], dtype=np.int32))
    rows = read_training_rows(tmp_path / "rows.npy", COLUMNS)
    assert rows.columns == COLUMNS
    np.testing.assert_array_equal(rows.values, [[3500.0, 1.0], [3501.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("rows.csv", b"a,b\n1,2\n3\n", "rows.csv, line 3: there are 2 columns, and 1 values"),
        ("rows.csv", b"a,b\n1,two\n", "rows.csv, line 2: .*two"),
        ("rows.csv", b"a\n\xff\n", "rows.csv: not a table"),
        ("rows.npy", b"\x93NUMPY", "rows.npy: not a matrix"),
        ("rows.npy", b"", "rows.npy: not a matrix"),
        ("rows.parquet", b"", r"must be a \.csv or a \.npy file, not rows\.parquet"),
    ],
)
def test_a_file_that_is_no_table(name: str, body: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(CallerError, match=words):
        read_training_rows(tmp_path / name, COLUMNS)


@pytest.mark.parametrize("content", [np.ones(3), np.array([["a"]]), np.array([[{}]], dtype=object)])
def test_an_array_that_is_no_matrix_of_numbers(content: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", content, allow_pickle=True)
    with pytest.raises(CallerError, match=r"rows\.npy"):
        read_training_rows(tmp_path / "rows.npy", COLUMNS)


# the metrics


def families() -> dict[str, Metric]:
    registry = CollectorRegistry()
    registry.register(drift._DRIFTS)
    return {family.name: family for family in registry.collect()}


def test_the_metrics_are_of_the_rows_since_it_was_ready(watched_bundle: Path) -> None:
    async def through() -> None:
        manifest = store.read_manifest(watched_bundle)
        model: Any = LightGBMRuntime(model_settings(watched_bundle, manifest))
        await model.load()
        labels = {"model": "rb-trend", "version": "7"}

        async def send(values: Any) -> None:
            await model.score(Call(0.0, None), COLUMNS, values)

        def shown(name: str) -> dict[str, float]:
            samples = [sample for sample in families()[name].samples if labels.items() <= sample.labels.items()]
            return {sample.labels.get("feature", ""): sample.value for sample in samples}

        await send(np.array([[3500.0, 0.0]]))
        assert shown("signalyard_model_drift_rows") == {"": 1}
        drift.begin([model.scorer.card])
        assert shown("signalyard_model_drift_rows") == {"": 0}
        assert shown("signalyard_model_feature_psi") == shown("signalyard_model_feature_psi_max") == {}
        moved = training(seed=9).values + np.array([0.0, 1.0])
        for row in moved[:150]:
            await send(row[np.newaxis])
        for row in moved[150:300].tolist():  # the fast lane's way
            model.score_row(Call(0.0, None), COLUMNS, row)
        model.score_row(Call(0.0, None), COLUMNS, [None, 0.0])  # has a row_error
        await send(np.array([[3500.0, math.inf]]))  # has a row_error
        await send(moved[300:])  # on a thread of its own
        assert shown("signalyard_model_drift_rows") == {"": 1000}
        index = shown("signalyard_model_feature_psi")
        assert index["close"] < 0.05 < 0.5 < index["ret_5"]
        assert shown("signalyard_model_feature_psi_max") == {"": index["ret_5"]}
        await model.unload()
        assert shown("signalyard_model_drift_rows") == {}

    asyncio.run(through())


def test_a_wide_model_shows_the_features_that_have_moved_most(lightgbm_spec: PackSpec) -> None:
    names = tuple(f"feature_{place}" for place in range(60))
    values = np.random.default_rng(5).normal(size=(500, 60))
    watch = DriftWatch(histograms(names, values))
    moved = values.copy()
    moved[:, 55:] += np.arange(1, 6)
    watch.add(names, moved, [""] * 500)
    card: Any = msgspec.defstruct("Card", [("model", str), ("version", str)])("wide", "1")
    drift.watch(card, watch)
    try:
        samples = [s for s in families()["signalyard_model_feature_psi"].samples if s.labels["model"] == "wide"]
        assert len(samples) == drift.MOST_FEATURES
        assert [s.labels["feature"] for s in samples[:5]] == [f"feature_{place}" for place in (59, 58, 57, 56, 55)]
        largest = [s for s in families()["signalyard_model_feature_psi_max"].samples if s.labels["model"] == "wide"]
        assert [s.value for s in largest] == [samples[0].value]
    finally:
        drift.forget(card, watch)


def test_who_is_replaced_does_not_take_the_metrics_of_its_successor_along(watched_bundle: Path) -> None:
    card: Any = msgspec.defstruct("Card", [("model", str), ("version", str)])("rb", "1")
    old, new = watch_of(training()), watch_of(training())
    drift.watch(card, old)
    drift.watch(card, new)
    drift.forget(card, old)
    assert ("rb", "1") in drift._DRIFTS.watched
    drift.forget(card, new)
    assert ("rb", "1") not in drift._DRIFTS.watched
