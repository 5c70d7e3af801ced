"""Signals as they are written, and the pause between attempts."""

import json

import msgspec
import pytest

from signalyard.wire import Signal
from signalyard.words import Direction, Track
from signalyard_router.adapters.redis.encoding import encoder
from signalyard_router.adapters.redis.pause import Pause
from signalyard_router.adapters.redis.settings import Encoding

SIGNAL = Signal(
    symbol="rb2410.SHFE",
    signal=Direction.LONG,
    score=0.82,
    timestamp=1_718_923_456,
    signal_id="s-1",
    epoch=3,
    seq=81,
    prev_seq=80,
    ts_event=1_718_923_456_000_000_001,
    ts_init=1_718_923_456_000_000_002,
    ts_expire=1_718_923_461_000_000_003,
    route="rb-trend",
    revision="r",
    model="rb-trend",
    version="7",
    track=Track.STABLE,
    confidence=0.71,
)


def fields(encoding):
    flat = encoder(encoding).fields(SIGNAL)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_json_is_the_signal_of_the_wire():
    said = fields(Encoding.JSON)
    assert said["v"] == b"1"
    assert msgspec.json.decode(said["signal"], type=Signal) == SIGNAL
    assert encoder(Encoding.JSON).message(SIGNAL) == said["signal"]


def test_classic_is_the_bare_protocol():
    said = {"symbol": "rb2410", "signal": "long", "score": 0.82, "timestamp": 1_718_923_456}
    assert json.loads(fields(Encoding.CLASSIC)["signal"]) == said


@pytest.mark.parametrize(
    ("encoding", "decode", "name"),
    [(Encoding.NAUTILUS_JSON, json.loads, "json"), (Encoding.NAUTILUS_MSGPACK, msgspec.msgpack.decode, "msgpack")],
)
def test_nautilus_finds_topic_and_payload_by_place_and_by_name(encoding, decode, name):
    flat = encoder(encoding).fields(SIGNAL)
    assert flat[0::2] == ("topic", "payload", "type", "encoding")
    assert flat[1] == "data.SignalyardSignal.instrument_id=rb2410.SHFE"
    assert flat[5:] == ("SignalyardSignal", "encoding", name)
    payload = decode(flat[3])
    assert payload["type"] == "SignalyardSignal"
    assert payload["instrument_id"] == "rb2410.SHFE"
    # its serializer takes every ts_* for digits in a string
    assert payload["ts_event"] == "1718923456000000001"
    assert all(isinstance(value, str) for key, value in payload.items() if key.startswith("ts_"))
    assert (payload["signal"], payload["seq"], payload["timestamp"]) == ("long", 81, 1_718_923_456)


def test_pauses_double_up_to_the_longest_and_half_of_each_is_chance():
    pause = Pause(lambda count: b"\xff" * count, 0.1, 0.5)
    assert [round(pause.next(), 3) for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    pause.over()
    assert Pause(lambda count: bytes(count), 0.1, 0.5).next() == pytest.approx(0.05)
    assert round(pause.next(), 3) == 0.1
