"""The model servers of a plan. A score says whose it is: which snapshot's, and which version's."""

from collections.abc import Sequence

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.testing.model_server import ModelServer, ServedModel
from simulated.plan import BUNDLES

SCHEMA = FeatureSchema(
    (
        Feature(name="p", minimum=0.0, maximum=1.0),
        Feature(name="tag", minimum=0.0),
        Feature(name="x", missing="native"),
    )
)


def score_of(p: float, tag: float, mark: int) -> float:
    """What a bundle says of a row: ``p``, and far behind it the row's number and the bundle's mark."""
    return p + (tag * 8 + mark) * 1e-9


def digest_of(mark: int) -> str:
    """A bundle's digest; its mark can be read off it."""
    return f"sha256:{mark:0>64}"


def confidence_of(score: float) -> float:
    """How sure a calibrated version is."""
    return 0.5 + abs(score - 0.5)


def bundles(mark: int, *, calibrated: bool) -> list[ServedModel]:
    """What a node serves: a bundle for every route's model, or the rules."""
    version = BUNDLES[mark]
    names = ("rules",) if version == BUNDLES[5] else ("m-one", "m-two")

    def scores(rows: list[list[float | None]]) -> Sequence[float | None]:
        return [score_of(row[0] or 0.0, row[1] or 0.0, mark) for row in rows]

    return [
        ServedModel(
            card=ModelCard(model=name, version=version, digest=digest_of(mark), calibrated=calibrated, schema=SCHEMA),
            score=scores,
            confidence=confidence_of,
        )
        for name in names
    ]


def server(mark: int, *, calibrated: bool) -> ModelServer:
    """A model server with a bundle."""
    made = ModelServer(bundles(mark, calibrated=calibrated))
    made.dribble_seconds = 0.0005
    made.huge_bytes = 100_000
    return made
