"""The last signal of every instrument on every route, for subscribers who come late. Pure."""

from signalyard.wire import Signal
from signalyard_router.adapters.zeromq.messages import topic


class LastValues:
    """Keeps a signal a topic, until it expires: a late subscriber must not get what nobody may act on."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Signal] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, signal: Signal) -> None:
        """Keep a signal in the place of the one before it."""
        self._kept[topic(signal)] = signal

    def of(self, prefix: bytes, now: int) -> list[Signal]:
        """The signals whose topic begins with a subscription, by topic; those that have expired by ``now`` are dropped."""
        for name in [name for name, signal in self._kept.items() if signal.ts_expire <= now]:
            del self._kept[name]
        return [signal for name, signal in sorted(self._kept.items()) if name.startswith(prefix)]
