"""Warming up: the golden rows of every model, sent the way that a caller's rows come."""

import asyncio
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

from signalyard import profile
from signalyard.problems import Problem, error
from signalyard_runtimes.scorer import Scorer

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_REQUEST_ID = "warm-up"


async def warm_up(address: Sequence[Any], scorers: Sequence[Scorer], requests: int) -> None:
    """Send ``requests`` requests of one golden row to each model, one after another, to the REST server at ``address``.

    Raises ModelError where a model does not answer as the profile says.
    """
    reader, writer = await asyncio.open_connection(_EVERYWHERE.get(address[0], address[0]), address[1])
    try:
        for scorer in scorers:
            card, golden = scorer.card, scorer.golden
            assert golden is not None  # only a bundle that was loaded from its folder is served
            path = f"/v2/models/{card.model}/versions/{card.version}/infer"
            for row in islice(cycle(golden.rows), requests):
                body = profile.encode_request(_REQUEST_ID, golden.columns, [row])
                writer.write(
                    f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                status, answer = await _read_answer(reader)
                if status != 200:
                    raise error(
                        Problem.MODEL_FAILED, f"warming up {path}: {status} {answer[:500].decode(errors='replace')}"
                    )
                profile.decode_response(answer, request_id=_REQUEST_ID, model=card.model, version=card.version, rows=1)
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
    return int(head[0].split()[1]), await reader.readexactly(length)
