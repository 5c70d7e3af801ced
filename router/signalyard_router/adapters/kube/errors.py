"""What goes wrong between the router and the API server.

    ApiError
    ├── UnreachableError   no connection, or it broke, or time ran out
    ├── StatusError        the API server refuses, and says why
    └── GarbledError       what came is nothing that an API server says

They stay inside the adapter: nothing of it ever reaches a decision.
"""


class ApiError(Exception):
    """The root of what calls raise."""


class UnreachableError(ApiError):
    """There is no answer. ``unsent``: a kept connection had ended before the request; a new one may serve."""

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


class StatusError(ApiError):
    """An answer of 400 or above. ``retry_after``: seconds that the API server asks to wait, None where it does not."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"status {status}: {message}")
        self.status = status
        self.retry_after = retry_after


class GarbledError(ApiError):
    """Not HTTP, not JSON, too large, or not what was asked for."""
