"""A history, read: what was asked and answered at the router's sockets, what it asked of models, what its journal says."""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field

import msgspec

from simulated.history import Event, History, Json

_decode = msgspec.json.decode


@dataclass
class Exchange:
    """A question and its answer. ``ended`` is what ended the connection before an answer: eof, reset, lost, crash."""

    asked: Event
    path: str
    rows: list[Json]
    alone: bool = False
    budget: int | None = None
    answered: Event | None = None
    status: int = 0
    decisions: list[Json] = field(default_factory=list)
    body: Json = field(default_factory=dict)
    ended: Event | None = None


@dataclass
class Call:
    """A scoring request on its way to a model server; ``doubtful`` where the one before it on the connection had no answer."""

    sent: Event
    version: str
    budget: int
    tags: tuple[float, ...]
    doubtful: bool


@dataclass
class Line:
    """A line of the journal. ``written`` and ``synced``: when the operating system and the medium had it."""

    record: Json
    place: str
    written: Event
    synced: Event | None


class _Stream:
    """One direction of an HTTP connection, cut into messages that have a content-length."""

    def __init__(self) -> None:
        self.buffer = b""

    def feed(self, data: bytes) -> list[tuple[list[bytes], bytes]]:
        """The messages that are complete now: lines of the head, and body."""
        self.buffer += data
        messages = []
        while True:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return messages
            lines = head.split(b"\r\n")
            length = next((int(line[15:]) for line in lines[1:] if line[:15].lower() == b"content-length:"), 0)
            if len(rest) < length:
                return messages
            self.buffer = rest[length:]
            messages.append((lines, rest[:length]))


class _Served:
    """A connection that the router accepted."""

    def __init__(self) -> None:
        self.inward, self.outward = _Stream(), _Stream()
        self.open: list[Exchange] = []


class _Called:
    """A connection that the router opened."""

    def __init__(self) -> None:
        self.outward = _Stream()
        self.came = b""
        self.asked = 0


def exchanges_of(history: History) -> tuple[list[Exchange], list[Call], list[str]]:
    """All questions, all calls to models, and what is wrong with the form of answers."""
    exchanges: list[Exchange] = []
    calls: list[Call] = []
    wrong: list[str] = []
    served: dict[int, _Served] = {}
    called: dict[int, _Called] = {}
    inside: dict[int, Exchange] = {}
    for event in history.events:
        kind, number = event.kind, event.number
        if kind == "crash":
            for connection in served.values():
                for exchange in connection.open:
                    exchange.ended = event
                connection.open.clear()
            for exchange in inside.values():
                exchange.ended = event
            inside.clear()
        elif kind == "ask":
            made = Exchange(event, "/v1/predict", _decode(event.data), budget=event.size or None)
            inside[number] = made
            exchanges.append(made)
        elif kind in ("told", "refused"):
            exchange = inside.pop(number)
            exchange.answered = event
            exchange.status = 200 if kind == "told" else 503
            exchange.decisions = _decode(event.data) if kind == "told" else []
            exchange.body = {"code": event.who}
        elif kind == "state":
            made = Exchange(event, "/v1/state", [], answered=event, status=200, body=_decode(event.data))
            exchanges.append(made)
        elif number > 0:
            connection = served.setdefault(number, _Served())
            if kind == "in":
                for head, body in connection.inward.feed(event.data):
                    made = _question(event, head, body)
                    connection.open.append(made)
                    exchanges.append(made)
            elif kind == "out":
                for head, body in connection.outward.feed(event.data):
                    if not connection.open:
                        if connection.inward.buffer and head[0].startswith(b"HTTP/1.1 408 "):
                            continue  # half a question, in time that is not the question's
                        wrong.append(f"an answer that nobody asked for, on connection {number}")
                        continue
                    _answer(connection.open.pop(0), event, head, body)
                if connection.outward.buffer:
                    wrong.append(f"an answer in several writes, on connection {number}")
            elif kind in ("eof", "reset", "lost"):
                for exchange in connection.open:
                    exchange.ended = exchange.ended or event
        elif number < 0:
            way = called.setdefault(number, _Called())
            if kind == "in":
                way.came += event.data
            elif kind == "out":
                for head, body in way.outward.feed(event.data):
                    call = _call(event, head, body, doubtful=way.asked > 0 and not _whole(way.came))
                    way.asked += 1
                    way.came = b""
                    if call is not None:
                        calls.append(call)
    return exchanges, calls, wrong


def _question(event: Event, head: list[bytes], body: bytes) -> Exchange:
    path = head[0].split(b" ")[1].decode()
    exchange = Exchange(event, path, [])
    for line in head[1:]:
        if line.startswith(b"signalyard-budget-us:"):
            exchange.budget = int(line[21:]) * 1000
    if path == "/v1/predict":
        content = _decode(body)
        if isinstance(content, list):
            exchange.rows = content
        elif "rows" in content:
            common = {name: content[name] for name in ("route", "consumer") if name in content}
            exchange.rows = [
                {"symbol": row[0], "ts_event": row[1], "sequence": row[3]}
                | {"features": dict(zip(content["columns"], row[2], strict=True))}
                | common
                for row in content["rows"]
            ]
        else:
            exchange.rows, exchange.alone = [content], True
    return exchange


def _answer(exchange: Exchange, event: Event, head: list[bytes], body: bytes) -> None:
    exchange.answered = event
    exchange.status = int(head[0].split(b" ")[1])
    content = _decode(body)
    if exchange.path != "/v1/predict":
        exchange.body = content
    elif isinstance(content, list):
        exchange.decisions = content
    elif content.get("outcome") == "rejected":
        exchange.decisions = [content | {"problem": content}]
    elif exchange.status == 200:
        exchange.decisions = [content]
    else:
        exchange.body = content


def _call(event: Event, head: list[bytes], body: bytes, *, doubtful: bool) -> Call | None:
    path = head[0].split(b" ")[1].decode().split("/")
    if path[-1] != "infer":
        return None
    budget = next(int(line[21:]) for line in head if line.startswith(b"signalyard-budget-us:"))
    tensor = _decode(body)["inputs"][0]
    width = tensor["shape"][1]
    return Call(event, path[-2], budget, tuple(tensor["data"][1::width]), doubtful)


def _whole(came: bytes) -> bool:
    head, end, rest = came.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, end, rest = rest.partition(b"\r\n\r\n")
    if not end or not head.startswith(b"HTTP/1.1 "):
        return False
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
    if length is None:
        return rest.endswith(b"0\r\n\r\n")
    return len(rest) == length


def segments_of(history: History) -> dict[str, bytes]:
    """Every segment of the journal by its path, in order: those of the end, and those that were removed as they were then."""
    found = {path: content for path, content in history.files.items() if "/journal-" in path}
    if any(event.kind == "remove" for event in history.events):
        contents: dict[str, bytearray] = {}
        for event in history.events:
            if event.kind == "write":
                contents.setdefault(event.who, bytearray()).extend(event.data)
            elif event.kind == "cut":
                del contents.setdefault(event.who, bytearray())[event.size :]
            elif event.kind == "remove" and "/journal-" in event.who:
                found[event.who] = bytes(contents[event.who])
    return dict(sorted(found.items()))


def lines_of(history: History) -> tuple[list[Line], list[str]]:
    """The whole journal, with what was dropped since, and what is wrong with its chain."""
    chunks = _chunks(history)
    lines: list[Line] = []
    wrong: list[str] = []
    prev, seq = "0" * 64, 0
    for path, content in segments_of(history).items():
        start = 0
        starts = [chunk[0] for chunk in chunks.get(path, [])]
        for raw in content.split(b"\n"):
            end = start + len(raw) + 1
            if end > len(content):
                if raw:
                    wrong.append(f"chain: {path} ends in the middle of a line")
                break
            try:
                record = _decode(raw)
            except msgspec.DecodeError:
                wrong.append(f"chain: {path} at {start} is no JSON")
                return lines, wrong
            if record["prev"] != prev or record["seq"] != seq + 1:
                wrong.append(f"chain: {path} at {start}: seq {record['seq']} does not follow {seq}")
            prev, seq = hashlib.sha256(raw).hexdigest(), record["seq"]
            chunk = chunks[path][bisect_right(starts, start) - 1]
            lines.append(Line(record, f"record {seq}", chunk[2], chunk[3]))
            start = end
    return lines, wrong


_Chunk = tuple[int, int, Event, Event | None]


def _chunks(history: History) -> dict[str, list[_Chunk]]:
    """What each write left in a file, with the events that wrote and synced it."""
    chunks: dict[str, list[_Chunk]] = {}
    for event in history.events:
        if event.kind == "write":
            if event.data:
                chunks.setdefault(event.who, []).append((event.size - len(event.data), event.size, event, None))
        elif event.kind == "sync":
            known = chunks.get(event.who, [])
            for index in range(len(known) - 1, -1, -1):
                start, end, written, synced = known[index]
                if synced is not None:
                    break
                if end <= event.size:
                    known[index] = (start, end, written, event)
        elif event.kind == "cut":
            known = chunks.get(event.who, [])
            while known and known[-1][1] > event.size:
                start, end, written, synced = known.pop()
                if start < event.size:
                    known.append((start, event.size, written, synced))
                    break
    return chunks
