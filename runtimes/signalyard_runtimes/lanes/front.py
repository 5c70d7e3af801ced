"""What the HTTP server asks: the lanes in order, then MLServer's app, and an answer whatever happens."""

import asyncio
import gzip
import logging
import zlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec
import orjson

from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.lanes import asgi
from signalyard_runtimes.lanes.target import JSON, SMALL_BYTES, error_answer
from signalyard_runtimes.mlserver.errors import status
from signalyard_runtimes.mlserver.metrics import HttpMetrics
from signalyard_runtimes.mlserver.rest import INTERNAL, App

_log = logging.getLogger("signalyard.serve")

_ENCODING = b"content-encoding"
_PROBED = {name: Answer(200, JSON, orjson.dumps({name: True})) for name in ("live", "ready")}


class Lane(Protocol):
    """A way to an answer."""

    async def answer(self, request: Request) -> Answer | None:
        """The answer, None where the request is not for this lane."""
        ...


@runtime_checkable
class PromptLane(Lane, Protocol):
    """One that has some answers without a wait, and is asked for them where a body is small."""

    def at_once(self, request: Request) -> Answer | None:
        """The answer, None where the request is not for this lane or has to wait."""
        ...


class Front:
    """Answers every request, by the first lane that takes it and else by ``app``."""

    def __init__(self, app: App, lanes: Sequence[Lane], metrics: HttpMetrics, max_body_bytes: int) -> None:
        self.metrics = metrics
        self._app = app
        self._lanes = lanes
        self._prompt = [lane for lane in lanes if isinstance(lane, PromptLane)]
        self._max_body_bytes = max_body_bytes

    def at_once(self, request: Request) -> Answer | None:
        """The answer, whatever happens; None where it has to wait, and nothing has been done for it."""
        if len(request.body) > SMALL_BYTES:
            return None
        for lane in self._prompt:
            try:
                answer = lane.at_once(request)
            except Exception:  # noqa: BLE001 -- as below
                answer = _unforeseen(request)
            if answer is not None:
                if answer.status >= 400:
                    self.metrics.failed(answer.status)
                return answer
        return None

    async def answer(self, request: Request) -> Answer:
        """The answer, whatever happens."""
        try:
            answer = await self._answer(request)
        except SignalyardError as exc:
            answer = error_answer(exc)
        except asyncio.CancelledError:
            # only the server's shutdown cancels a request, and it waits for the answer
            answer = error_answer(error(Problem.DRAINING, "the server stopped before there was an answer"))
        except Exception:  # noqa: BLE001 -- the last line: logged, counted, and answered without its text
            answer = _unforeseen(request)
        if answer.status >= 400:
            self.metrics.failed(answer.status)
        return answer

    def refusal(self, problem: Problem, detail: str, code: int | None) -> Answer:
        """The answer to what the connection refused before it was a request."""
        answer = error_answer(error(problem, detail))
        code = code or status(problem)
        self.metrics.failed(code)
        return msgspec.structs.replace(answer, status=code)

    async def _answer(self, request: Request) -> Answer:
        answer = await self._by_lane(request)
        if answer is None and any(name == _ENCODING for name, _ in request.headers):
            self._unpack(request)
            answer = await self._by_lane(request)
        if answer is None:
            answer = await asgi.call(self._app, request)
            if not answer.body and answer.status == 200:
                # MLServer leaves the body out that the protocol has for its probes, and that KServe's client reads.
                return _PROBED.get(request.path.rpartition("/")[2], answer)
        return answer

    async def _by_lane(self, request: Request) -> Answer | None:
        for lane in self._lanes:
            answer = await lane.answer(request)
            if answer is not None:
                return answer
        return None

    def _unpack(self, request: Request) -> None:
        """A packed body becomes a plain one, within the bound for plain ones: MLServer's own way has none.

        Raises CallerError: unsupported_media_type, malformed_body, body_too_large.
        """
        encodings = [value.strip().lower() for name, value in request.headers if name == _ENCODING]
        request.headers = [header for header in request.headers if header[0] != _ENCODING]
        if encodings == [b"identity"]:
            return
        if encodings != [b"gzip"]:
            shown = b", ".join(encodings)[:40].decode("latin-1")
            raise error(Problem.UNSUPPORTED_MEDIA_TYPE, f"a body's content-encoding may be gzip, not {shown!r}")
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            request.body = unpacking.decompress(request.body, self._max_body_bytes + 1)
        except (zlib.error, gzip.BadGzipFile) as exc:
            raise error(Problem.MALFORMED_BODY, f"the body is not gzip: {exc}") from exc
        if len(request.body) > self._max_body_bytes:
            raise error(Problem.BODY_TOO_LARGE, f"unpacked it is longer, at most {self._max_body_bytes} bytes are read")
        if not unpacking.eof or unpacking.unused_data:
            raise error(Problem.MALFORMED_BODY, "the body is not one whole gzip stream")


def _unforeseen(request: Request) -> Answer:
    """The answer to a request that an exception in hand ended."""
    _log.exception("a request to %s failed in a way that it should not", request.path)
    return Answer(500, JSON, orjson.dumps({"error": INTERNAL}))
