"""Who asks, and how much of it is under way. Pure: times are passed in."""


class Peers:
    """The peers of a ROUTER socket, by identity. Bounded: an identity is whatever a peer says, and it may say another every time."""

    def __init__(self, most: int, most_in_flight: int, forget_after: int) -> None:
        self._most = most
        self._most_in_flight = most_in_flight
        self._forget_after = forget_after
        # in the order in which they were last heard of
        self._heard: dict[bytes, int] = {}
        self._in_flight: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._heard)

    @property
    def known(self) -> list[bytes]:
        """Their identities, whoever was silent for longest first."""
        return list(self._heard)

    @property
    def in_flight(self) -> int:
        """Requests of all of them."""
        return sum(self._in_flight.values())

    def heard(self, peer: bytes, now: int) -> None:
        """Something came from a peer, at ``now``, nanoseconds."""
        self._heard.pop(peer, None)
        self._heard[peer] = now
        if len(self._heard) > self._most:
            del self._heard[next(iter(self._heard))]

    def begin(self, peer: bytes) -> bool:
        """Begin a request of a peer, if it may have another one."""
        count = self._in_flight.get(peer, 0)
        if count >= self._most_in_flight:
            return False
        self._in_flight[peer] = count + 1
        return True

    def end(self, peer: bytes) -> None:
        """A request of the peer's has been answered."""
        count = self._in_flight[peer] - 1
        if count:
            self._in_flight[peer] = count
        else:
            del self._in_flight[peer]

    def gone(self, peer: bytes) -> None:
        """It cannot be reached any more."""
        self._heard.pop(peer, None)

    def forget(self, now: int) -> None:
        """Forget those that have been silent for long."""
        for peer in [peer for peer, at in self._heard.items() if at <= now - self._forget_after]:
            del self._heard[peer]
