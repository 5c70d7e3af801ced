"""Trades, bars, features, labels: nothing is lost, and nothing sees the future."""

import dataclasses

import numpy as np
import pytest

from signalyard_demo import data
from signalyard_demo.bars import tick_rule, volume_bars
from signalyard_demo.data import DataError, Ticks, generated_ticks
from signalyard_demo.features import FEATURES, NAMES, feature_matrix, labels


@pytest.fixture(scope="module")
def ticks() -> Ticks:
    return generated_ticks(20_000)


def test_generated_trades_repeat_and_say_what_they_are(ticks: Ticks) -> None:
    again = generated_ticks(20_000)
    assert np.array_equal(ticks.price, again.price)
    assert np.array_equal(ticks.ts, again.ts)
    assert ticks.generated
    assert "GENERATED" in ticks.source
    assert np.all(np.diff(ticks.ts) >= 0)
    assert np.all(ticks.volume >= 1)
    assert np.all(ticks.price * 4 == np.round(ticks.price * 4))


def test_an_altered_file_is_refused(tmp_path) -> None:
    path = tmp_path / f"{data.FILE_SHA256}.csv"
    path.write_bytes(b"DateTime,Price,Volume\n2013-09-01 17:00:00.083,1640.25,9\n")
    said: list[str] = []
    with pytest.raises(DataError, match="not the pinned file"):
        data.real_ticks(tmp_path, said.append)
    assert said == []  # an altered file is not quietly fetched anew


def test_the_file_is_read_as_utc(tmp_path, monkeypatch) -> None:
    path = tmp_path / "ticks.csv"
    path.write_bytes(b"DateTime,Price,Volume\n2013-09-01 17:00:00.083,1640.25,8\n2013-09-01 17:00:01.000,1640.5,1\n")
    monkeypatch.setattr(data, "FILE_SHA256", __import__("hashlib").sha256(path.read_bytes()).hexdigest())
    ticks = data.load(path)
    assert ticks.ts[0] == np.datetime64("2013-09-01T22:00:00.083", "ns").astype(np.int64)
    assert ticks.price.tolist() == [1640.25, 1640.5]
    assert ticks.volume.tolist() == [8, 1]
    assert not ticks.generated


def test_bars_conserve_volume(ticks: Ticks) -> None:
    bars = volume_bars(ticks, 200)
    closed = int(bars.last[-1]) + 1
    assert int(bars.volume.sum()) == int(ticks.volume[:closed].sum())
    assert int(ticks.volume[closed:].sum()) < 200 + int(ticks.volume.max())
    assert bars.first[0] == 0
    assert np.array_equal(bars.first[1:], bars.last[:-1] + 1)
    assert np.all(bars.bought <= bars.volume)
    assert np.all((bars.low <= bars.vwap) & (bars.vwap <= bars.high))
    assert np.all((bars.low <= bars.close) & (bars.close <= bars.high))


def test_a_trade_larger_than_a_bar_closes_one_bar() -> None:
    ticks = Ticks(
        ts=np.arange(4, dtype=np.int64),
        price=np.array([1.0, 2.0, 3.0, 4.0]),
        volume=np.array([4, 25, 3, 8]),
        source="",
        root="X",
        venue="Y",
        generated=True,
    )
    bars = volume_bars(ticks, 10)
    assert bars.volume.tolist() == [29, 3, 8]
    assert bars.last.tolist() == [1, 2, 3]
    assert bars.instrument == "X-vol10.Y"


def test_too_few_trades_make_no_bar(ticks: Ticks) -> None:
    with pytest.raises(ValueError, match="do not fill one bar"):
        volume_bars(ticks, 10**9)


def test_the_tick_rule_keeps_the_sign_while_the_price_stands() -> None:
    assert tick_rule(np.array([5.0, 5.0, 6.0, 6.0, 5.0, 5.0, 7.0])).tolist() == [1, 1, 1, 1, -1, -1, 1]


@pytest.mark.parametrize("cut", [9_000, 15_001])
def test_no_feature_sees_the_future(ticks: Ticks, cut: int) -> None:
    rng = np.random.default_rng(3)
    price, volume, ts = ticks.price.copy(), ticks.volume.copy(), ticks.ts.copy()
    price[cut:] += rng.normal(0.0, 5.0, len(price) - cut)
    volume[cut:] = rng.integers(1, 500, len(volume) - cut)
    ts[cut:] += 7_000_000_000
    changed = volume_bars(dataclasses.replace(ticks, price=price, volume=volume, ts=ts), 100)
    bars = volume_bars(ticks, 100)
    known = int(np.count_nonzero(bars.last < cut))
    assert known > 200
    assert np.array_equal(bars.last[:known], changed.last[:known])
    before, after = feature_matrix(bars), feature_matrix(changed)
    assert np.array_equal(before[:known], after[:known], equal_nan=True)
    assert not np.array_equal(before[known:][:50], after[known:][:50], equal_nan=True)


def test_features_keep_to_their_ranges(ticks: Ticks) -> None:
    matrix = feature_matrix(volume_bars(ticks, 100))
    assert matrix.shape[1] == len(NAMES) == len(set(NAMES))
    assert 16 <= len(NAMES) <= 32
    assert not np.isnan(matrix[60:]).any()
    assert np.isfinite(matrix[60:]).all()
    for index, feature in enumerate(FEATURES):
        column = matrix[:, index][~np.isnan(matrix[:, index])]
        assert feature.minimum is None or column.min() >= feature.minimum, feature.name
        assert feature.maximum is None or column.max() <= feature.maximum, feature.name


def test_a_window_that_is_not_full_is_missing(ticks: Ticks) -> None:
    matrix = feature_matrix(volume_bars(ticks, 100))
    column = dict(zip(NAMES, matrix.T, strict=True))
    assert np.isnan(column["ret_20"][:20]).all()
    assert not np.isnan(column["ret_20"][20:]).any()
    assert np.isnan(column["vol_50"][:50]).all()
    assert not np.isnan(column["imbalance_1"]).any()


def test_labels_say_what_came(ticks: Ticks) -> None:
    bars = volume_bars(ticks, 100)
    label, known = labels(bars, 3)
    for index in (0, 17, len(bars) - 4):
        move = bars.close[index + 3] - bars.close[index]
        if move == 0:
            assert np.isnan(label[index])
        else:
            assert label[index] == (1.0 if move > 0 else 0.0)
        assert known[index] == bars.ts_close[index + 3]
    assert np.isnan(label[-3:]).all()
    assert (known[-3:] == np.iinfo(np.int64).max).all()
