"""What a strategy imports: the wire words, the problems, the clients. It imports neither the router nor the runtimes."""

from signalyard._bodies import SeveralDecisionsError
from signalyard.client import Client
from signalyard.clients import AsyncClient, BlockingClient, SignalClient
from signalyard.following import Update
from signalyard.problems import CallerError, Fault, ModelError, Problem, ProblemDetails, RouterError, SignalyardError
from signalyard.subscription import AsyncSubscription, Subscription
from signalyard.wire import Columnar, ColumnarRow, Decision, Opinion, Signal, Snapshot, StateAnswer, split_instrument
from signalyard.words import Direction, Outcome, Reason, Track

__all__ = [
    "AsyncClient",
    "AsyncSubscription",
    "BlockingClient",
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
    "SignalClient",
    "SignalyardError",
    "Snapshot",
    "StateAnswer",
    "Subscription",
    "Track",
    "Update",
    "split_instrument",
]
