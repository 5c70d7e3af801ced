"""What training hands over and what a packed bundle scores are the same."""

import numpy as np
import pytest

from signalyard_demo import route
from signalyard_demo.bundles import pack_all
from signalyard_demo.data import generated_ticks
from signalyard_demo.train import train
from signalyard_runtimes import scorer


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    study = train(generated_ticks(30_000), folder / "artifacts")
    return study, pack_all(study, folder / "models"), folder / "models"


def test_one_version_a_track(packed) -> None:
    _, manifests, folder = packed
    assert {track: manifest.version for track, manifest in manifests.items()} == route.VERSIONS
    assert sorted(path.name for path in folder.iterdir()) == ["canary", "stable", "standby"]
    assert len({manifest.digest for manifest in manifests.values()}) == 3


def test_a_bundle_scores_as_its_model_was_judged(packed) -> None:
    study, _, folder = packed
    tracks = {version: track for track, version in route.VERSIONS.items()}
    for model in study.models:
        loaded = scorer.load(folder / tracks[model.version] / f"es-trend-{model.version}")
        answer = loaded.score(model.schema.names, model.golden)
        assert answer.score == pytest.approx(model.golden_scores, rel=1e-9)
        up = model.calibration.apply(np.array(model.golden_scores))
        expected = np.where(np.array(model.golden_scores) >= 0.5, up, 1.0 - up)
        assert answer.confidence == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_manifest_says_what_the_data_was(packed) -> None:
    _, manifests, _ = packed
    for manifest in manifests.values():
        assert manifest.training["generated"] is True
        assert "GENERATED" in manifest.training["source"]
        assert 0.0 < manifest.training["heldOut"]["auc"] < 1.0
        assert manifest.training["heldOut"]["rows"] > 100
