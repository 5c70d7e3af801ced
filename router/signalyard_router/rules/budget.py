"""How a snapshot's deadline is shared between the calls and the commit. All times are monotonic nanoseconds."""

import msgspec

from signalyard_router.rules.route import Route

ANSWER_RESERVE = 1_000_000
"""Kept back at the very end, at most a tenth of the deadline: what it takes to write the answer out."""


class Budget(msgspec.Struct, frozen=True, gc=False):
    """The times of one snapshot on one route.

    ``total`` is the deadline as a duration; scoring ends at ``score_until``; a proposal that reaches the gate after
    ``commit_by`` is refused, and what is not confirmed by then is ``unknown``.
    """

    received: int
    total: int
    score_until: int
    commit_by: int
    rung_share: float

    def rung_until(self, now: int, calls_left: int) -> int:
        """When the next call must have answered: its share of what is left, or all of it for the last call."""
        left = self.score_until - now
        if calls_left <= 1 or left <= 0:
            return self.score_until
        return now + int(left * self.rung_share)


def commit_by(received: int, total: int) -> int:
    """When a request received at ``received`` must be settled, so that it can be answered ``total`` later."""
    return received + total - min(ANSWER_RESERVE, total // 10)


def budget(route: Route, received: int, remaining: int | None) -> Budget:
    """The budget of a snapshot received at ``received``; ``remaining`` is what the caller says it still waits."""
    total = route.deadline if remaining is None else min(route.deadline, remaining)
    reserve = min(int(total * route.commit_reserve), route.commit_reserve_max)
    return Budget(
        received=received,
        total=total,
        score_until=received + total - reserve,
        commit_by=commit_by(received, total),
        rung_share=route.rung_share,
    )
