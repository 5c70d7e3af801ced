"""How many signals each contract gives in each part of a session, and gave in the same part of earlier ones."""

import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from signalyard_router.rules.sessions import Sessions, part_of

KEPT = 20
"""Earlier sessions of which the mean is taken."""
_MOST = 0xFFFF

PartKey = tuple[int, int]
ContractKey = tuple[str, str]
"""Route and instrument."""


class Surge(msgspec.Struct, frozen=True):
    """A contract in the current part: its signals so far, and the mean of as many earlier ``sessions`` as are known."""

    symbol: str
    count: int
    mean: float
    sessions: int


class Contract(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of one contract: the part it is in, when that closes (journal time), its signals in it, and those of earlier
    sessions by part, oldest first, in two bytes a session, because there may be thousands of contracts with dozens of parts.

    It never changes, so that a checkpoint may hold it while the counting goes on.
    """

    key: PartKey | None = None
    closes: int = 0
    count: int = 0
    earlier: tuple[tuple[PartKey, bytes], ...] = ()

    def counts(self, part: PartKey) -> tuple[int, ...]:
        """The signals of earlier sessions in a part, oldest first."""
        for key, packed in self.earlier:
            if key == part:
                return struct.unpack(f"<{len(packed) // 2}H", packed)
        return ()

    def closed(self) -> tuple[tuple[PartKey, bytes], ...]:
        """``earlier``, with the part that the contract was in."""
        if self.key is None:
            return self.earlier
        count = struct.pack("<H", min(self.count, _MOST))
        for place, (key, packed) in enumerate(self.earlier):
            if key == self.key:
                kept = (packed + count)[-2 * KEPT :]
                return (*self.earlier[:place], (key, kept), *self.earlier[place + 1 :])
        return (*self.earlier, (self.key, count))


class Surges:
    """Of all routes. A part counts as one of a contract's earlier ones if a snapshot of the contract came in it, so that a
    quiet part is a zero and a day on which nothing was fed is none.

    ``contracts`` is how many (route, instrument) are kept; beyond it the one that was quiet for longest is forgotten.
    """

    def __init__(self, contracts: int = 16_384) -> None:
        self._cap = contracts
        self._contracts: OrderedDict[ContractKey, Contract] = OrderedDict()
        self._hot: dict[str, set[str]] = {}

    def fold(
        self, route: str, symbol: str, t: int, emitted: bool, sessions: Sessions | None, length: int, floor: int
    ) -> None:
        """A snapshot came; ``length`` is that of a part, nanoseconds, and ``floor`` where a contract is worth a look."""
        contract = self._contracts.get((route, symbol))
        if contract is None or t >= contract.closes:
            contract = self._next(contract, route, symbol, t, sessions, length)
        if emitted and contract.key is not None:
            count = contract.count + 1
            self._contracts[route, symbol] = Contract(contract.key, contract.closes, count, contract.earlier)
            if count >= floor:
                self._hot.setdefault(route, set()).add(symbol)

    def snapshot(self) -> Sequence[tuple[ContractKey, Contract]]:
        """All that is remembered, the contract that was quiet for longest first; `restore` is the way back. Copies references alone."""
        return list(self._contracts.items())

    def restore(self, contracts: Sequence[tuple[ContractKey, Contract]], floors: Mapping[str, int]) -> None:
        """Go on from a snapshot; ``floors`` holds the routes that are watched for surges, and where each begins to look."""
        for key, contract in contracts[-self._cap :]:
            route, symbol = key
            floor = floors.get(route)
            if floor is None:
                continue
            self._contracts[key] = contract
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
            earlier = contract.counts(contract.key)
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
        self, contract: Contract | None, route: str, symbol: str, t: int, sessions: Sessions | None, length: int
    ) -> Contract:
        """The contract in the part of ``t``."""
        earlier: tuple[tuple[PartKey, bytes], ...] = ()
        if contract is not None:
            earlier = contract.closed()
            self._hot.get(route, set()).discard(symbol)
        part = part_of(sessions, t, length)
        key, closes = (part.key, part.closes) if part is not None else (None, t + 1)
        made = self._contracts[route, symbol] = Contract(key, closes, 0, earlier)
        self._contracts.move_to_end((route, symbol))
        if len(self._contracts) > self._cap:
            (gone, name), _ = self._contracts.popitem(last=False)
            self._hot.get(gone, set()).discard(name)
        return made
