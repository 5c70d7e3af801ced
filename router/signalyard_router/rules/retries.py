"""How many second calls a track may make: a bucket of tokens that first calls fill, so that an outage does not double the load."""


class RetryBudget:
    """Each call puts ``ratio`` of a token in, each second call takes one out; at most ``burst`` lie in it, and at first it is full."""

    __slots__ = ("_burst", "_ratio", "tokens")

    def __init__(self, ratio: float, burst: float) -> None:
        self._ratio = ratio
        self._burst = burst
        self.tokens = burst

    def deposit(self) -> None:
        """A call was made."""
        self.tokens = min(self._burst, self.tokens + self._ratio)

    def withdraw(self) -> bool:
        """Whether a second call may be made; it is paid for."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
