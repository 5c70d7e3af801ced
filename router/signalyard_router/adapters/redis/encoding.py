"""How signals are written: ours, the classic protocol, and NautilusTrader's.

NautilusTrader's external streams hold entries with the fields ``topic`` and ``payload``; released versions find them by their places,
first and second, newer ones by their names, together with ``type`` and ``encoding``. The payload is an object whose ``type`` names a
class that the trader has registered; its serializer wants every ``ts_*`` as digits in a string. The topic is the one under which the
trader's own custom data would be published, so ``subscribe_data(DataType(SignalyardSignal))`` has it.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from signalyard._redis.keys import VERSION
from signalyard.wire import Signal, split_instrument
from signalyard_router.adapters.redis.settings import Encoding

NAUTILUS_TYPE = "SignalyardSignal"
"""The name of the class that a trader registers for our signals."""

_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


class Encoder(Protocol):
    """Writes signals."""

    def fields(self, signal: Signal) -> tuple[str | bytes, ...]:
        """The fields of an entry, names and values in turn."""
        ...

    def message(self, signal: Signal) -> bytes:
        """A message of Pub/Sub."""
        ...


def encoder(encoding: Encoding) -> Encoder:
    """The one that writes this encoding."""
    if encoding is Encoding.JSON:
        return _Plain(_json)
    if encoding is Encoding.CLASSIC:
        return _Plain(lambda signal: _json(classic(signal)))
    if encoding is Encoding.NAUTILUS_JSON:
        return _Nautilus(_json, "json")
    return _Nautilus(_msgpack, "msgpack")


def classic(signal: Signal) -> dict[str, Any]:
    """The classic signal protocol: the bare symbol, the direction, the score, and the event time in whole seconds."""
    symbol, _ = split_instrument(signal.symbol)
    return {"symbol": symbol, "signal": signal.signal, "score": signal.score, "timestamp": signal.timestamp}


def nautilus(signal: Signal) -> dict[str, Any]:
    """A signal as NautilusTrader's serializer reads custom data."""
    said: dict[str, Any] = msgspec.to_builtins(signal)
    said |= {name: str(value) for name, value in said.items() if name.startswith("ts_")}
    return {"type": NAUTILUS_TYPE, "instrument_id": signal.symbol, **said}


class _Plain:
    def __init__(self, encode: Callable[[Signal], bytes]) -> None:
        self._encode = encode

    def fields(self, signal: Signal) -> tuple[str | bytes, ...]:
        return ("v", VERSION, "signal", self._encode(signal))

    def message(self, signal: Signal) -> bytes:
        return self._encode(signal)


class _Nautilus:
    def __init__(self, encode: Callable[[Any], bytes], name: str) -> None:
        self._encode = encode
        self._name = name

    def fields(self, signal: Signal) -> tuple[str | bytes, ...]:
        topic = f"data.{NAUTILUS_TYPE}.instrument_id={signal.symbol}"
        return ("topic", topic, "payload", self.message(signal), "type", NAUTILUS_TYPE, "encoding", self._name)

    def message(self, signal: Signal) -> bytes:
        return self._encode(nautilus(signal))
