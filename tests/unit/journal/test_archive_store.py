"""The archive on a store of obstore's: a folder, and memory."""

import asyncio

import pytest

from signalyard import SignalyardError
from signalyard_router.adapters.archive.settings import ArchiveSettings
from signalyard_router.adapters.archive.store import ObstoreArchive


async def single(*pieces):
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_objects_come_back_as_they_were_put(tmp_path, scheme):
    async def run():
        url = f"file://{tmp_path}/a/b" if scheme == "file" else "memory:///"
        archive = ObstoreArchive(ArchiveSettings(url=url), create=True)
        large = bytes(range(256)) * 80_000  # more than two parts
        assert await archive.names() == []
        await archive.put("1/large", single(*(large[n : n + 300_000] for n in range(0, len(large), 300_000))))
        await archive.put("1/empty", single())
        await archive.put("1/small", single(b"one"))
        await archive.put("1/small", single(b"two"))
        assert await archive.names() == ["1/empty", "1/large", "1/small"]
        pieces = [piece async for piece in archive.get("1/large")]
        assert b"".join(pieces) == large
        assert len(pieces) > 10 or scheme == "memory"
        assert [piece async for piece in archive.get("1/small")] == [b"two"]
        assert b"".join([piece async for piece in archive.get("1/empty")]) == b""
        with pytest.raises(FileNotFoundError):
            [piece async for piece in archive.get("1/none")]

        async def breaks():
            yield b"half"
            raise OSError("the disk went away")

        with pytest.raises(OSError, match="the disk went away"):
            await archive.put("1/broken", breaks())
        assert "1/broken" not in await archive.names()

    asyncio.run(run())


def test_a_store_that_is_away_is_an_oserror_in_one_line(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")

    async def run():
        archive = ObstoreArchive(ArchiveSettings(url="s3://bucket/path", request_seconds=1))
        for call in (archive.names(), archive.put("x", single(b"x")), anext(archive.get("x"))):
            with pytest.raises(OSError, match=r"127\.0\.0\.1:1") as failed:
                await call
            assert "\n" not in str(failed.value)
            assert "not-to-be-shown" not in repr(failed.value)

    asyncio.run(run())


@pytest.mark.parametrize("url", ["", "journal", "ftp://x/y", "s3://", "file:///nowhere/at/all", "s3://key:word@bucket"])
def test_urls_that_are_none(url):
    with pytest.raises(SignalyardError, match="invalid_setting at /archive"):
        ObstoreArchive(ArchiveSettings(url=url))
