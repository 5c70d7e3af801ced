"""Answers that are begun without a task, when all that came in one turn of the event loop has been read."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.unit.server.test_plain import REQUEST, SETTINGS, Noting, bodies

from signalyard._server.answer import Answer
from signalyard._server.connection import Connection, Connections, Later
from signalyard._server.request import Request


class Beginning(Noting):
    """Begins what is asked when the turn has ended, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[bytes] = []
        self.waiting: dict[bytes, asyncio.Future[bytes]] = {}

    def begin(self, request: Request) -> Answer | Later | None:
        self.begun.append(request.body)
        if request.body == b"task!":
            return None
        if request.body == b"hello":
            return Answer(200, b"text/plain", b"at once")
        done = self.waiting[request.body] = asyncio.get_running_loop().create_future()
        return Later(done, lambda done: Answer(200, b"text/plain", b"cut" if done.cancelled() else done.result()))


class Client(asyncio.Transport):
    """A connection of a client, and what it got."""

    def __init__(self, shared: Connections) -> None:
        super().__init__()
        self.got: list[bytes] = []
        self.connection = Connection(shared)
        self.connection.connection_made(self)

    def ask(self, *asked: bytes) -> None:
        self.connection.data_received(b"".join(REQUEST.replace(b"hello", body) for body in asked))

    def write(self, data: Any) -> None:
        self.got += bodies(bytes(data))

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def play(scenario: Callable[[Beginning, Connections], Awaitable[None]]) -> None:
    async def performance() -> None:
        app = Beginning()
        shared = Connections(app, SETTINGS, type("Clock", (), {"monotonic": lambda self: 0})())
        await scenario(app, shared)
        for connection in list(shared.connections):
            connection.connection_lost(None)
        assert not shared.tasks

    asyncio.run(performance())


def test_what_comes_in_one_turn_is_begun_together_when_it_has_ended() -> None:
    async def scenario(app: Beginning, shared: Connections) -> None:
        first, second, third = Client(shared), Client(shared), Client(shared)
        first.ask(b"later", b"hello")
        second.ask(b"hello")
        third.ask(b"task!")
        assert app.begun == []
        await asyncio.sleep(0)
        assert app.begun == [b"later", b"hello", b"task!"]
        assert (first.got, second.got, len(shared.tasks)) == ([], [b"at on"], 2)
        app.waiting[b"later"].set_result(b"soon")
        for _ in range(4):
            await asyncio.sleep(0)
        assert (first.got, third.got) == ([b"soon", b"at on"], [b"task!"])

    play(scenario)


def test_an_answer_that_comes_later_waits_for_a_client_that_does_not_read() -> None:
    async def scenario(app: Beginning, shared: Connections) -> None:
        client = Client(shared)
        client.ask(b"later")
        await asyncio.sleep(0)
        client.connection.pause_writing()
        app.waiting[b"later"].set_result(b"soon")
        for _ in range(4):
            await asyncio.sleep(0)
        assert (client.got, len(shared.tasks)) == ([], 1)
        client.connection.resume_writing()
        for _ in range(4):
            await asyncio.sleep(0)
        assert client.got == [b"soon"]

    play(scenario)


def test_what_is_begun_for_nobody_is_dropped_and_what_is_cut_is_answered() -> None:
    async def scenario(app: Beginning, shared: Connections) -> None:
        gone, early, cut = Client(shared), Client(shared), Client(shared)
        gone.ask(b"later")
        early.ask(b"early")
        cut.ask(b"cut!!")
        early.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert app.begun == [b"later", b"cut!!"]
        gone.connection.connection_lost(None)
        app.waiting[b"later"].set_result(b"soon")
        for task in shared.tasks:
            task.cancel()
        for _ in range(4):
            await asyncio.sleep(0)
        assert (gone.got, early.got, cut.got) == ([], [], [b"cut"])

    play(scenario)
