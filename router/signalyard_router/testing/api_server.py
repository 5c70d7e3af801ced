"""A Kubernetes API server that can be told to misbehave, as far as the router uses one.

It keeps objects by collection, gives each change a resource version, and answers lists (in pages), watches (chunked lines of JSON, with
bookmarks), status patches and leases over HTTP/1.1 from inside the caller's event loop. It checks nothing that a schema would check.

    server = ApiServer()
    await server.start(world.network)
    server.put(SIGNALROUTES, "trading", "rb", spec={...})
    server.script.append(Trouble.TOO_MANY)      # the next request only
    server.compact()                            # watches from before this moment get 410
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httptools

from signalyard_router.ports import Listener, Network

SIGNALROUTES = "signalroutes"
SIGNALGROUPS = "signalgroups"
SERVICES = "services"
SLICES = "endpointslices"
PODS = "pods"
LEASES = "leases"

Object = dict[str, Any]


class Trouble(StrEnum):
    """How one request is treated."""

    TOO_MANY = "too_many"
    """429, with a header that says to wait a second."""
    FAIL = "fail"
    """500."""
    FORBIDDEN = "forbidden"
    """403."""
    UNKNOWN = "unknown"
    """404: no such resource."""
    GONE = "gone"
    """410 as the status."""
    GONE_EVENT = "gone_event"
    """A watch that begins well, and whose first event is an error of the code 410."""
    ERROR_EVENT = "error_event"
    """A watch whose first event is an error of the code 500."""
    GARBAGE = "garbage"
    """Bytes that are not HTTP."""
    NOT_JSON = "not_json"
    """200, and a body that is not JSON."""
    STRANGE = "strange"
    """A watch whose first event has a type that nobody knows."""
    HANG = "hang"
    """No answer."""
    CLOSE = "close"
    """The connection ends without an answer."""
    HALF_LINE = "half_line"
    """A watch whose connection ends in the middle of the first event."""


class Asked(dict[str, str]):
    """A request: ``method``, ``path``, ``body``, ``content_type``, ``authorization``, and its query's parameters beside them."""


class ApiServer:
    """``asked`` has every request in order, ``script`` what happens to the next ones, ``away`` refuses all connections.

    ``page_most`` bounds a page whatever the limit asked for. ``hold`` is asked of each request and may give a trouble of its own.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: deque[Trouble] = deque()
        self.hold: Callable[[Asked], Trouble | None] = lambda asked: None
        self.page_most = 500
        self.revision = 100
        self._floor = 0
        self._objects: dict[tuple[str, str], dict[str, Object]] = {}
        self._history: list[tuple[int, tuple[str, str], Object]] = []
        self._connections: dict[_Connection, None] = {}
        self._uids = 0
        self._network: Network | None = None
        self._listener: Listener | None = None
        self.host = "api"
        self.port = 6443

    async def start(self, network: Network, host: str = "api", port: int = 6443) -> None:
        """Listen there."""
        self._network = network
        self._listener = await network.listen(lambda: _Connection(self), host, port)
        self.host, self.port = host, self._listener.port

    def stop(self) -> None:
        """Listen no more, and end every connection."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.drop()

    async def restart(self) -> None:
        """Listen again."""
        assert self._network is not None, "it never listened"
        await self.start(self._network, self.host, self.port)

    def drop(self) -> None:
        """End every connection, watches included."""
        for connection in list(self._connections):
            connection.abort()

    # The objects -----------------------------------------------------------------------------------------------------

    def put(self, plural: str, namespace: str, name: str, **parts: Any) -> Object:
        """Create an object, or change parts of it; a changed ``spec`` gives it another generation."""
        collection = self._objects.setdefault((plural, namespace), {})
        old = collection.get(name)
        if old is None:
            self._uids += 1
            metadata = {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{self._uids:04}",
                "generation": 1,
                "creationTimestamp": f"2026-01-01T00:{self._uids // 60:02}:{self._uids % 60:02}Z",
            }
            item: Object = {"metadata": metadata}
        else:
            item = {**old, "metadata": dict(old["metadata"])}
            if "spec" in parts and parts["spec"] != old.get("spec"):
                item["metadata"]["generation"] += 1
        item["metadata"] |= parts.pop("metadata", {})
        item |= parts
        self._record("MODIFIED" if old is not None else "ADDED", plural, namespace, item)
        collection[name] = item
        return item

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object."""
        item = self._objects[plural, namespace].pop(name)
        self._record("DELETED", plural, namespace, {**item, "metadata": dict(item["metadata"])})

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """An object as it is."""
        return self._objects[plural, namespace][name]

    def bookmark(self) -> None:
        """Tell every watch how far it is."""
        for connection in self._connections:
            if connection.watching is not None:
                kind = {"metadata": {"resourceVersion": str(self.revision)}}
                connection.event({"type": "BOOKMARK", "object": kind})

    def compact(self) -> None:
        """Forget every change so far: who watches from an older version must list again."""
        self._floor = self.revision
        self._history.clear()

    def send(self, plural: str, data: bytes) -> None:
        """Send these bytes to every watch of a collection, as they are."""
        for connection in list(self._connections):
            if connection.watching is not None and connection.watching[0] == plural:
                connection.chunk(data)

    def _record(self, kind: str, plural: str, namespace: str, item: Object) -> None:
        self.revision += 1
        item["metadata"]["resourceVersion"] = str(self.revision)
        event = {"type": kind, "object": item}
        self._history.append((self.revision, (plural, namespace), event))
        for connection in list(self._connections):
            if connection.watching == (plural, namespace):
                connection.event(event)

    # The answers -----------------------------------------------------------------------------------------------------

    def answer(self, asked: Asked, connection: "_Connection") -> None:
        """Answer a request."""
        self.asked.append(asked)
        trouble = self.script.popleft() if self.script else self.hold(asked)
        if trouble is not None and self._troubled(trouble, asked, connection):
            return
        match asked["path"].strip("/").split("/"):
            case [*_, "namespaces", namespace, plural] if asked["method"] == "GET":
                if asked.get("watch"):
                    self._watch(plural, namespace, asked, connection)
                else:
                    self._list(plural, namespace, asked, connection)
            case [*_, "namespaces", namespace, plural] if asked["method"] == "POST":
                self._create(plural, namespace, asked, connection)
            case [*_, "namespaces", namespace, plural, name]:
                self._one(plural, namespace, name, asked, connection)
            case [*_, "namespaces", namespace, plural, name, "status"] if asked["method"] == "PATCH":
                self._patch_status(plural, namespace, name, asked, connection)
            case _:
                connection.refuse(404, "the server could not find the requested resource")

    def _troubled(self, trouble: Trouble, asked: Asked, connection: "_Connection") -> bool:
        match trouble:
            case Trouble.TOO_MANY:
                connection.refuse(429, "too many requests", "retry-after: 1\r\n")
            case Trouble.FAIL:
                connection.refuse(500, "etcdserver: leader changed")
            case Trouble.FORBIDDEN:
                connection.refuse(403, f"{asked['path']} is forbidden")
            case Trouble.UNKNOWN:
                connection.refuse(404, "the server could not find the requested resource")
            case Trouble.GONE:
                connection.refuse(410, "too old resource version")
            case Trouble.GARBAGE:
                connection.write(b"\x00\xff this is not HTTP\r\n\r\n")
            case Trouble.NOT_JSON:
                connection.respond(200, b'{"items": [')
            case Trouble.HANG:
                pass
            case Trouble.CLOSE:
                connection.abort()
            case Trouble.GONE_EVENT | Trouble.ERROR_EVENT | Trouble.STRANGE | Trouble.HALF_LINE:
                if not asked.get("watch"):
                    return False
                connection.begin(("", ""))
                if trouble is Trouble.HALF_LINE:
                    connection.chunk(b'{"type":"ADDED","object":{"meta')
                    connection.abort()
                elif trouble is Trouble.STRANGE:
                    connection.event({"type": "RENAMED", "object": {}})
                else:
                    code = 410 if trouble is Trouble.GONE_EVENT else 500
                    connection.event(
                        {"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "told so"}}
                    )
                    connection.finish()
        return True

    def _list(self, plural: str, namespace: str, asked: Asked, connection: "_Connection") -> None:
        items = list(self._objects.get((plural, namespace), {}).values())
        begin, version = 0, self.revision
        if asked.get("continue"):
            first, _, since = asked["continue"].partition(".")
            begin, version = int(first), int(since)
            if version < self._floor:
                connection.refuse(410, "the provided continue parameter is too old")
                return
        end = begin + min(int(asked.get("limit", "500")), self.page_most)
        metadata = {"resourceVersion": str(version)}
        if end < len(items):
            metadata["continue"] = f"{end}.{version}"
        connection.respond(200, json.dumps({"metadata": metadata, "items": items[begin:end]}).encode())

    def _watch(self, plural: str, namespace: str, asked: Asked, connection: "_Connection") -> None:
        since = int(asked["resourceVersion"])
        if since < self._floor:
            connection.refuse(410, "too old resource version")
            return
        connection.begin((plural, namespace))
        for version, where, event in list(self._history):
            if where == (plural, namespace) and version > since:
                connection.event(event)
        asyncio.get_running_loop().call_later(int(asked["timeoutSeconds"]), connection.finish)

    def _create(self, plural: str, namespace: str, asked: Asked, connection: "_Connection") -> None:
        body = json.loads(asked["body"])
        name = body["metadata"]["name"]
        if name in self._objects.get((plural, namespace), {}):
            connection.refuse(409, f"{plural} {name} already exists")
            return
        connection.respond(201, json.dumps(self.put(plural, namespace, name, spec=body["spec"])).encode())

    def _one(self, plural: str, namespace: str, name: str, asked: Asked, connection: "_Connection") -> None:
        item = self._objects.get((plural, namespace), {}).get(name)
        if item is None:
            connection.refuse(404, f"{plural} {name} not found")
        elif asked["method"] == "GET":
            connection.respond(200, json.dumps(item).encode())
        elif asked["method"] == "PUT":
            body = json.loads(asked["body"])
            if body["metadata"].get("resourceVersion") != item["metadata"]["resourceVersion"]:
                connection.refuse(409, "the object has been modified")
                return
            connection.respond(200, json.dumps(self.put(plural, namespace, name, spec=body["spec"])).encode())
        else:
            connection.refuse(405, "no")

    def _patch_status(self, plural: str, namespace: str, name: str, asked: Asked, connection: "_Connection") -> None:
        item = self._objects.get((plural, namespace), {}).get(name)
        body = json.loads(asked["body"])
        if item is None:
            connection.refuse(404, f"{plural} {name} not found")
        elif body["metadata"].get("uid") not in (None, item["metadata"]["uid"]):
            connection.refuse(409, "the UID in the precondition does not match")
        else:
            connection.respond(200, json.dumps(self.put(plural, namespace, name, status=body["status"])).encode())

    def opened(self, connection: "_Connection") -> None:
        """A connection came."""
        self._connections[connection] = None

    def ended(self, connection: "_Connection") -> None:
        """A connection went."""
        self._connections.pop(connection, None)


class _Connection(asyncio.Protocol):
    """One accepted connection. ``watching`` is the collection that it is told of."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = b""
        self.watching: tuple[str, str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is one
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.ended(self)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        url = urlsplit(self._url.decode())
        asked = Asked(
            parse_qsl(url.query),
            method=self._parser.get_method().decode(),
            path=url.path,
            body=self._body.decode(),
            content_type=self._headers.get("content-type", ""),
            authorization=self._headers.get("authorization", ""),
        )
        self._url, self._headers, self._body = b"", {}, b""
        self._server.answer(asked, self)

    def respond(self, status: int, body: bytes, more: str = "") -> None:
        """Send a whole answer."""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
        self.write(head.encode() + body)

    def refuse(self, status: int, message: str, more: str = "") -> None:
        """Send a refusal as API servers do."""
        self.respond(status, json.dumps({"kind": "Status", "code": status, "message": message}).encode(), more)

    def begin(self, collection: tuple[str, str]) -> None:
        """Begin the answer to a watch."""
        self.watching = collection
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")

    def event(self, event: Mapping[str, Any]) -> None:
        """Send an event as a line."""
        self.chunk(json.dumps(event).encode() + b"\n")

    def chunk(self, data: bytes) -> None:
        """Send a piece of the answer."""
        self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """End the answer to a watch as it should end."""
        if self.watching is not None:
            self.watching = None
            self.write(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        """Send, unless the connection is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
