"""A world whose time stands still until it is told to go on, for tests of rules and windows without waiting."""

from signalyard_router.ports import Disk, Network
from signalyard_router.world.real import RealDisk, RealNetwork


class ManualClock:
    """Both clocks, moved by hand. Nanoseconds."""

    def __init__(self, wall: int = 1_718_923_456_000_000_000) -> None:
        self._wall = wall
        self._monotonic = 1_000_000_000

    def wall(self) -> int:
        return self._wall

    def monotonic(self) -> int:
        return self._monotonic

    def advance(self, nanoseconds: int) -> None:
        """Let time pass on both clocks."""
        self._wall += nanoseconds
        self._monotonic += nanoseconds

    def step_wall(self, nanoseconds: int) -> None:
        """Set the wall clock forward or back, as an operator or NTP does."""
        self._wall += nanoseconds


class ManualWorld:
    """Manual clocks, a real disk and network, counted randomness."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.clock = ManualClock()
        self.disk: Disk = disk or RealDisk()
        self.network: Network = RealNetwork()
        self._drawn = 0

    def random_bytes(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")
