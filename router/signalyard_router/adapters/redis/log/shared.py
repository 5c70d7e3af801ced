"""The shared log on Redis: a stream of entries, and beside it its head, the newest state, and a stream of signals.

One connection carries commands and what others append, so an answer never overtakes an entry that was appended before it.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.adapters.redis.log.address import address_of
from signalyard_router.adapters.redis.log.resp import RespConnection
from signalyard_router.adapters.redis.log.settings import RedisLogSettings
from signalyard_router.awake import Awake
from signalyard_router.ports import Appended, JournalInDoubt, LogEntry, LogReader, LogState, Place, World
from signalyard_router.rules.units import SECOND

_MICROSECOND = 1_000


class _Script:
    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / f"{name}.lua").read_bytes()
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class RedisLog:
    """Implements `ports.SharedLog`. Every append goes to the server once: whether one whose answer was lost was carried out, the log
    itself says."""

    def __init__(self, world: World, settings: RedisLogSettings) -> None:
        self._world = world
        self._settings = settings
        self._address = address_of(settings.url)
        keys = f"{{{settings.prefix}}}"
        self._head, self._log, self._kept = f"{keys}:head", f"{keys}:log", f"{keys}:state"
        self._signals, self._offers, self._ears = f"{keys}:signals", f"{keys}:offers", f"{keys}:ears"
        # Channels are the same in every database.
        self._channels = f"{keys}:{self._address.database}:entries:"
        self._scripts = {name: _Script(name) for name in ("append", "state", "begin", "keep", "offer")}
        self._append_sha1 = self._scripts["append"].sha1
        self._me = world.random_bytes(8).hex()
        self._connection: RespConnection | None = None
        self._reader: LogReader | None = None
        self._ahead = 0  # the server's microseconds minus our monotonic ones, as far as is certain
        self._turn = f"{settings.turn_seconds * 1e6:.0f}"
        self._patience = round(settings.call_seconds * 1e6)
        self._awake = Awake(world.clock, round(settings.awake_seconds * SECOND))

    @property
    def name(self) -> str:
        return f"{self._address.shown} {self._settings.prefix}"

    @property
    def signals(self) -> str:
        """The key of the stream of signals."""
        return self._signals

    async def open(self, reader: LogReader) -> None:
        await self.close()
        connection: RespConnection | None = None

        def on_end() -> None:
            if connection is not None and self._connection is connection:
                self._connection = None
                reader.away()

        connection = RespConnection(self._on_push, on_end)
        address, made = self._address, connection
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                network = self._world.network
                if address.path:
                    await network.connect_path(lambda: made, address.path)
                else:
                    await network.connect(lambda: made, address.host, address.port, address.context())
                await self._greet(connection)
        except TimeoutError as exc:
            connection.close("it took too long to connect")
            raise self._unavailable(f"no answer within {self._settings.connect_seconds:g} s") from exc
        except (OSError, hiredis.HiredisError) as exc:
            connection.close(str(exc))
            raise self._unavailable(str(exc)) from exc
        except BaseException:
            connection.close("it was given up")
            raise
        self._reader, self._connection = reader, connection

    async def _greet(self, connection: RespConnection) -> None:
        address = self._address
        login = ("AUTH", address.user or "default", address.password) if address.password else ()
        await connection.ask("HELLO", "3", *login, "SETNAME", f"signalyard-{self._me}")
        if address.database:
            await connection.ask("SELECT", str(address.database))
        memory = str(await connection.ask("INFO", "memory"), "utf-8", "replace")
        policy = next(
            (line.partition(":")[2] for line in memory.split("\r\n") if line.startswith("maxmemory_policy:")), ""
        )
        if policy != "noeviction":
            text = f"{self.name} may throw records away: its maxmemory-policy is {policy or 'unknown'}, set it to noeviction"
            raise error(Problem.INVALID_SETTING, text, "/journal-redis")
        for script in self._scripts.values():
            await connection.ask("SCRIPT", "LOAD", script.text)
        # In this order: an ear that nobody is at is forgotten with the next entry.
        connection.subscribe(f"{self._channels}{self._me}")
        await connection.ask("SADD", self._ears, self._me)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await asyncio.sleep(0)  # the socket is closed in the loop's next turn

    def _on_push(self, push: Sequence[Any]) -> None:
        if push[0] != b"message" or self._reader is None:
            return
        epoch, position, token, body = push[2].split(b" ", 3)
        self._reader.took(int(epoch), LogEntry(int(position), token.decode(), body))

    # Calls -----------------------------------------------------------------------------------------------------------

    async def state(self) -> LogState | None:
        found = await self._run("state", [self._head])
        self._set_clock(int(found[0]) * 1_000_000 + int(found[1]))
        if len(found) == 2:
            return None
        epoch, position, token, held, clock, whole = (str(word, "utf-8") for word in found[2:])
        return LogState(Place(int(epoch), int(position), token), whole == "1", int(held), clock)

    async def entries(self, epoch: int, after: int, count: int) -> list[LogEntry]:
        # In one transaction: else the log might be begun anew between the two.
        found = await self._ask(
            "EVAL",
            "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return {} end "
            "return redis.call('XRANGE', KEYS[2], ARGV[2], '+', 'COUNT', ARGV[3])",
            "2",
            self._head,
            self._log,
            str(epoch),
            f"{max(0, after + 1)}-0",
            str(count),
        )
        return [LogEntry(int(name.partition(b"-")[0]), fields[1].decode(), fields[3]) for name, fields in found]

    async def snapshot(self) -> LogEntry | None:
        position, token, body = await self._ask("HMGET", self._kept, "position", "token", "body")
        return None if body is None else LogEntry(int(position), token.decode(), body)

    async def keep(self, epoch: int, snapshot: LogEntry, forget: int) -> None:
        await self._run(
            "keep",
            [self._head, self._log, self._kept],
            str(epoch),
            str(snapshot.position),
            snapshot.token,
            snapshot.body,
            str(forget),
        )

    async def offer(self, place: Place, newest: int) -> bool:
        known = f"{place.epoch:020d} {place.position:020d} {newest:020d}"
        return bool(await self._run("offer", [self._offers], self._me, known))

    async def begin(self, before: Place | None, state: LogState, snapshot: LogEntry) -> bool:
        stood = ("", "", "") if before is None else (str(before.epoch), str(before.position), before.token)
        place = state.place
        return bool(
            await self._run(
                "begin",
                [self._head, self._log, self._kept, self._offers],
                *stood,
                str(place.epoch),
                str(place.position),
                place.token,
                str(state.held_from),
                state.clock,
                snapshot.body,
            )
        )

    # The append ------------------------------------------------------------------------------------------------------

    def append(
        self, place: Place, entry: LogEntry, signals: Sequence[bytes], *, insist: bool
    ) -> asyncio.Future[Appended]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Appended] = loop.create_future()
        connection = self._connection
        if connection is None:
            answer.set_exception(self._unavailable("there is no connection"))
            return answer
        timer = loop.call_later(self._settings.call_seconds, connection.close, "an append got no answer")

        def then(reply: Any) -> None:
            timer.cancel()
            self._awake.answered()
            try:
                if reply == b"done" and self._reader is not None:
                    # At once, and not by the answer: the next thing that is read may be another's entry behind this one.
                    self._reader.took(place.epoch, entry)
            finally:
                self._tell(answer, connection, reply)

        fence = self._world.clock.monotonic() // _MICROSECOND + self._ahead + self._patience
        connection.send(
            then,
            "EVALSHA",
            self._append_sha1,
            "4",
            self._head,
            self._log,
            self._signals,
            self._ears,
            str(place.epoch),
            str(place.position),
            place.token,
            str(entry.position),
            entry.token,
            entry.body,
            self._me,
            "1" if insist else "0",
            str(fence),
            self._turn,
            str(self._settings.signals_kept),
            self._channels,
            *signals,
        )
        self._awake.sent(loop)
        return answer

    def _tell(self, answer: asyncio.Future[Appended], connection: RespConnection, reply: Any) -> None:
        if answer.done():
            return
        if isinstance(reply, bytes):
            answer.set_result(Appended(reply.decode()))
        elif isinstance(reply, hiredis.ReplyError):
            if str(reply).startswith("NOSCRIPT"):
                connection.close("the server no longer knows the script")
            answer.set_exception(self._unavailable(str(reply)))
        else:
            answer.set_exception(JournalInDoubt(Problem.JOURNAL_UNAVAILABLE, f"{self.name}: {reply}"))

    # Own -------------------------------------------------------------------------------------------------------------

    async def _run(self, script: str, keys: Sequence[str], *words: str | bytes) -> Any:
        return await self._ask("EVALSHA", self._scripts[script].sha1, str(len(keys)), *keys, *words)

    async def _ask(self, *words: str | bytes) -> Any:
        connection = self._connection
        if connection is None:
            raise self._unavailable("there is no connection")
        try:
            async with asyncio.timeout(self._settings.call_seconds):
                return await connection.ask(*words)
        except TimeoutError as exc:
            connection.close("a call got no answer")
            raise self._unavailable(f"no answer within {self._settings.call_seconds:g} s") from exc
        except hiredis.ReplyError as exc:
            if str(exc).startswith("NOSCRIPT"):
                connection.close("the server no longer knows the scripts")
            raise self._unavailable(str(exc)) from exc
        except ConnectionError as exc:
            raise self._unavailable(str(exc)) from exc

    def _set_clock(self, server: int) -> None:
        """The answer has just come, so the server's clock is at least so far ahead of ours."""
        self._ahead = server - self._world.clock.monotonic() // _MICROSECOND

    def _unavailable(self, why: str) -> SignalyardError:
        return error(Problem.JOURNAL_UNAVAILABLE, f"{self.name}: {why}")
