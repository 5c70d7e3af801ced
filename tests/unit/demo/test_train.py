"""The split by time, and three small models that come out the same each time."""

import dataclasses

import numpy as np
import pytest

from signalyard_demo.data import generated_ticks
from signalyard_demo.features import NAMES
from signalyard_demo.train import EMBARGO_NS, Study, collect, snapshots, split_by_time, train


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return train(generated_ticks(60_000), tmp_path_factory.mktemp("models"))


def test_no_part_reaches_into_the_next(study: Study) -> None:
    split = study.split
    assert split.fit.known.max() <= split.calibrate.ts.min()
    assert split.calibrate.known.max() <= split.cut
    assert split.held_out.ts.min() > split.cut + EMBARGO_NS
    assert not np.isnan(split.fit.label).any()
    assert not np.isnan(split.calibrate.label).any()
    for part in (split.fit, split.calibrate, split.held_out):
        assert np.all(np.diff(part.ts) >= 0)


def test_too_little_to_train_on_is_said() -> None:
    ticks = generated_ticks(3_000)
    with pytest.raises(ValueError, match="trains nothing"):
        split_by_time(collect(ticks, (200,)), int(ticks.ts[500]))


def test_rows_of_all_instruments_come_in_the_order_of_their_closing_trades(study: Study) -> None:
    rows = study.split.held_out
    assert len(set(rows.instrument.tolist())) == 10
    for name in set(rows.instrument.tolist()):
        assert np.all(np.diff(rows.sequence[rows.instrument == name]) == 1)


def test_three_versions_with_their_figures(study: Study) -> None:
    assert [(model.version, model.framework) for model in study.models] == [
        ("6", "lightgbm"),
        ("7", "lightgbm"),
        ("8", "sklearn"),
    ]
    old, stable, canary = study.models
    assert old.rows < stable.rows
    for model in study.models:
        assert model.artifact.stat().st_size > 0
        assert model.schema.names == NAMES
        assert 0.5 < model.held_out.auc < 1.0  # the generated trades have something to be learnt
        assert model.held_out.rows > 1_000
        assert len(model.golden) == len(model.golden_scores) == 8
        assert any(value is None for value in model.golden[0])
    assert {feature.missing for feature in stable.schema.features} == {"native"}
    assert {feature.missing for feature in canary.schema.features} == {"impute"}
    assert all(feature.fill is not None for feature in canary.schema.features)


def test_calibration_turns_scores_into_probabilities(study: Study) -> None:
    score = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
    for model in study.models:
        probability = model.calibration.apply(score)
        assert np.all(np.diff(probability) > 0)
        assert np.all((probability >= 0) & (probability <= 1))


def test_equal_trades_give_equal_models(study: Study, tmp_path) -> None:
    again = train(generated_ticks(60_000), tmp_path)
    for one, other in zip(study.models, again.models, strict=True):
        assert one.artifact.read_bytes() == other.artifact.read_bytes()
        assert dataclasses.replace(one, artifact=other.artifact) == other


def test_snapshots_carry_what_the_row_holds(study: Study) -> None:
    rows = study.split.held_out
    first, second = snapshots(rows, 2)
    assert (first.ts_event, first.sequence) <= (second.ts_event, second.sequence) or first.symbol != second.symbol
    assert tuple(first.features) == NAMES
    assert list(first.features.values()) == rows.matrix[0].tolist()
    assert len(snapshots(rows, 10**9)) == len(rows)
