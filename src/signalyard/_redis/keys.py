"""What the keys and channels are called."""

from dataclasses import dataclass

VERSION = b"1"
"""The version of the entries, in their field ``v``."""


@dataclass(frozen=True)
class Keys:
    """All of them begin with ``prefix``, so that several routers may share a server."""

    prefix: str

    @property
    def snapshots(self) -> str:
        """The stream that snapshots come by, and the Pub/Sub channel."""
        return f"{self.prefix}:snapshots"

    @property
    def rejected(self) -> str:
        """The stream of entries that were set aside."""
        return f"{self.prefix}:rejected"

    @property
    def replies(self) -> str:
        """What the name of every stream of replies begins with: nobody may have replies written to any other key."""
        return f"{self.prefix}:replies:"

    @property
    def signals(self) -> str:
        """The stream that signals leave by."""
        return f"{self.prefix}:signals"

    def channel(self, symbol: str) -> str:
        """The Pub/Sub channel of an instrument's signals."""
        return f"{self.prefix}:signals:{symbol}"
