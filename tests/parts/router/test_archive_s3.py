"""The archive on a real S3 API without TLS, as stores inside a cluster are."""

import asyncio
import subprocess
import urllib.request
from collections.abc import AsyncIterator

import pytest
from tests.parts.bundles.conftest import MOTO, PATIENCE, answers, free_port, wait_for

from signalyard_router.adapters.archive.settings import ArchiveSettings
from signalyard_router.adapters.archive.store import ObstoreArchive

pytestmark = pytest.mark.parts


@pytest.fixture
def endpoint(tmp_path):
    assert MOTO.exists(), f"{MOTO} is not there: run `make .venv/s3/.ready`"
    place = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", place.split(":")[1]], stdout=out, stderr=out)
    try:
        wait_for(lambda: answers(f"http://{place}/moto-api/"), process, "moto")
        urllib.request.urlopen(urllib.request.Request(f"http://{place}/journals", method="PUT"), timeout=30).close()
        yield f"http://{place}"
    finally:
        process.kill()
        process.wait(PATIENCE)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * 1_000_000


def test_segments_go_there_and_come_back(endpoint, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(name, value)

    def archive() -> ObstoreArchive:
        return ObstoreArchive(ArchiveSettings(url="s3://journals/desk"))

    async def scenario() -> None:
        with pytest.raises(OSError, match="HTTP error"):
            await archive().names()  # nobody said that it may be spoken to without TLS
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        store = archive()
        assert await store.names() == []
        await store.put("1/large", pieces(20))  # more than two parts
        await store.put("1/small", pieces(1))
        assert await store.names() == ["1/large", "1/small"]
        assert b"".join([piece async for piece in store.get("1/large")]) == b"".join([p async for p in pieces(20)])
        with pytest.raises(FileNotFoundError):
            [piece async for piece in store.get("1/none")]

    asyncio.run(scenario())
