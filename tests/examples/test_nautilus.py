"""The router's encoding for NautilusTrader, read by the real one's serializer."""

import sys
import time
from pathlib import Path

import msgspec
import pytest
from nautilus_trader.serialization.serializer import MsgSpecSerializer

from signalyard import Direction, Signal
from signalyard_router.adapters.redis.encoding import encoder
from signalyard_router.adapters.redis.settings import Encoding

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from nautilus_signals import SignalyardSignal, data_type_of, register

NOW = time.time_ns()
SIGNAL = Signal(
    symbol="rb2410.SHFE",
    signal=Direction.SHORT,
    score=0.25,
    timestamp=NOW // 10**9,
    signal_id="s-1",
    epoch=3,
    seq=81,
    prev_seq=80,
    ts_event=NOW,
    ts_init=NOW + 1,
    ts_expire=NOW + 5 * 10**9,
    route="rb-trend",
    revision="r1",
    model="rb-trend",
    confidence=0.75,
    position=-0.5,
)


@pytest.fixture(scope="module", autouse=True)
def registered():
    register()


@pytest.mark.parametrize(
    ("encoding", "codec"), [(Encoding.NAUTILUS_JSON, msgspec.json), (Encoding.NAUTILUS_MSGPACK, msgspec.msgpack)]
)
def test_the_traders_serializer_reads_a_signal_as_it_was(encoding, codec):
    serializer = MsgSpecSerializer(encoding=codec, timestamps_as_str=True)
    names = encoder(encoding).fields(SIGNAL)
    fields = dict(zip(names[::2], names[1::2], strict=True))
    found = serializer.deserialize(fields["payload"])
    assert isinstance(found, SignalyardSignal)
    assert (found.instrument_id, found.direction) == (SIGNAL.symbol, "short")
    assert (found.ts_event, found.ts_init, found.fields["ts_expire"]) == (
        SIGNAL.ts_event,
        SIGNAL.ts_init,
        SIGNAL.ts_expire,
    )
    assert msgspec.convert(found.fields | {"symbol": found.instrument_id}, Signal) == SIGNAL
    # a strategy that subscribes has it
    assert fields["topic"] == f"data.{data_type_of(SIGNAL.symbol).topic}"
