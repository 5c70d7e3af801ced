"""From a place in a row to a place in the request.

The router and `faults` point into the row (``/features/close``), which is the same for every wire; the caller gets a JSON
pointer into what it sent (``/3/features/close``, ``/rows/3/2/0``).
"""

from collections.abc import Callable

from signalyard.problems import Problem, ProblemDetails

Places = Callable[[int, ProblemDetails], str]
"""From a row's index and a problem of that row to the pointer into the request."""

_ITEMS = {"symbol": 0, "ts_event": 1, "features": 2, "sequence": 3}
_OF_COLUMN = frozenset({Problem.DUPLICATE_FEATURE, Problem.UNKNOWN_FEATURE})


def in_object(row: int, problem: ProblemDetails) -> str:
    """The request is the row."""
    return problem.pointer


def in_list(row: int, problem: ProblemDetails) -> str:
    """The request is a list of rows."""
    return f"/{row}{problem.pointer}"


def in_columnar(columns: tuple[str, ...]) -> Places:
    """The request names its columns once; a problem with a name lies there, one with a value in the row."""

    def place(row: int, problem: ProblemDetails) -> str:
        field, _, name = problem.pointer[1:].partition("/")
        if not field:
            return f"/rows/{row}"
        if field not in _ITEMS:
            return problem.pointer
        if not name:
            return f"/rows/{row}/{_ITEMS[field]}"
        name = name.replace("~1", "/").replace("~0", "~")
        if name not in columns:
            return "/columns"
        if problem.code not in _OF_COLUMN:
            return f"/rows/{row}/2/{columns.index(name)}"
        last = len(columns) - 1 - columns[::-1].index(name)
        return f"/columns/{last}"

    return place
