"""One gRPC method: its time, its id, its errors, its count."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, NoReturn

import grpc

from signalyard.problems import Problem, ProblemDetails, SignalyardError, describe
from signalyard_router.adapters.grpc.metrics import GrpcMetrics
from signalyard_router.adapters.grpc.statuses import STATUSES
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.ports import Clock

_log = logging.getLogger("signalyard.grpc")

_SANE = re.compile(r"[!-~]{1,64}")

ID_KEY = "x-request-id"
PROBLEM_KEY = "signalyard-problem"
"""Trailing metadata: the code of the problem, where there is one."""

Handler = Callable[[Any, int, int | None], Awaitable[Any]]
"""Takes a message, when it was read (monotonic nanoseconds), and how long its caller waits (nanoseconds, None: for ever)."""


class Methods:
    """Makes handlers of functions. Every call gets a status; what is not foreseen becomes the problem ``internal``, and is logged."""

    def __init__(self, clock: Clock, metrics: GrpcMetrics, prefix: str) -> None:
        self._clock = clock
        self._metrics = metrics
        self._prefix = prefix
        self._numbers = count(1)
        self._in_flight = 0
        self.asked = 0
        """When the last call came, monotonic nanoseconds."""
        metrics.watch(lambda: self._in_flight)

    def unary(self, name: str, handler: Handler, message: Any) -> Any:
        """The handler of a method that takes one ``message`` and gives one."""

        async def serve(asked: Any, context: Any) -> Any:
            received = self.asked = self._clock.monotonic()
            REQUEST_ID.set(self._id(context))
            self._in_flight += 1
            code = "OK"
            try:
                return await handler(asked, received, _remaining(context))
            except SignalyardError as exc:
                code = STATUSES[exc.problem].name
                await _abort(context, exc.details)
            except asyncio.CancelledError:
                code = "CANCELLED"  # by its caller, by its deadline, or at the end of the shutdown's grace
                raise
            except Exception:  # noqa: BLE001 -- the last line: logged, counted, and answered without its text
                code = "INTERNAL"
                _log.exception("event=internal_error method=%s", name)
                await _abort(context, describe(Problem.INTERNAL))
            finally:
                self._in_flight -= 1
                self._metrics.answered(name, code, self._clock.monotonic() - received)

        return grpc.unary_unary_rpc_method_handler(
            serve, request_deserializer=message.FromString, response_serializer=_written
        )

    def _id(self, context: Any) -> str:
        for key, value in context.invocation_metadata() or ():
            if key == ID_KEY and isinstance(value, str) and _SANE.fullmatch(value):
                return value
        return f"{self._prefix}-{next(self._numbers)}"


def _written(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _remaining(context: Any) -> int | None:
    seconds = context.time_remaining()
    return None if seconds is None else max(0, int(seconds * 1e9))


async def _abort(context: Any, details: ProblemDetails) -> NoReturn:
    place = f" at {details.pointer}" if details.pointer else ""
    text = f"{details.code}{place}: {details.detail or details.title}"
    await context.abort(STATUSES[details.code], text, ((PROBLEM_KEY, str(details.code)),))
    raise AssertionError("abort raises")
