"""The closed vocabularies: directions, outcomes, reasons, tracks.

They are string enumerations, so that the wire carries the words themselves.
"""

from enum import StrEnum


class Direction(StrEnum):
    """What a signal says to hold. ``flat`` means close the position; it is not the absence of a signal."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"

    @property
    def sign(self) -> int:
        """+1, -1 or 0, the sign of the position."""
        return _SIGNS[self]


LONG, SHORT, FLAT = Direction
"""By themselves, for where time counts: to look a member up in its class takes ten times as long as a name of a module."""

_SIGNS = {Direction.LONG: 1, Direction.SHORT: -1, Direction.FLAT: 0}


class Outcome(StrEnum):
    """What became of a snapshot on one route."""

    EMITTED = "emitted"
    """A signal left."""
    PAPER = "paper"
    """A signal would have left, and the route is in paper mode: nothing may act on it."""
    SUPPRESSED = "suppressed"
    """There was a direction, and a rule held it back; the reason says which."""
    ABSTAINED = "abstained"
    """There was no direction: no model answered in time, or its answer means none."""
    REJECTED = "rejected"
    """The input was bad; the problem names the field. Nothing was changed by it."""
    UNKNOWN = "unknown"
    """Sent to the journal and not confirmed by the deadline; the journal's record is the truth."""


EMITTED, PAPER, SUPPRESSED, ABSTAINED, REJECTED, UNKNOWN = Outcome
"""By themselves, as the directions."""


class Reason(StrEnum):
    """Why a decision is neither ``emitted`` nor ``paper``. A rejected decision carries a problem instead."""

    # abstained
    NO_ANSWER = "no_answer"
    """No rung of the ladder gave an answer within the budget."""
    NO_DIRECTION = "no_direction"
    """The score lies between the thresholds and the route says to abstain there."""
    ROW_ERROR = "row_error"
    """The model answered that it could not score this row."""
    VERSION_DRIFT = "version_drift"
    """No model server has the version that the route names, and the route says to ask nobody then."""
    # suppressed, by the filters
    LOW_CONFIDENCE = "low_confidence"
    NO_CONFIDENCE = "no_confidence"
    """The route asks for a confidence and the model, not being calibrated, gave none."""
    DIRECTION_FILTERED = "direction_filtered"
    # suppressed, by the gate
    HALTED = "halted"
    """Somebody stopped it; a resume that names the halt lets signals out again."""
    PAUSED = "paused"
    """Somebody lets nothing out but exits, for a time."""
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    SUPERSEDED = "superseded"
    """Made under an older revision of the route than the newest one committed."""
    PAST_COMMIT_BY = "past_commit_by"
    RATE_LIMITED = "rate_limited"
    """The route emitted as many signals as it may; from then on it is latched until somebody resets it."""
    FLIP_LATCHED = "flip_latched"
    FLAT_CEILING = "flat_ceiling"
    """The ladder's ``flat`` rung has closed as many instruments as it may within a minute."""
    CONFLICT = "conflict"
    """Another route of its group says something else, and the group's rule gives that one the word."""
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    JOURNAL_RECOVERING = "journal_recovering"
    """The journal that the replicas share may have lost its newest records; no signal leaves until none of them could be repeated."""
    # unknown
    UNCONFIRMED = "unconfirmed"


class Track(StrEnum):
    """The role that one version of a model plays on a route."""

    STABLE = "stable"
    CANARY = "canary"
    SHADOW = "shadow"
    """Gets copies of the snapshots; its answers are compared with the decisions and have no part in them."""
    STANDBY = "standby"


REASONS_BY_OUTCOME: dict[Outcome, tuple[Reason, ...]] = {
    Outcome.EMITTED: (),
    Outcome.PAPER: (),
    Outcome.ABSTAINED: (Reason.NO_ANSWER, Reason.NO_DIRECTION, Reason.ROW_ERROR, Reason.VERSION_DRIFT),
    Outcome.SUPPRESSED: (
        Reason.LOW_CONFIDENCE,
        Reason.NO_CONFIDENCE,
        Reason.DIRECTION_FILTERED,
        Reason.HALTED,
        Reason.PAUSED,
        Reason.DUPLICATE,
        Reason.OUT_OF_ORDER,
        Reason.SUPERSEDED,
        Reason.PAST_COMMIT_BY,
        Reason.RATE_LIMITED,
        Reason.FLIP_LATCHED,
        Reason.FLAT_CEILING,
        Reason.CONFLICT,
        Reason.JOURNAL_UNAVAILABLE,
        Reason.JOURNAL_RECOVERING,
    ),
    Outcome.REJECTED: (),
    Outcome.UNKNOWN: (Reason.UNCONFIRMED,),
}
"""Which reasons may accompany which outcome; metrics start each pair at zero."""
