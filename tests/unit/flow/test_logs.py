"""One line an event, and nothing in it that a caller sent."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from signalyard_router import logs
from signalyard_router.flow.correlation import REQUEST_ID

Write = Callable[[logging.Logger], Any]


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[str]]]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)

    def run(format_: logs.Format, *calls: Write, name: str = "signalyard.test") -> list[str]:
        stream = io.StringIO()
        logs.configure(format_, "info", stream)
        for call in calls:
            call(logging.getLogger(name))
        return stream.getvalue().splitlines()

    yield run
    root.handlers[:], level = before
    root.setLevel(level)


def broken(logger: logging.Logger) -> None:
    try:
        try:
            float("secret-3512.25")
        except ValueError as exc:
            raise RuntimeError("secret") from exc
    except RuntimeError:
        logger.exception("event=internal_error path=%s", "/v1/predict")


def test_text(written: Any) -> None:
    (line,) = written("text", lambda log: log.info("event=ready port=%d", 8090))
    assert line.endswith(" INFO signalyard.test event=ready port=8090")


def test_json_has_the_fields_with_their_types(written: Any) -> None:
    (line,) = written(
        "json",
        lambda log: log.warning('event=x host=%s port=%d share=%g gone=%s detail="%s"', "h", 1, 0.5, None, "a b"),
    )
    entry = json.loads(line)
    assert entry.pop("ts") > 1_600_000_000
    assert entry == {
        "level": "warning",
        "logger": "signalyard.test",
        "event": "x",
        "host": "h",
        "port": 1,
        "share": 0.5,
        "gone": None,
        "detail": "a b",
    }


@pytest.mark.parametrize(
    ("message", "arguments", "fields"),
    [
        ("event=journal_%s", ("away",), {"event": "journal_away"}),
        ("event=probe %s detail=%s", ("model=m version=7", '"a \\"b\\""'), {"event": "probe", "model": "m", "version": "7", "detail": 'a "b"'}),
        ("event=failed error=%s n=%d", (OSError(28, "No space left"), 2), {"event": "failed", "error": "[Errno 28] No space left", "n": 2}),
        ("event=plain", (), {"event": "plain"}),
        ("just words %s", ("here",), {"event": "message", "message": "just words here"}),
        ("event=x level=%s", ("high",), {"event": "x"}),
    ],
)  # fmt: skip
def test_how_messages_become_fields(written: Any, message: str, arguments: Any, fields: dict[str, Any]) -> None:
    (line,) = written("json", lambda log: log.info(message, *arguments))
    entry = json.loads(line)
    assert {key: value for key, value in entry.items() if key not in ("ts", "level", "logger")} == fields
    assert entry["level"] == "info"


@pytest.mark.parametrize("format_", ["text", "json"])
def test_an_event_is_one_line_whatever_is_in_it(written: Any, format_: logs.Format) -> None:
    lines = written(format_, lambda log: log.error("event=x error=%s", "a\nb\r\x1b[31m\u2028c"), broken)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("format_", ["text", "json"])
def test_an_exception_is_told_without_its_text(written: Any, format_: logs.Format) -> None:
    (line,) = written(format_, broken)
    assert "secret" not in line
    assert "3512" not in line
    assert "RuntimeError from ValueError" in line
    assert "test_logs.py:" in line


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_library_is_quoted_with_its_first_line_alone(written: Any, format_: logs.Format) -> None:
    text = "Task exception was never retrieved\nfuture: <Task exception=ValueError('secret')>"
    (line,) = written(format_, lambda log: log.error(text), name="asyncio")
    assert "never retrieved" in line
    assert "secret" not in line


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_line_carries_the_id_of_its_request(written: Any, format_: logs.Format) -> None:
    def call(log: logging.Logger) -> None:
        async def request(number: int) -> None:
            REQUEST_ID.set(f"r-{number}")
            await asyncio.sleep(0)
            log.info("event=seen number=%d", number)

        async def both() -> None:
            await asyncio.gather(request(1), request(2))

        asyncio.run(both())
        log.info("event=after")

    first, second, after = written(format_, call)
    assert "r-1" in first
    assert "r-2" in second
    assert "request_id" not in after
