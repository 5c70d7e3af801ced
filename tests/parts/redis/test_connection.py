"""The connection against a real server."""

import asyncio

import pytest

from signalyard._redis.connection import RedisConnection
from signalyard._redis.errors import LostError, RefusedError
from signalyard._redis.url import shown
from signalyard.problems import CallerError

pytestmark = pytest.mark.parts


def connection(url, seconds=20.0):
    return RedisConnection(url, seconds=seconds, name="signalyard-test")


async def test_answers_come_in_order_and_an_error_stands_in_its_place(redis_server):
    wire = connection(redis_server.url)
    answers = await wire.ask_all([("SET", "a", b"\x00\xff"), ("LPUSH", "a", 1), ("GET", "a")])
    assert (answers[0], answers[2]) == (b"OK", b"\x00\xff")
    assert isinstance(answers[1], RefusedError)
    assert answers[1].code == "WRONGTYPE"
    with pytest.raises(RefusedError, match="WRONGTYPE"):
        await wire.ask("LPUSH", "a", 1)
    await wire.close()


async def test_a_killed_server_is_lost_once_and_a_restarted_one_found_again(redis_server):
    wire = connection(redis_server.url)
    await wire.ask("SET", "kept", "1")
    redis_server.kill()
    with pytest.raises(LostError):
        await wire.ask("INCR", "kept")
    with pytest.raises(LostError):
        await wire.ask("INCR", "kept")
    redis_server.start()
    assert await wire.ask("GET", "kept") == b"1"
    await wire.close()


async def test_a_late_answer_is_never_the_next_questions(redis_server):
    wire = connection(redis_server.url, 0.3)
    await wire.ask("SET", "late", "for another")
    redis_server.pause()
    with pytest.raises(LostError, match="no answer within"):
        await wire.ask("GET", "late")
    redis_server.resume()
    assert redis_server.ask("PING") == b"+PONG\r\n"
    for _ in range(3):
        assert await wire.ask("ECHO", "mine") == b"mine"
    await wire.close()


async def test_a_question_given_up_leaves_no_answer_behind(redis_server):
    wire = connection(redis_server.url)
    asking = asyncio.create_task(wire.ask("BLPOP", "nothing", 30, wait=30))
    async with asyncio.timeout(20):
        while b"cmd=blpop" not in redis_server.ask("CLIENT", "LIST"):  # noqa: ASYNC110 -- only the server knows
            await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await wire.ask("ECHO", "mine") == b"mine"
    await wire.close()


async def test_a_subscriber_reads_what_is_sent_unasked(redis_server):
    wire = connection(redis_server.url)
    assert await wire.ask("SUBSCRIBE", "ticks") == [b"subscribe", b"ticks", 1]
    assert await wire.next(0.01) is None
    redis_server.ask("PUBLISH", "ticks", "one")
    redis_server.ask("PUBLISH", "ticks", "two")
    assert await wire.next(20) == [b"message", b"ticks", b"one"]
    assert await wire.next(20) == [b"message", b"ticks", b"two"]
    redis_server.kill()
    with pytest.raises(LostError):
        await wire.next(20)
    with pytest.raises(LostError):
        await wire.next(20)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1", "is not a Redis server's URL"),
        ("redis://127.0.0.1?socket_timeout=5", "'socket_timeout' is not taken"),
    ],
)
def test_a_url_that_is_none_is_refused(url, text):
    with pytest.raises(CallerError, match=text):
        connection(url)


def test_a_logged_url_has_no_password():
    assert shown("redis://desk:secret@10.0.0.1:6380/2") == "redis://10.0.0.1:6380/2"
