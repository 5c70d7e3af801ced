"""A router's signals as NautilusTrader's custom data, from its external Redis stream.

The router writes them with ``--redis-out stream --redis-encoding nautilus-msgpack`` (or ``nautilus-json``). In the trader:

    MessageBusConfig(database=DatabaseConfig(...), external_streams=["signalyard:signals"], encoding="msgpack", ...)
    register()
    node.kernel.msgbus.add_streaming_type(SignalyardSignal)

and in a strategy ``self.subscribe_data(data_type_of("rb2410.SHFE"))``; `on_data` then gets a `SignalyardSignal`.
"""

from typing import Any

from nautilus_trader.core.data import Data
from nautilus_trader.model.data import DataType
from nautilus_trader.serialization.base import register_serializable_type


class SignalyardSignal(Data):
    """One signal. ``fields`` has all that the router says of it; times are integers, UTC nanoseconds."""

    def __init__(self, instrument_id: str, direction: str, ts_event: int, ts_init: int, fields: dict[str, Any]) -> None:
        self.instrument_id = instrument_id
        self.direction = direction
        self.fields = fields
        self._ts_event = ts_event
        self._ts_init = ts_init

    @property
    def ts_event(self) -> int:
        """When what it is about happened."""
        return self._ts_event

    @property
    def ts_init(self) -> int:
        """When the router recorded it."""
        return self._ts_init

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "SignalyardSignal":
        """What a payload says."""
        fields = {name: value for name, value in values.items() if name not in ("type", "instrument_id")}
        fields |= {name: int(value) for name, value in fields.items() if name.startswith("ts_")}
        return SignalyardSignal(
            values["instrument_id"], fields["signal"], fields["ts_event"], fields["ts_init"], fields
        )

    @staticmethod
    def to_dict(signal: "SignalyardSignal") -> dict[str, Any]:
        """The payload again."""
        return {"type": "SignalyardSignal", "instrument_id": signal.instrument_id, **signal.fields}


def register() -> None:
    """Tell NautilusTrader's serializer of the class."""
    register_serializable_type(SignalyardSignal, SignalyardSignal.to_dict, SignalyardSignal.from_dict)


def data_type_of(instrument: str) -> DataType:
    """What a strategy subscribes to for the signals of one instrument."""
    return DataType(SignalyardSignal, metadata={"instrument_id": instrument})
