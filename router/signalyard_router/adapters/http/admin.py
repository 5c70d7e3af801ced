"""The admin's face: levers and promotions. It listens on loopback unless it has tokens and TLS."""

import hashlib
import re
from collections.abc import Mapping
from typing import Protocol, TypeVar

import msgspec
from prometheus_client import CollectorRegistry

from signalyard._server.answer import Answer
from signalyard.problems import Problem, error
from signalyard_router.adapters.http.answers import json_answer
from signalyard_router.adapters.http.pages import Pages, Path, Request
from signalyard_router.control.board import Promotion, Shown
from signalyard_router.rules.documents import explain_validation
from signalyard_router.rules.levers import Action, Latch, Lever, Order, Text
from signalyard_router.rules.units import Duration, nanoseconds

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_Form = TypeVar("_Form")


class LeverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is posted to pull a lever. ``by`` may be left out where a token says who it is."""

    action: Action
    why: Text
    by: str = ""
    route: str | None = None
    symbol: str | None = None
    lever: str | None = None
    canary: float | None = None
    version: str | None = None
    latch: Latch | None = None
    expires_in: Duration | None = None


class PromoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is posted to take the next step of a promotion."""

    route: str
    version: str
    why: Text
    by: str = ""


class LeverBoard(Protocol):
    """The board, as the app sees it."""

    def show(self) -> Shown:
        """Routes, levers and latches as they stand; JSON can be made of it."""
        ...

    def levers(self) -> list[Lever]:
        """The levers that hold."""
        ...

    async def pull(self, order: Order) -> Lever:
        """Pull a lever. Raises CallerError, RouterError."""
        ...

    async def promote(self, name: str, version: str, by: str, why: str, *, proved: bool = False) -> Promotion:
        """Take the next step of a promotion. Raises CallerError, RouterError."""
        ...


class Tokens:
    """Who may pull levers: names by the sha256 of their tokens, so that the tokens themselves are nowhere at rest."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def name(self, authorization: bytes) -> str | None:
        """The name behind an ``authorization`` header, or None."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return self._names.get(hashlib.sha256(token.strip()).hexdigest())


def read_tokens(text: str) -> Tokens:
    """Lines of ``name sha256:HEX``; empty ones and those that begin with # count for nothing.

    Raises CallerError (invalid_setting) naming the line.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        digest = parts[-1].removeprefix("sha256:")
        if len(parts) != 2 or not parts[-1].startswith("sha256:") or not _DIGEST.fullmatch(digest):
            raise error(Problem.INVALID_SETTING, f"line {number} must read: NAME sha256:HEX", "/admin-tokens")
        names[digest.lower()] = parts[0]
    return Tokens(names)


EXAMPLE = {"action": "halt", "route": "rb-trend", "why": "a fat finger", "by": "ann"}


class AdminApp(Pages):
    """Levers over REST. With tokens every request needs one, and ``by`` is its name; without, ``by`` is what is claimed."""

    def __init__(self, board: LeverBoard, tokens: Tokens, registry: CollectorRegistry) -> None:
        self._board = board
        self._tokens = tokens
        if tokens:
            self.always = (Problem.UNAUTHENTICATED,)
        refused = (Problem.MALFORMED_BODY, Problem.INVALID_LEVER, Problem.UNKNOWN_ROUTE, Problem.JOURNAL_UNAVAILABLE)
        paths = {
            "/admin/v1/routes": Path(
                "GET", self._routes, "routes as they are in force, levers, latches", answer=(Shown,)
            ),
            "/admin/v1/levers": Path("GET", self._levers, "the levers that hold", answer=(list[Lever],)),
            "/admin/v1/pull": Path(
                "POST", self._pull, "pull a lever", refused, body=(LeverRequest,), answer=(Lever,), example=EXAMPLE
            ),
            "/admin/v1/promote": Path(
                "POST",
                self._promote,
                "take the next step of a promotion",
                (*refused, Problem.STEP_SKIPPED),
                body=(PromoteRequest,),
                answer=(Promotion,),
            ),
        }
        super().__init__("signalyard router, admin", paths, registry, "signalyard_admin_http")

    @property
    def secured(self) -> bool:
        return bool(self._tokens)

    async def handle(self, known: Path, request: Request) -> Answer:
        if self._tokens:
            header = next((value for name, value in request.headers if name == b"authorization"), b"")
            who = self._tokens.name(header)
            if who is None:
                raise error(Problem.UNAUTHENTICATED, "send authorization: Bearer TOKEN with a token of this router")
            request.who = who
        return await super().handle(known, request)

    async def _routes(self, request: Request) -> Answer:
        return json_answer(self._board.show())

    async def _levers(self, request: Request) -> Answer:
        return json_answer(self._board.levers())

    async def _pull(self, request: Request) -> Answer:
        asked = _read(request.body, LeverRequest)
        by, proved = self._who(request, asked.by)
        try:
            expires_in = nanoseconds(asked.expires_in) if asked.expires_in is not None else None
        except ValueError as exc:  # a pattern's $ lets a newline pass
            raise error(Problem.INVALID_LEVER, str(exc), "/expires_in") from exc
        order = Order(
            action=asked.action,
            by=by,
            why=asked.why,
            route=asked.route,
            symbol=asked.symbol,
            lever=asked.lever,
            canary=asked.canary,
            version=asked.version,
            latch=asked.latch,
            expires_in=expires_in,
            proved=proved,
        )
        return json_answer(await self._board.pull(order))

    async def _promote(self, request: Request) -> Answer:
        asked = _read(request.body, PromoteRequest)
        by, proved = self._who(request, asked.by)
        return json_answer(await self._board.promote(asked.route, asked.version, by, asked.why, proved=proved))

    def _who(self, request: Request, claimed: str) -> tuple[str, bool]:
        if request.who is not None:
            return request.who, True
        if not claimed.strip():
            raise error(Problem.INVALID_LEVER, "say who pulls the lever", "/by")
        return claimed.strip()[:500], False


def _read(body: bytes, form: type[_Form]) -> _Form:
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError as exc:
        text, pointer = explain_validation(exc)
        raise error(Problem.INVALID_LEVER, text, pointer) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise error(Problem.MALFORMED_BODY, f"not JSON: {exc}") from exc
