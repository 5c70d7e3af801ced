"""A model server that can be told to misbehave.

It serves the inference profile over HTTP/1.1 from inside the caller's event loop, scores with a plain function, records
every request, and fails in the ways in which real servers do. It is for tests: ours of the way to the model servers, and
those of anyone who wants to see what a route does when its model hangs, lies or dies. It knows nothing of bundles.

    server = ModelServer([ServedModel(card, score=lambda rows: [0.8 for _ in rows])])
    await server.start(world.network)
    server.script.append(Behaviour.HANG)      # the next inference only
    server.behaviour = Behaviour.OVERLOADED   # all others
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from urllib.parse import unquote

import httptools
import msgspec

from signalyard import oip
from signalyard.profile import ModelCard, ScoredRows, encode_response, metadata
from signalyard_router.ports import Listener, Network

Scores = Callable[[list[list[float | None]]], Sequence[float | None]]

_BUDGET_SPENT = "the budget is spent"


class Behaviour(StrEnum):
    """How the server treats a request."""

    GOOD = "good"
    """Answer as the profile says."""
    HANG = "hang"
    """Never answer; the connection stays open."""
    LATE = "late"
    """Answer after ``late_seconds``."""
    NOT_FOUND = "not_found"
    """404."""
    FAIL = "fail"
    """500 with an error text."""
    BAD_INPUT = "bad_input"
    """422 with an error text."""
    OVERLOADED = "overloaded"
    """503."""
    EXPIRED = "expired"
    """504, as for work whose budget has run out."""
    GARBAGE = "garbage"
    """Bytes that are not HTTP."""
    NOT_JSON = "not_json"
    """200 with a body that is not JSON."""
    NOT_TEXT = "not_text"
    """200 with JSON whose strings are not UTF-8."""
    WRONG_SHAPE = "wrong_shape"
    """One score too few."""
    WRONG_ID = "wrong_id"
    """The answer to another request."""
    WRONG_VERSION = "wrong_version"
    """The answer of another version."""
    NAN = "nan"
    """A bare ``NaN`` for a score, as Python's json writes it."""
    NULL = "null"
    """A ``null`` score for a row without an error."""
    HALF = "half"
    """Half an answer, then the end of the stream."""
    NO_LENGTH = "no_length"
    """A whole answer that only the end of the stream delimits."""
    CLOSE = "close"
    """The end of the stream, and not a byte before it."""
    RESET = "reset"
    """A reset connection, and not a byte before it."""
    HALF_RESET = "half_reset"
    """Half an answer, then a reset."""
    DRIBBLE = "dribble"
    """The answer byte by byte, ``dribble_seconds`` apart."""
    CHUNKED = "chunked"
    """The answer in chunks, after an interim 100."""
    TWICE = "twice"
    """The answer, and at once the same again."""
    AGAIN = "again"
    """The answer, and ``late_seconds`` after it the same again."""
    EXTRA = "extra"
    """The answer, and more bytes behind it."""
    HUGE = "huge"
    """An answer with a body of ``huge_bytes``."""
    HUGE_HEADER = "huge_header"
    """A header that goes on for ``huge_bytes``."""
    LAST = "last"
    """The answer with ``connection: close``."""
    THEN_CLOSE = "then_close"
    """The answer, then the end of the stream, unannounced."""


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a model: its card, and the function that gives a score for each row [n, k], None for missing.

    ``confidence`` is what a calibrated one says of a score.
    """

    card: ModelCard
    score: Scores
    confidence: Callable[[float], float] = lambda _: 0.75


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came; ``connection`` counts the connections from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class ModelServer:
    """Serves models at ``/v2/models/{model}/versions/{version}``, and the inference below it; at ``/v2/models/{model}`` it describes
    the version that came last.

    ``script`` says how the next inferences are treated, one entry each; when it is empty, ``behaviour`` does.
    ``metadata_behaviour`` is the same for metadata. ``requests`` has every request that was read, the newest last.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self.models = {(model.card.model, model.card.version): model for model in models}
        self.behaviour = Behaviour.GOOD
        self.metadata_behaviour = Behaviour.GOOD
        self.script: deque[Behaviour] = deque()
        self.late_seconds = 0.2
        self.dribble_seconds = 0.0
        self.huge_bytes = 1 << 20
        self.requests: list[Recorded] = []
        self.accepted = 0
        self._connections: dict[_ServerConnection, None] = {}
        self._listener: Listener | None = None

    async def start(self, network: Network, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. May be called again after :meth:`stop`."""
        self._listener = await network.listen(self._accept, host, port)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None, "not started"
        return self._listener.port

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def inferences(self) -> list[Recorded]:
        """The recorded inference requests."""
        return [request for request in self.requests if request.path.endswith("/infer")]

    def serve(self, model: ServedModel) -> None:
        """Serve one more version, or another one in the place of an equally named."""
        self.models[model.card.model, model.card.version] = model

    def withdraw(self, model: str, version: str) -> None:
        """Serve a version no more."""
        del self.models[model, version]

    def drop(self) -> None:
        """Close every connection, as a server does whose keep-alive time is over."""
        for connection in list(self._connections):
            connection.finish()

    def stop(self) -> None:
        """Listen no more and close every connection, at once."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.abort()

    def _accept(self) -> "_ServerConnection":
        connection = _ServerConnection(self, self.accepted)
        self.accepted += 1
        return connection

    def _opened(self, connection: "_ServerConnection") -> None:
        self._connections[connection] = None

    def _ended(self, connection: "_ServerConnection") -> None:
        self._connections.pop(connection, None)

    def _answer(self, request: Recorded, connection: "_ServerConnection") -> None:
        self.requests.append(request)
        match [unquote(part) for part in request.path.split("/")[1:]]:
            case ["v2", "models", model]:
                # as MLServer does: the version that was loaded last
                version = next((key[1] for key in reversed(self.models) if key[0] == model), "")
                behaviour = self.metadata_behaviour
            case ["v2", "models", model, "versions", version]:
                behaviour = self.metadata_behaviour
            case ["v2", "models", model, "versions", version, "infer"]:
                behaviour = self.script.popleft() if self.script else self.behaviour
            case _:
                connection.write(_error(404, "there is nothing here"))
                return
        served = self.models.get((model, version))
        if served is None:
            connection.write(_error(404, f"no model {model} {version}"))
        else:
            self._act(behaviour, served, request, connection)

    def _act(
        self, behaviour: Behaviour, served: ServedModel, request: Recorded, connection: "_ServerConnection"
    ) -> None:
        def answer() -> bytes:
            return _response(200, _content(behaviour, served, request))

        match behaviour:
            case Behaviour.HANG:
                pass
            case Behaviour.LATE:
                connection.later(self.late_seconds, answer())
            case Behaviour.NOT_FOUND:
                connection.write(_error(404, "not here"))
            case Behaviour.FAIL:
                connection.write(_error(500, "the model\n\tfell \x1b[31mover"))
            case Behaviour.BAD_INPUT:
                connection.write(_error(422, "there is no such column"))
            case Behaviour.OVERLOADED:
                connection.write(_error(503, "too much to do"))
            case Behaviour.EXPIRED:
                connection.write(_error(504, _BUDGET_SPENT))
            case Behaviour.GARBAGE:
                connection.write(b"\x00\xff this is not HTTP\r\n\r\n")
            case Behaviour.HALF:
                whole = answer()
                connection.write(whole[: len(whole) - 20])
                connection.finish()
            case Behaviour.HALF_RESET:
                whole = answer()
                connection.write(whole[: len(whole) - 20])
                connection.later(0.01, b"", reset=True)
            case Behaviour.NO_LENGTH:
                connection.write(b"HTTP/1.1 200 OK\r\n\r\n" + _content(behaviour, served, request))
                connection.finish()
            case Behaviour.CLOSE:
                connection.finish()
            case Behaviour.RESET:
                connection.reset()
            case Behaviour.DRIBBLE:
                connection.dribble(answer(), self.dribble_seconds)
            case Behaviour.CHUNKED:
                connection.write(_chunked(_content(behaviour, served, request)))
            case Behaviour.TWICE:
                connection.write(2 * answer())
            case Behaviour.AGAIN:
                connection.write(answer())
                connection.later(self.late_seconds, answer())
            case Behaviour.EXTRA:
                connection.write(answer() + b"and more")
            case Behaviour.HUGE:
                connection.write(_response(200, b" " * self.huge_bytes))
            case Behaviour.HUGE_HEADER:
                connection.write(b"HTTP/1.1 200 OK\r\nx-huge: " + b"x" * self.huge_bytes)
            case Behaviour.LAST:
                connection.write(_response(200, _content(behaviour, served, request), last=True))
                connection.finish()
            case Behaviour.THEN_CLOSE:
                connection.write(answer())
                connection.finish()
            case _:
                connection.write(answer())


class _ServerConnection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, server: ModelServer, number: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._number = number
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = ""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is one
        self._server._opened(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server._ended(self)

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        request = Recorded(
            method=self._parser.get_method().decode(),
            path=self._path,
            headers=self._headers,
            body=bytes(self._body),
            connection=self._number,
        )
        self._path, self._headers, self._body = "", {}, bytearray()
        self._server._answer(request, self)

    def write(self, data: bytes) -> None:
        """Send, unless the connection is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def later(self, seconds: float, data: bytes, *, reset: bool = False) -> None:
        """Send after a while."""
        self._loop.call_later(seconds, self.reset if reset else self.write, *(() if reset else (data,)))

    def dribble(self, data: bytes, seconds: float) -> None:
        """Send byte by byte."""
        self.write(data[:1])
        if len(data) > 1 and self._transport is not None:
            self._loop.call_later(seconds, self.dribble, data[1:], seconds)

    def finish(self) -> None:
        """Send what is still to be sent, then end the stream."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the stream at once."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """End the stream at once and, where there is a socket, tell the peer so by a TCP reset."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def _content(behaviour: Behaviour, served: ServedModel, request: Recorded) -> bytes:
    if request.method == "GET":
        body = msgspec.json.encode(metadata(served.card, "testing"))
        return b"{" if behaviour is Behaviour.NOT_JSON else body
    asked = msgspec.json.decode(request.body, type=oip.InferRequest)
    count, width = asked.inputs[0].shape
    data = asked.inputs[0].data
    rows = [data[index * width : (index + 1) * width] for index in range(count)]
    score = list(served.score(rows))
    card = served.card
    version, request_id = card.version, asked.id
    match behaviour:
        case Behaviour.NOT_JSON:
            return b'{"model_name": '
        case Behaviour.NOT_TEXT:
            return b'{"model_name": "\xff\xfe", "outputs": []}'
        case Behaviour.WRONG_SHAPE:
            score = score[:-1]
        case Behaviour.WRONG_ID:
            request_id = "another"
            score = [None if value is None else value / 2 for value in score]
        case Behaviour.WRONG_VERSION:
            version = f"not-{version}"
        case Behaviour.NULL | Behaviour.NAN:
            score[0] = None
    answer = ScoredRows(
        model=card.model,
        version=version,
        digest=card.digest,
        score=score,
        confidence=[None if value is None else served.confidence(value) for value in score]
        if card.calibrated
        else None,
        row_error=[""] * len(score),
    )
    body = encode_response(answer, request_id)
    return body.replace(b'"data":[null', b'"data":[NaN', 1) if behaviour is Behaviour.NAN else body


def _response(status: int, body: bytes, *, last: bool = False) -> bytes:
    connection = "close" if last else "keep-alive"
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: {connection}\r\n\r\n"
    )
    return head.encode() + body


def _error(status: int, text: str) -> bytes:
    return _response(status, msgspec.json.encode(oip.ErrorBody(text)))


def _chunked(body: bytes) -> bytes:
    middle = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]))
    return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
