"""A model server that answers at once, so that what is in front of it can be measured alone.

    python -m signalyard_bench.model_server --features 32 [--hang]

It speaks the inference profile for any model and version, and prints ``ready PORT``. With ``--hang`` it answers metadata and
never a score.
"""

import argparse
import asyncio
import re
from functools import lru_cache
from typing import cast

import msgspec
import uvloop

from signalyard.profile import Feature, FeatureSchema, ModelCard, ScoredRows, encode_response, metadata
from signalyard_bench.bodies import names
from signalyard_bench.peer import VERSION

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/ ]+))?")
_ID = re.compile(rb'"id":"([^"]*)"')
_ROWS = re.compile(rb'"shape":\[(\d+),')
_MARK = "0-mark-0"


def _card(model: str, version: str, features: int) -> ModelCard:
    schema = FeatureSchema(tuple(Feature(name=name) for name in names(features)))
    return ModelCard(model=model, version=version, digest=f"sha256:{'7' * 64}", calibrated=True, schema=schema)


@lru_cache(maxsize=4096)
def _scores(model: str, version: str, rows: int) -> tuple[bytes, bytes]:
    """The body of an answer before and after the request's id."""
    answer = ScoredRows(
        model=model,
        version=version,
        digest=f"sha256:{'7' * 64}",
        score=[0.71234] * rows,
        confidence=[0.71234] * rows,
        row_error=[""] * rows,
    )
    before, _, after = encode_response(answer, _MARK).partition(_MARK.encode())
    return before, after


def _http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class _Protocol(asyncio.Protocol):
    def __init__(self, features: int, hang: bool) -> None:
        self._features = features
        self._hang = hang
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        head = data.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(data, 0, head)
        if head < 4 or len(data) < head + (int(length[1]) if length else 0):
            self._held = data
            return
        self._held = b""
        named = _MODEL.search(data, 0, head)
        assert named is not None, data[:head]
        model, version = named[1].decode(), (named[2] or VERSION.encode()).decode()
        if data.startswith(b"GET"):
            answer = metadata(_card(model, version, self._features), "bench")
            self._transport.write(_http(msgspec.json.encode(answer)))
        elif not self._hang:
            asked, rows = _ID.search(data, head), _ROWS.search(data, head)
            assert asked is not None, data[head:]
            assert rows is not None, data[head:]
            before, after = _scores(model, version, int(rows[1]))
            self._transport.write(_http(before + asked[1] + after))


async def _serve(features: int, hang: bool) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(features, hang), "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--hang", action="store_true")
    given = parser.parse_args()
    uvloop.run(_serve(given.features, given.hang))
