"""A request on its way through the router."""

import msgspec

from signalyard.wire import Decision
from signalyard_router.flow.case import Case
from signalyard_router.promise import Promise
from signalyard_router.rules.budget import Budget, budget
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.route import Route
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.rules.table import Table


class Asked(msgspec.Struct, eq=False):
    """``entries`` are what the request's rows became, in order, ``places`` the rows' own; ``cases`` are those that are to be scored.

    ``number`` is the request's own, ``rows`` how many it has; ``now`` is the journal's time when it came, ``ts_recv`` the wall clock's
    when it was received; ``done`` is what its caller waits for: a decision an entry.
    """

    number: int
    rows: int
    table: Table
    received: int
    remaining: int | None
    ts_recv: int
    now: int
    request_id: str
    budgets: dict[str, Budget] = {}
    entries: list[Case | Decision | Proposal] = []
    places: list[int] = []
    cases: list[Case] = []
    done: Promise[list[Decision]] | None = None

    def add(self, row: Row | BadRow, entry: Case | Decision | Proposal) -> None:
        """What became of a row on one of its routes."""
        self.entries.append(entry)
        self.places.append(row.index)

    def settle(self, answer: list[Decision] | BaseException) -> None:
        """Tell its caller, if one still waits."""
        if self.done is None or self.done.done():
            return
        if isinstance(answer, BaseException):
            self.done.set_exception(answer)
        else:
            self.done.set_result(answer)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done is not None and self.done.done()

    @property
    def commit_by(self) -> int:
        """When it must be settled, monotonic nanoseconds; it has cases."""
        return self.cases[0].budget.commit_by

    def budget(self, route: Route) -> Budget:
        """The budget of every row that goes there."""
        known = self.budgets.get(route.name)
        if known is None:
            known = self.budgets[route.name] = budget(route, self.received, self.remaining)
        return known
