"""Requests about the same instrument one after another, others side by side.

What overtakes another snapshot of its instrument makes that one out of order, and a stream has an order to keep.
"""

import asyncio
from collections.abc import Iterable


class Turn:
    """A request's place behind those that came before it and share an instrument with it."""

    __slots__ = ("_before", "_ended", "_turns", "symbols")

    def __init__(self, turns: "dict[str, Turn]", symbols: tuple[str, ...], before: "list[Turn]") -> None:
        self._turns = turns
        self._before = before
        self._ended = asyncio.Event()
        self.symbols = symbols

    async def come(self) -> None:
        """Returns once all of them have ended."""
        for turn in self._before:
            await turn._ended.wait()
        self._before = []  # else each would hold all that ever came before it

    def end(self) -> None:
        """Let those behind it go on."""
        self._ended.set()
        for symbol in self.symbols:
            if self._turns.get(symbol) is self:
                del self._turns[symbol]


class Turns:
    """Gives turns, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._last: dict[str, Turn] = {}

    def take(self, symbols: Iterable[str]) -> Turn:
        """The turn of a request about these instruments."""
        names = tuple(dict.fromkeys(symbols))
        before = [self._last[name] for name in names if name in self._last]
        turn = Turn(self._last, names, list(dict.fromkeys(before)))
        for name in names:
            self._last[name] = turn
        return turn

    def __len__(self) -> int:
        return len(self._last)
