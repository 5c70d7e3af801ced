"""The one table from a problem to what MLServer answers."""

from mlserver.errors import MLServerError

from signalyard.problems import CATALOGUE, Fault, Problem, SignalyardError

_STATUS_OF_FAULT = {Fault.CALLER: 400, Fault.MODEL: 500, Fault.ROUTER: 500}
_STATUS = {problem: _STATUS_OF_FAULT[entry.fault] for problem, entry in CATALOGUE.items()} | {
    Problem.DEADLINE_EXCEEDED: 504,
    Problem.NOT_READY: 503,
    Problem.NOT_FOUND: 404,
    Problem.METHOD_NOT_ALLOWED: 405,
    Problem.UNAUTHENTICATED: 403,  # here: not from where it may be done
    Problem.BODY_TOO_LARGE: 413,
    Problem.UNSUPPORTED_MEDIA_TYPE: 415,
    Problem.REQUEST_TIMEOUT: 408,
    Problem.OVERLOADED: 503,
    Problem.DRAINING: 503,
}


def status(problem: Problem) -> int:
    """The HTTP status of a problem."""
    return _STATUS[problem]


def to_mlserver(exc: SignalyardError) -> MLServerError:
    """Our error as the one that MLServer turns into an answer."""
    return MLServerError(str(exc), status(exc.problem))
