"""Warming up: the golden rows of every model, sent the way that a caller's rows come."""

import asyncio
from collections.abc import Sequence
from itertools import cycle, islice
from time import perf_counter_ns
from typing import Any, Protocol

from signalyard import profile
from signalyard._server.answer import Answer
from signalyard._server.request import Request
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
            path = _path(scorer)
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


class Answers(Protocol):
    """Who answers requests: a lane of the server's."""

    async def answer(self, request: Request) -> Answer | None:
        """The answer, None where the request is not for it."""
        ...


async def warm_up_apart(lane: Answers, scorer: Scorer, requests: int) -> None:
    """The same for a bundle that is not served yet, beside the requests to those that are, each of which gets its turn.

    Raises ModelError where the model does not answer as the profile says.
    """
    card, golden = scorer.card, scorer.golden
    assert golden is not None
    path = _path(scorer)
    for row in islice(cycle(golden.rows), requests):
        body = profile.encode_request(_REQUEST_ID, golden.columns, [row])
        headers = ((b"content-type", b"application/json"),)
        answer = await lane.answer(Request("POST", path, headers=headers, body=body, received=perf_counter_ns()))
        if answer is None or answer.status != 200:
            said = "no answer" if answer is None else f"{answer.status} {answer.body[:500].decode(errors='replace')}"
            raise error(Problem.MODEL_FAILED, f"warming up {path}: {said}")
        profile.decode_response(answer.body, request_id=_REQUEST_ID, model=card.model, version=card.version, rows=1)
        await asyncio.sleep(0)


def _path(scorer: Scorer) -> str:
    return f"/v2/models/{scorer.card.model}/versions/{scorer.card.version}/infer"


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
    return int(head[0].split()[1]), await reader.readexactly(length)
