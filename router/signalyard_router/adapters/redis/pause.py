"""How long to wait after a failure."""

from collections.abc import Callable


class Pause:
    """Pauses in seconds that double, half of each chance, so that routers which lost one server do not come back to it as one."""

    def __init__(self, random_bytes: Callable[[int], bytes], first: float, longest: float) -> None:
        self._random = random_bytes
        self._first = first
        self._longest = longest
        self._next = first

    def next(self) -> float:
        """The pause after one more failure."""
        whole = self._next
        self._next = min(2 * whole, self._longest)
        return whole / 2 * (1 + int.from_bytes(self._random(2), "big") / 65_536)

    def over(self) -> None:
        """It went well: the next one is the first again."""
        self._next = self._first
