"""The trained versions as bundles, one folder a track, so that each track's server is given its own version alone."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from signalyard_demo import route
from signalyard_demo.features import HORIZON
from signalyard_demo.train import MODEL, Study, TrainedModel
from signalyard_runtimes.bundle.manifest import GoldenRows, Manifest, Output, Platt
from signalyard_runtimes.packing import PackSpec, pack


def pack_all(study: Study, folder: Path) -> dict[str, Manifest]:
    """Pack every version into ``folder/TRACK/MODEL-VERSION``; the manifests by track.

    Raises ModelError where a model does not load or does not give its scores again.
    """
    tracks = {version: track for track, version in route.VERSIONS.items()}
    packed: dict[str, Manifest] = {}
    for model in study.models:
        track = tracks[model.version]
        golden = GoldenRows(columns=model.schema.names, rows=tuple(map(tuple, model.golden)))
        target = folder / track / f"{MODEL}-{model.version}"
        packed[track] = pack(_spec(model, study), model.artifact, golden, target)
    return packed


def _spec(model: TrainedModel, study: Study) -> PackSpec:
    return PackSpec(
        name=MODEL,
        version=model.version,
        framework=model.framework,
        schema=model.schema,
        output=Output(
            kind="probability",
            neutral=0.5,
            description=f"probability that the close {HORIZON} bars on is higher, given that it is not the same",
        ),
        calibration=Platt(a=model.calibration.a, b=model.calibration.b),
        training=_training(model, study),
    )


def _training(model: TrainedModel, study: Study) -> dict[str, Any]:
    calibrate = study.split.calibrate
    return {
        "source": study.source,
        "generated": study.generated,
        "rows": model.rows,
        "period": list(model.period),
        "calibrationRows": len(calibrate),
        "heldOut": {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(model.held_out).items()
        },
        "note": "trained to demonstrate serving; no profit is claimed",
    }
