"""The model servers of a plan. A score says whose it is: which snapshot's, and which version's."""

from collections.abc import Sequence

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.testing.model_server import ModelServer, ServedModel
from simulated.plan import NUMBERS, VERSIONS

SCHEMA = FeatureSchema(
    (
        Feature(name="p", minimum=0.0, maximum=1.0),
        Feature(name="tag", minimum=0.0),
        Feature(name="x", missing="native"),
    )
)


def score_of(p: float, tag: float, version: str) -> float:
    """What a version says of a row: ``p``, and far behind it the row's number and its own."""
    return p + (tag * 8 + NUMBERS[version]) * 1e-9


def confidence_of(score: float) -> float:
    """How sure a calibrated version is."""
    return 0.5 + abs(score - 0.5)


def server(node: str, *, calibrated: bool) -> ModelServer:
    """What a node serves: its version of every route's model, or the rules."""
    version = VERSIONS[node]
    names = ("rules",) if node == "rules" else ("m-one", "m-two")

    def scores(rows: list[list[float | None]]) -> Sequence[float | None]:
        return [score_of(row[0] or 0.0, row[1] or 0.0, version) for row in rows]

    served = [
        ServedModel(
            card=ModelCard(
                model=name, version=version, digest=f"sha256:{version:0>64}", calibrated=calibrated, schema=SCHEMA
            ),
            score=scores,
            confidence=confidence_of,
        )
        for name in names
    ]
    made = ModelServer(served)
    made.dribble_seconds = 0.0005
    made.huge_bytes = 100_000
    return made
