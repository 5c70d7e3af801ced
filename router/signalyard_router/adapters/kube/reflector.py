"""A copy of one resource of one namespace that follows the API server: list, then bookmark, then watch; 410 means list again.

While the API server is away, the copy stays as it was.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from signalyard_router.adapters.kube.api import Api
from signalyard_router.adapters.kube.errors import ApiError, GarbledError, StatusError
from signalyard_router.adapters.kube.metrics import ReflectorMetrics
from signalyard_router.adapters.kube.objects import Meta
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.ports import World

_log = logging.getLogger("signalyard.router.kube")

_GONE = 410


class _HasMeta(Protocol):
    @property
    def metadata(self) -> Meta: ...


Kept = TypeVar("Kept", bound=_HasMeta)


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, Generic[Kept], frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: list[Kept] | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Mark(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()


class _Failure(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _GoneError(ApiError):
    """What the copy went on from is no longer known to the API server."""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_event_decoder = msgspec.json.Decoder(_Event)
_mark_decoder = msgspec.json.Decoder(_Mark)
_failure_decoder = msgspec.json.Decoder(_Failure)


class Resource(msgspec.Struct, frozen=True):
    """Where a resource of a namespace is: the group's path such as ``/apis/signalyard.io/v1alpha1``, and its plural."""

    group: str
    plural: str
    namespace: str

    @property
    def path(self) -> str:
        """The path of the collection."""
        return f"{self.group}/namespaces/{self.namespace}/{self.plural}"


class Reflector(Generic[Kept]):
    """``objects`` is the copy, by name; ``listed`` is set once it was whole,
    ``answered`` once it was, or was said not to exist. ``problem`` says what is in its way, "" while it follows.

    ``absent`` while the API server knows no such resource, so that there can be no object of it. ``changed`` is told of each object that came, changed or went, with what it was before and what it is now.
    """

    def __init__(
        self,
        world: World,
        api: Api,
        resource: Resource,
        kind: type[Kept],
        settings: KubeSettings,
        metrics: ReflectorMetrics,
        changed: Callable[[Kept | None, Kept | None], None],
    ) -> None:
        self._random = world.random_bytes
        self._api = api
        self._settings = settings
        self._metrics = metrics
        self._changed = changed
        self._page: msgspec.json.Decoder[_Page[Kept]] = msgspec.json.Decoder(_Page[kind])  # type: ignore[valid-type]
        self._one = msgspec.json.Decoder(kind)
        self._version: str | None = None
        self._failures = 0
        self.resource = resource
        self.objects: dict[str, Kept] = {}
        self.listed = asyncio.Event()
        self.problem = "it has not been listed yet"
        self.absent = False
        self.answered = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            failure: ApiError | None = None
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except _GoneError:
                self._version = None
            except ApiError as exc:
                failure = exc
                # A line that cannot be read leaves a doubt about all that came before it.
                if isinstance(exc, GarbledError):
                    self._version = None
                self._failed(exc)
            # What ends or fails at once, again and again, must not become a storm of requests.
            ran = loop.time() - began
            self._failures = 0 if ran >= self._settings.backoff_max_seconds else self._failures + 1
            pause = self._backoff(failure)
            await asyncio.sleep(pause if failure is not None else max(0.0, pause - ran))

    async def _list(self) -> None:
        """Read the whole collection, page by page, and put it in the place of the copy."""
        query = {"limit": str(self._settings.page)}
        found: dict[str, Kept] = {}
        while True:
            try:
                body = await self._api.call("GET", self.resource.path, query)
            except StatusError as exc:
                if exc.status == _GONE:  # the list took longer than the API server remembers
                    raise GarbledError("the list expired while it was read") from exc
                raise
            try:
                page = self._page.decode(body)
            except _UNREADABLE as exc:
                raise GarbledError(f"the list cannot be read: {exc}") from exc
            for item in page.items or ():
                found[item.metadata.name] = item
            if not page.metadata.continue_:
                break
            query = {**query, "continue": page.metadata.continue_}
        if not page.metadata.resource_version:
            raise GarbledError("the list has no resource version")
        self._version = page.metadata.resource_version
        before, self.objects = self.objects, found
        for name, item in found.items():
            old = before.pop(name, None)
            if old is None or old.metadata.resource_version != item.metadata.resource_version:
                self._changed(old, item)
        for item in before.values():
            self._changed(item, None)
        self.listed.set()
        self._metrics.lists.inc()
        self._good()

    async def _watch(self) -> None:
        """Follow the collection from where the copy stands, until the API server ends the watch."""
        seconds = max(1, int(self._settings.watch_seconds))
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(seconds),
        }
        try:
            async for line in self._api.watch(self.resource.path, query):
                if line.strip():
                    self._take(line)
                    self._good()
        except StatusError as exc:
            if exc.status == _GONE:
                raise _GoneError(str(exc)) from exc
            raise
        self._good()

    def _take(self, line: bytes) -> None:
        try:
            event = _event_decoder.decode(line)
            match event.type:
                case "BOOKMARK":
                    self._version = _mark_decoder.decode(event.object).metadata.resource_version or self._version
                    return
                case "ERROR":
                    failure = _failure_decoder.decode(event.object)
                    if failure.code == _GONE:
                        raise _GoneError(failure.message)
                    raise StatusError(failure.code, failure.message)
                case "ADDED" | "MODIFIED" | "DELETED":
                    item = self._one.decode(event.object)
                case _:
                    raise GarbledError(f"an event of the type {event.type[:20]!r}")
        except _UNREADABLE as exc:
            raise GarbledError(f"an event cannot be read: {exc}") from exc
        self._metrics.events.inc()
        name = item.metadata.name
        if event.type == "DELETED":
            old = self.objects.pop(name, None)
            if old is not None:
                self._changed(old, None)
        else:
            before = self.objects.get(name)
            self.objects[name] = item
            self._changed(before, item)
        self._version = item.metadata.resource_version or self._version

    def _good(self) -> None:
        self._metrics.objects.set(len(self.objects))
        self.absent = False
        self.answered.set()
        if self.problem:
            self.problem = ""
            self._metrics.current.set(1)
            _log.info("event=kube_following %s objects=%d", self._place(), len(self.objects))

    def _failed(self, exc: ApiError) -> None:
        self._metrics.failures.inc()
        self._metrics.current.set(0)
        text = str(exc)
        self.absent = isinstance(exc, StatusError) and exc.status == 404
        if self.absent:
            self.answered.set()
            text += "; is the CRD installed? signalyard crds | kubectl apply -f -"
        if text != self.problem:
            _log.warning("event=kube_away %s kept=last_known detail=%s", self._place(), json.dumps(text))
        self.problem = text

    def _backoff(self, exc: ApiError | None) -> float:
        settings = self._settings
        pause: float = min(settings.backoff_max_seconds, settings.backoff_seconds * 2.0 ** max(0, self._failures - 1))
        pause *= 0.5 + int.from_bytes(self._random(2)) / 131_072
        if isinstance(exc, StatusError) and exc.retry_after is not None:
            pause = max(pause, min(exc.retry_after, 10 * settings.backoff_max_seconds))
        return pause

    def _place(self) -> str:
        return f"resource={self.resource.plural} namespace={self.resource.namespace}"
