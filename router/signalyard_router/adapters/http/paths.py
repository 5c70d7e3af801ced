"""What is served at a path, said once: the server, its counters and the OpenAPI document are all made from it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from signalyard._server.answer import Answer
from signalyard._server.bounds import HEADER_TOO_LARGE
from signalyard._server.connection import Later
from signalyard._server.request import Request
from signalyard.problems import Problem
from signalyard_router.adapters.http.statuses import STATUSES

Handler = Callable[[Request], Awaitable[Answer]]

EVERYWHERE = (
    Problem.INVALID_REQUEST,
    Problem.BODY_TOO_LARGE,
    Problem.REQUEST_TIMEOUT,
    Problem.INTERNAL,
    Problem.OVERLOADED,
    Problem.DRAINING,
)
"""What any request may meet, whatever its path."""


class Path(NamedTuple):
    """What is at one path; the server, its counters and its description are all made from this.

    ``problems``: the codes that it may answer besides those of every path. ``parameters``: those of the query, and what they
    are. ``headers``: schemas of the headers that it reads. ``body``, ``answer``: the types of the JSON in the request and in
    the 200; several are alternatives. ``details``: what a status's problem may carry besides, where it is more than a problem.
    ``content``: the types of the 200 where it is not JSON. ``probe``: it is answered however many requests its caller sends.
    ``oip``: errors have the Open Inference Protocol's form. ``begin``: begins an answer without a task; it raises as the handler does,
    and so does what makes the answer.
    """

    method: str
    handler: Handler
    summary: str
    problems: Sequence[Problem] = ()
    parameters: Mapping[str, str] = {}
    headers: Mapping[str, Mapping[str, Any]] = {}
    body: Sequence[Any] = ()
    answer: Sequence[Any] = (dict[str, Any],)
    details: Mapping[int, Sequence[type]] = {}
    content: Sequence[str] = ("application/json",)
    example: Any = None
    probe: bool = False
    oip: bool = False
    begin: Callable[[Request], Answer | Later] | None = None

    def codes(self, *more: Problem) -> dict[int, list[Problem]]:
        """The problems that it may answer with, by their status."""
        found: dict[int, list[Problem]] = {}
        for problem in (*EVERYWHERE, *more, *self.problems):
            known = found.setdefault(STATUSES[problem], [])
            if problem not in known:
                known.append(problem)
        found[HEADER_TOO_LARGE] = [Problem.INVALID_REQUEST]
        return dict(sorted(found.items()))
