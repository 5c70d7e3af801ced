"""What the decision path can be told."""

from dataclasses import dataclass

from signalyard_router.rules.units import MILLISECOND


@dataclass(frozen=True)
class RouterSettings:
    """The decision path's own settings."""

    max_rows_in_flight: int = 4_096
    """Rows that may be decided at once; beyond it a request is refused as ``overloaded`` rather than answered late."""

    rejection_deadline: int = 100 * MILLISECOND
    """Nanoseconds within which a row that reached no route is answered; it has no route to take a deadline from."""
