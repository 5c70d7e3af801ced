"""What a strategy imports: the wire words, the problems, the clients. It imports neither the router nor the runtimes."""

from signalyard.client import Client, SeveralDecisionsError
from signalyard.problems import CallerError, Fault, ModelError, Problem, ProblemDetails, RouterError, SignalyardError
from signalyard.wire import Columnar, ColumnarRow, Decision, Opinion, Signal, Snapshot, StateAnswer, split_instrument
from signalyard.words import Direction, Outcome, Reason, Track

__all__ = [
    "CallerError",
    "Client",
    "Columnar",
    "ColumnarRow",
    "Decision",
    "Direction",
    "Fault",
    "ModelError",
    "Opinion",
    "Outcome",
    "Problem",
    "ProblemDetails",
    "Reason",
    "RouterError",
    "SeveralDecisionsError",
    "Signal",
    "SignalyardError",
    "Snapshot",
    "StateAnswer",
    "Track",
    "split_instrument",
]
