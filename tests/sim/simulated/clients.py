"""Simulated strategies: they ask, wait, give up and ask again. They know nothing of the router but its wire."""

import asyncio
from typing import Any

import msgspec

from signalyard_router.testing.sim.loop import SimLoop
from signalyard_router.testing.sim.network import Node, NodeNetwork
from simulated.plan import Send, Snap


def body_of(send: Send, times: dict[int, int]) -> bytes:
    """A request's body; ``times`` has the event times of the snapshots by their tags."""
    if send.form == "columns":
        body: dict[str, Any] = {
            "columns": ["tag", "p"],
            "rows": [[snap.symbol, times[snap.tag], [snap.tag, snap.p / 1000], snap.sequence] for snap in send.snaps],
        }
        if send.snaps[0].route is not None:
            body["route"] = send.snaps[0].route
        if send.snaps[0].consumer:
            body["consumer"] = send.snaps[0].consumer
        return msgspec.json.encode(body)
    rows = [snapshot_of(snap, times) for snap in send.snaps]
    return msgspec.json.encode(rows[0] if send.form == "one" else rows)


def snapshot_of(snap: Snap, times: dict[int, int]) -> dict[str, Any]:
    """A snapshot as it is written, with its flaw."""
    features: Any = {"p": snap.p / 1000, "tag": snap.tag}
    if snap.flaw == "missing":
        del features["p"]
    elif snap.flaw == "range":
        features["p"] = 7.5
    elif snap.flaw == "unknown":
        features["zz"] = 1
    elif snap.flaw == "form":
        features = ["p"]
    symbol = {"symbol": "nodot", "no_route": "zz.NONE"}.get(snap.flaw, snap.symbol)
    row = {"symbol": symbol, "ts_event": times[snap.tag], "features": features}
    if snap.sequence:
        row["sequence"] = snap.sequence
    if snap.consumer:
        row["consumer"] = snap.consumer
    route = "nowhere" if snap.flaw == "unknown_route" else snap.route
    if route is not None:
        row["route"] = route
    return row


class HttpClient:
    """One strategy's connections. One request at a time on each; one that was given up is closed."""

    def __init__(self, loop: SimLoop, node: Node, network: NodeNetwork) -> None:
        self._loop = loop
        self._node = node
        self._network = network
        self._idle: list[_Connection] = []

    async def ask(
        self, method: str, path: str, body: bytes, budget: float | None, patience: int
    ) -> tuple[int, bytes] | None:
        """Status and body, or None where there is no answer in time. ``budget`` and ``patience`` are milliseconds."""
        head = f"{method} {path} HTTP/1.1\r\nhost: router\r\ncontent-length: {len(body)}\r\n"
        if budget is not None:
            head += f"signalyard-budget-us: {max(1, round(budget * 1000))}\r\n"
        connection = None
        try:
            async with asyncio.timeout(patience / 1000):
                while self._idle:
                    connection = self._idle.pop()
                    if connection.open:
                        break
                else:
                    _, made = await self._network.connect(lambda: _Connection(self._loop), "router", 80)
                    assert isinstance(made, _Connection)
                    connection = made
                answer = await connection.ask(head.encode() + b"\r\n" + body)
        except (TimeoutError, OSError):
            answer = None
        if connection is not None:
            if answer is not None and connection.open:
                self._idle.append(connection)
            else:
                connection.end()
        return answer

    def close(self) -> None:
        """Close what is kept."""
        for connection in self._idle:
            connection.end()


class _Connection(asyncio.Protocol):
    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes] | None] | None = None
        self._buffer = b""
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._settle(None)

    def eof_received(self) -> None:
        self.open = False
        self._settle(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(rest) < length:
            return
        if b"connection: close" in head.lower():
            self.open = False
        self._buffer = rest[length:]
        self._settle((int(head[9:12]), rest[:length]))

    async def ask(self, request: bytes) -> tuple[int, bytes] | None:
        assert self._transport is not None, "not connected"
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return await self._answer

    def end(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def _settle(self, answer: tuple[int, bytes] | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
