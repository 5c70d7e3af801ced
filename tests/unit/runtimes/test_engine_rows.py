"""Rows by LightGBM's C interface: the same bits as Booster.predict, from any thread, and nothing left behind."""

import gc
import math
import threading
import weakref
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalyard_runtimes.engines import lightgbm as engine
from signalyard_runtimes.engines import row as rows
from signalyard_runtimes.engines.row import MatrixRow

FEATURES = 6
EXTREMES = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, -5e-324, 1e-35, -1e-36, 1.7976931348623157e308]
VALUES = st.floats(width=64) | st.floats(-4, 4) | st.sampled_from(EXTREMES)


def trained(objective: str, **more: Any) -> bytes:
    random = np.random.default_rng(5)
    x = random.normal(size=(600, FEATURES))
    x[random.random(x.shape) < 0.1] = np.nan
    x[:, 5] = random.integers(0, 7, len(x))
    y = np.nan_to_num(x[:, 0] * x[:, 1]) + np.nan_to_num(x[:, 2]) + random.normal(scale=0.1, size=len(x))
    if objective == "binary":
        y = (y > 0).astype(float)
    elif objective in ("poisson", "tweedie"):
        y = np.abs(y)
    parameters = {"objective": objective, "verbosity": -1, "num_threads": 1, "num_leaves": 15, "seed": 3, **more}
    data = lgb.Dataset(x, y, categorical_feature=[5], free_raw_data=False)
    return lgb.train(parameters, data, 12).model_to_string().encode()


MODELS = {
    "binary": trained("binary"),
    "regression": trained("regression"),
    "l1": trained("regression_l1"),
    "poisson": trained("poisson"),
    "tweedie": trained("tweedie"),
    "cross_entropy": trained("binary", sigmoid=0.7),
    "linear": trained("regression", linear_tree=True),
    "dart": trained("binary", boosting="dart"),
    "forest": trained("binary", boosting="rf", bagging_freq=1, bagging_fraction=0.5),
    "zero_as_missing": trained("regression", zero_as_missing=True),
}
ENGINES = {name: engine.load(text) for name, text in MODELS.items()}


def bits(value: float) -> bytes:
    return np.float64(value).tobytes()


@pytest.mark.parametrize("name", sorted(ENGINES))
@settings(max_examples=40)
@given(values=st.lists(VALUES, min_size=FEATURES, max_size=FEATURES))
def test_a_single_row_has_the_bits_of_booster_predict(name: str, values: list[float]) -> None:
    loaded = ENGINES[name]
    matrix = np.array([values])
    promised = loaded.booster.predict(matrix, num_threads=1)[0]
    assert bits(loaded.score(matrix)[0]) == bits(promised)
    place = loaded.row()
    place.values[0] = values
    assert bits(place.score()) == bits(promised)
    # and as a row among others
    assert bits(loaded.score(np.vstack([matrix, matrix]))[1]) == bits(promised)


def test_the_locked_lightgbm_has_the_quick_way() -> None:
    assert not isinstance(ENGINES["binary"].row(), MatrixRow)


def test_a_lightgbm_that_keeps_its_library_elsewhere_scores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.array([[0.1, -0.2, np.nan, 1.0, 2.0, 3.0]])
    quick = ENGINES["binary"].score(matrix)[0]
    text = MODELS["binary"]
    booster = lgb.Booster(model_str=text.decode())
    with monkeypatch.context() as patch:
        patch.delattr(lgb.basic, "_LIB")
        slow = engine.LightGBMEngine(booster)
    place = slow.row()
    assert isinstance(place, MatrixRow)
    place.values[:] = matrix
    assert place.score() == slow.score(matrix)[0] == quick
    assert list(slow.score(np.repeat(matrix, 2, axis=0))) == [quick] * 2


def test_rows_of_another_width_are_refused_and_not_spread() -> None:
    for width in (1, FEATURES - 1, FEATURES + 1):
        for count in (1, 2):
            with pytest.raises(lgb.basic.LightGBMError, match="number of features"):
                ENGINES["binary"].score(np.zeros((count, width)))


def test_a_matrix_in_any_layout_is_read_right() -> None:
    matrix = np.random.default_rng(1).normal(size=(8, FEATURES))
    promised = ENGINES["regression"].booster.predict(matrix)
    for stored in (np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2], matrix.astype(">f8")):
        assert [ENGINES["regression"].score(stored[i : i + 1])[0] for i in range(8)] == list(promised)
        assert list(ENGINES["regression"].score(stored)) == list(promised)


def test_threads_do_not_see_one_anothers_rows() -> None:
    matrix = np.random.default_rng(2).normal(size=(300, FEATURES))
    promised = list(ENGINES["binary"].score(matrix))
    found: list[list[float]] = []

    def work() -> None:
        found.append([float(ENGINES["binary"].score(matrix[i : i + 1])[0]) for i in range(len(matrix))])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [promised] * 4


def test_an_engine_goes_with_its_last_reference_and_without_the_collector() -> None:
    loaded = engine.load(MODELS["binary"])
    loaded.score(np.zeros((1, FEATURES)))
    gone = weakref.ref(loaded.booster)
    gc.disable()
    try:
        del loaded
        assert gone() is None
    finally:
        gc.enable()


def test_a_row_keeps_its_booster_alive() -> None:
    place = engine.load(MODELS["binary"]).row()
    gc.collect()
    place.values[0] = 0.25
    assert place.score() == ENGINES["binary"].score(np.full((1, FEATURES), 0.25))[0]


class Halves:
    features = 2

    def score(self, matrix: Any) -> Any:
        return matrix[:, 0] / 2


def test_an_engine_without_a_quick_way_has_rows_too() -> None:
    place = rows.row_of(Halves(), 2)
    place.values[0] = [3.0, 1.0]
    assert place.score() == 1.5
