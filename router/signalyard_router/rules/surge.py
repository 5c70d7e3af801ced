"""How many signals each contract gives in each part of a session, and gave in the same part of earlier ones."""

from array import array
from collections import OrderedDict

import msgspec

from signalyard_router.rules.sessions import Sessions, part_of

KEPT = 20
"""Earlier sessions of which the mean is taken."""
_MOST = 0xFFFF

PartKey = tuple[int, int]


class Surge(msgspec.Struct, frozen=True):
    """A contract in the current part: its signals so far, and the mean of as many earlier ``sessions`` as are known."""

    symbol: str
    count: int
    mean: float
    sessions: int


class _Contract(msgspec.Struct):
    key: PartKey | None = None
    closes: int = 0
    count: int = 0
    earlier: "dict[PartKey, array[int]]" = {}


class Surges:
    """Of all routes. A part counts as one of a contract's earlier ones if a snapshot of the contract came in it, so that a
    quiet part is a zero and a day on which nothing was fed is none.

    ``contracts`` is how many (route, instrument) are kept; beyond it the one that was quiet for longest is forgotten.
    """

    def __init__(self, contracts: int = 16_384) -> None:
        self._cap = contracts
        self._contracts: OrderedDict[tuple[str, str], _Contract] = OrderedDict()
        self._hot: dict[str, set[str]] = {}

    def fold(
        self, route: str, symbol: str, t: int, emitted: bool, sessions: Sessions | None, length: int, floor: int
    ) -> None:
        """A snapshot came; ``length`` is that of a part, nanoseconds, and ``floor`` where a contract is worth a look."""
        contract = self._contracts.get((route, symbol))
        if contract is None or t >= contract.closes:
            contract = self._next(contract, route, symbol, t, sessions, length)
        if emitted and contract.key is not None:
            contract.count += 1
            if contract.count >= floor:
                self._hot.setdefault(route, set()).add(symbol)

    def above_floor(self, route: str, now: int) -> list[Surge]:
        """The contracts whose signals have reached the floor in the part that holds now."""
        hot = self._hot.get(route)
        if not hot:
            return []
        found: list[Surge] = []
        for symbol in sorted(hot):
            contract = self._contracts.get((route, symbol))
            if contract is None or contract.key is None or contract.closes <= now:
                hot.discard(symbol)
                continue
            earlier = contract.earlier.get(contract.key, ())
            mean = sum(earlier) / len(earlier) if earlier else 0.0
            found.append(Surge(symbol, contract.count, mean, len(earlier)))
        return found

    def forget(self, route: str) -> None:
        """The route is gone, or its parts are others."""
        for key in [key for key in self._contracts if key[0] == route]:
            del self._contracts[key]
        self._hot.pop(route, None)

    def __len__(self) -> int:
        return len(self._contracts)

    def _next(
        self, contract: _Contract | None, route: str, symbol: str, t: int, sessions: Sessions | None, length: int
    ) -> _Contract:
        key = (route, symbol)
        if contract is None:
            contract = self._contracts[key] = _Contract()
            if len(self._contracts) > self._cap:
                (gone, name), _ = self._contracts.popitem(last=False)
                self._hot.get(gone, set()).discard(name)
        else:
            self._contracts.move_to_end(key)
        if contract.key is not None:
            earlier = contract.earlier.setdefault(contract.key, array("H"))
            earlier.append(min(contract.count, _MOST))
            if len(earlier) > KEPT:
                del earlier[0]
            self._hot.get(route, set()).discard(symbol)
        part = part_of(sessions, t, length)
        contract.key, contract.closes = (part.key, part.closes) if part is not None else (None, t + 1)
        contract.count = 0
        return contract
