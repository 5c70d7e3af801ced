"""The id by which a request is found again: in its answer, its log lines, its records, its trace."""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("signalyard_request_id", default="")
"""The id of the request that the running task works for, "" where there is none. Whoever takes a request in sets it."""
