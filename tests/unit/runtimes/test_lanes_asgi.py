"""What an ASGI app answers, as the server sends it on."""

import asyncio
from typing import Any

import pytest

from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard_runtimes.lanes.asgi import call


def answer(*headers: tuple[bytes, bytes]) -> Answer:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"signalyard_model_rows_total 1\n"})

    return asyncio.run(call(app, Request("GET", "/metrics")))


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type", b"CONTENT-TYPE"])
def test_a_type_is_known_by_its_header_whatever_the_capitals(name: bytes) -> None:
    """prometheus_client writes Content-Type, and Prometheus 3 does not scrape what has no type that it knows."""
    assert answer((name, b"text/plain; version=0.0.4")).content_type == b"text/plain; version=0.0.4"


def test_the_length_is_the_servers_own_to_say() -> None:
    assert answer((b"Content-Length", b"7"), (b"X-More", b"1")).headers == [(b"x-more", b"1")]


def test_what_has_no_type_is_bytes() -> None:
    assert answer().content_type == b"application/octet-stream"
