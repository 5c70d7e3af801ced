"""What the decision path can be told."""

from dataclasses import dataclass

from signalyard_router.rules.units import MILLISECOND


@dataclass(frozen=True)
class RouterSettings:
    """The decision path's own settings."""

    max_rows_in_flight: int = 4_096
    """Rows that may be decided at once; beyond it a request is refused as ``overloaded`` rather than answered late."""

    max_wait_share: float = 0.1
    """The share of its deadline that a request may have waited for its turn of the event loop; beyond it, while the mean
    wait is as long, it is refused as ``overloaded``. A request takes some five turns. 1 refuses only what is late already."""

    gather: bool = True
    """Whether requests that come in one turn of the event loop are decided together. It costs a lone one a task."""

    wait_settle: int = 20 * MILLISECOND
    """The time constant of the mean wait, nanoseconds."""

    needs_routes: bool = True
    """Whether a router without a single route is unready. In a cluster, routes come and go by themselves, and none is a good beginning."""

    rejection_deadline: int = 100 * MILLISECOND
    """Nanoseconds within which a row that reached no route is answered; it has no route to take a deadline from."""
