"""What is recorded of the rungs that gave no answer."""

from collections.abc import Sequence

from signalyard.profile import ModelCard
from signalyard_router.ports import Try
from signalyard_router.rules.proposal import Step
from signalyard_router.rules.route import Target


def passed_over(rung: str, target: Target, result: str, detail: str, budget: int = 0, elapsed: int = 0) -> Step:
    """A rung where nobody was asked; so there is no endpoint, unless there is but one that could have been."""
    return Step(
        rung=rung,
        result=result,
        model=target.model,
        version=target.version,
        endpoint=str(target.endpoints[0]) if len(target.endpoints) == 1 else "",
        budget_us=budget // 1000,
        elapsed_us=elapsed // 1000,
        detail=detail,
    )


def tried(rung: str, card: ModelCard, tries: Sequence[Try], budget: int) -> list[Step]:
    """A step for each endpoint that was asked in vain."""
    return [
        Step(
            rung=rung,
            result=tried.problem,
            model=card.model,
            version=card.version,
            endpoint=tried.endpoint,
            budget_us=budget // 1000,
            elapsed_us=tried.elapsed // 1000,
            detail=tried.detail,
            again=index > 0,
        )
        for index, tried in enumerate(tries)
    ]
