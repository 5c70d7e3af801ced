"""Every decoder, fed with what nobody means to send: nothing but the documented errors comes out, and nothing is lost silently.

Inputs are good ones with some of their bytes or nodes changed, so that they get past the first check. In `make test` the rounds
are short and repeat exactly; `make test-faults` goes on for FUZZ_SECONDS with new ones.
"""

import asyncio
import copy
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from signalyard import _bodies, client, profile
from signalyard._server.connection import Connection as ServerConnection
from signalyard.problems import CATALOGUE, SignalyardError
from signalyard.profile import Feature, FeatureSchema, ModelCard, ScoredRows
from signalyard.wire import Snapshot
from signalyard_router.adapters.files.store import FileRouteStore
from signalyard_router.adapters.http.admin import AdminApp, Tokens, read_tokens
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.statuses import STATUSES
from signalyard_router.adapters.oip.connection import Connection
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.control.board import Board
from signalyard_router.control.documents import Documents
from signalyard_router.journal.checkpoint import Checkpoint
from signalyard_router.journal.checkpoint import encode as encode_checkpoint
from signalyard_router.journal.explain import explain
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.query import find, last, newest, route_in_force
from signalyard_router.journal.segments import GENESIS, Tail, encode, read
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.router import Router
from signalyard_router.rules.check import Checker
from signalyard_router.rules.documents import canonical, parse_document
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.levers import Order
from signalyard_router.rules.record import DecisionRecord, LeverRecord, Record, RouteRecord
from signalyard_router.rules.route import compile_route
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualWorld
from signalyard_router.world.real import RealDisk
from signalyard_runtimes.bundle import manifest

LONG = "FUZZ_SECONDS" in os.environ
SLOW = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.function_scoped_fixture,
    HealthCheck.large_base_example,
]


def fuzz(examples: int) -> Any:
    """So many examples; the same ones every time unless this is the long run."""
    return settings(
        max_examples=examples, deadline=None, derandomize=not LONG, database=None, suppress_health_check=SLOW
    )


# What parsers stumble over: half characters, numbers without a number, depth, line ends, names that mean something
NASTY = [
    *(b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\x00", b"\r", b"\n", b"\x0b", b"\xe2\x80\xa8", b'"', b"\\", b"{", b"}", b"[", b"]"),
    *(b"NaN", b"Infinity", b"-", b"1e999", b"1e-999", b"9" * 30, b"9" * 5000, b"0.1", b"-0", b"null", b"true", b"{}", b"[]"),
    *(b"[" * 5000, b'{"a":' * 5000, b": ", b", ", b"*a", b"&a ", b"!!int x", b"!!float x", b"!!map x", b"!!timestamp x"),
    *(b"!!binary x", b"!!bool x", b"!!set x", b"!!omap x", b"<<: ", b"2024-13-45", b"0b2", b"1:99:99", b".nan", b".inf", b"? "),
    *(b"\\U00110000", b"%", b"---\n", b"...", b"\t", b"#", b"@", b"`", b"|\n", b"=", b"0o9", b"0x", b"1_0", b"~"),
]  # fmt: skip
NODES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**40, 0.0, -0.0, 1e308, 1e-308, float("nan"), float("inf")),
    *("", " ", "x", "\n", "7\n", "100ms\n", "60/min\n", "\u2028", "\x00", "٣ms", "999999999h", "999999h", "long", "*", "rb.", ".", "sha256:", "../x", "/x"),
    *([], {}, [None], [[]], {"": None}, {"enter": None}, {"kind": "x"}, ["a", "a"], "x" * 1000, "signal", {"spec": []}),
]  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes, changed in up to four places."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        end = min(len(data), place + draw(st.sampled_from([0, 0, 1, 2, 8, 64])))
        match draw(st.sampled_from(["nasty", "nasty", "byte", "cut", "twice", "end"])):
            case "nasty":
                data[place:end] = draw(st.sampled_from(NASTY))
            case "byte":
                data[place:end] = draw(st.binary(max_size=3))
            case "cut":
                del data[place:end]
            case "twice":
                data[place:place] = data[place:end]
            case _:
                del data[place:]
    return bytes(data)


@st.composite
def rebuilt(draw: st.DrawFn, good: Any) -> Any:
    """A good tree with up to three of its nodes replaced, renamed, added or taken away."""
    tree = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["put", "put", "put", "drop", "add", "swap"])):
            case "put":
                holder[key] = copy.deepcopy(draw(st.sampled_from(NODES)))
            case "drop":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=3))] = copy.deepcopy(draw(st.sampled_from(NODES)))
            case "add":
                holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                other, name = draw(st.sampled_from(places))
                if name in other if isinstance(other, dict) else name < len(other):
                    holder[key] = copy.deepcopy(other[name])
    return tree


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def bodies(*goods: Any) -> st.SearchStrategy[bytes]:
    """JSON bodies: broken bytes, and sound JSON that says something else."""
    texts = [good if isinstance(good, bytes) else json.dumps(good).encode() for good in goods]
    trees = [rebuilt(json.loads(text)).map(lambda tree: json.dumps(tree).encode()) for text in texts]
    return st.one_of(*(mangled(text) for text in texts), *trees)


def documented(call: Callable[[], Any]) -> Any:
    """The call's answer, or None where it raised an error of ours, all of whose parts can be sent."""
    try:
        return call()
    except SignalyardError as exc:
        msgspec.json.encode(CATALOGUE[exc.problem] and exc.details)
        return None


# A router in this process, behind its own HTTP protocol

TS = 1_718_923_456_000_000_000
SCHEMA = FeatureSchema((Feature(name="p", minimum=0.0, maximum=1.0), Feature(name="x", missing="native")))
DOCUMENT = {
    "apiVersion": "signalyard.io/v1alpha1",
    "kind": "SignalRoute",
    "metadata": {"name": "rb-trend"},
    "spec": {
        "model": "rb-trend",
        "instruments": ["rb*.SHFE"],
        "deadline": "100ms",
        "tracks": [
            {"name": "stable", "version": "7", "weight": 90, "endpoint": {"service": "a", "port": 1}},
            {"name": "canary", "version": "8", "weight": 10, "endpoint": {"service": "a", "port": 2}},
            {"name": "standby", "version": "6", "endpoint": {"service": "a", "port": 3}},
        ],
        "pin": {"rb2410.SHFE": "canary"},
        "ladder": [{"standby": "6"}, {"flat": {"after": "30s", "instrumentsPerMinute": 5}}, {"skip": {}}],
        "mapping": {
            "long": {"enter": 0.6, "exit": 0.52},
            "short": {"enter": 0.4},
            "otherwise": "abstain",
            "position": {"scale": "linear", "max": 1.0},
        },
        "filters": {"directions": ["long", "short", "flat"], "minConfidence": 0.55},
        "dedupe": {"window": "5s"},
        "limits": {"signals": "60/min", "flips": "4/min"},
        "budget": {"commitReserve": 0.2, "commitReserveMax": "20ms", "rungShare": 0.6},
    },
}


class Wire(asyncio.Transport):
    """The router's end of a connection: what is written is kept, and nothing is sent by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)


class InProcess:
    """The real router, its two apps and its HTTP protocol, on a journal in a folder; model servers that always answer."""

    def __init__(self, folder: Path) -> None:
        self.world = ManualWorld()
        self.registry = CollectorRegistry()
        journal = LocalJournal(self.world, JournalSettings(folder=str(folder / "journal")), self.registry)
        self.journal = journal
        upstream = FakeUpstream(SCHEMA, lambda row: row["p"] or 0.0)
        routes = asyncio.run(journal.accept([(parse_document(DOCUMENT, "x"), "x")]))
        router = Router(self.world, RouterSettings(), routes, journal, upstream, self.registry)
        store = FileRouteStore(folder)
        board = Board(router, journal, upstream, Documents(store, journal, self.registry))
        self.app = App(router, self.world.clock, HttpSettings(), self.registry)
        self.admin = AdminApp(board, Tokens({}), CollectorRegistry())

    def say(self, app: Any, *pieces: bytes) -> bytes:
        """Send pieces to an app's server, let it work, and read all that it said."""

        async def talk() -> bytes:
            server = HttpServer(self.world, app, HttpSettings())
            connection, wire = ServerConnection(server._open), Wire()
            connection.connection_made(wire)
            for piece in pieces:
                if not wire.closed:
                    connection.data_received(piece)
                await asyncio.sleep(0)
            await server._open.answered()
            connection.connection_lost(None)
            return bytes(wire.sent)

        return asyncio.run(talk())


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = InProcess(tmp_path_factory.mktemp("fuzz"))
    yield running
    asyncio.run(running.journal.close())


STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
KNOWN = {b"%d" % status for status in {200, 100, 431, *STATUSES.values()}} - {b"500"}


def sound(said: bytes) -> None:
    """What came back is answers of ours, and none of them is a bug's."""
    assert not said or said.startswith(b"HTTP/1.1 "), said[:200]
    assert set(STATUS.findall(said)) <= KNOWN, said[:600]
    assert b"Traceback" not in said


def request(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"host: x", b"content-type: application/json", *headers]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


SNAPSHOT = {"symbol": "rb2410.SHFE", "ts_event": TS, "features": {"p": 0.7, "x": None}, "sequence": 1, "consumer": "c"}
COLUMNAR = {
    "columns": ["p", "x"],
    "rows": [["rb1.SHFE", TS, [0.7, None]], ["rb2.SHFE", TS, [0.3, 1], 4]],
    "route": None,
}


@fuzz(400)
@given(body=bodies(SNAPSHOT, [SNAPSHOT, {**SNAPSHOT, "route": "rb-trend"}], COLUMNAR))
def test_predict_bodies(inside: InProcess, body: bytes) -> None:
    said = inside.say(inside.app, request(b"/v1/predict", body))
    sound(said)
    assert len(STATUS.findall(said)) == 1


LEVERS = [
    {"action": "halt", "by": "ann", "why": "x", "route": "rb-trend", "symbol": "rb1.SHFE"},
    {"action": "pause", "by": "ann", "why": "x", "expires_in": "10m"},
    {"action": "weight", "by": "ann", "why": "x", "route": "rb-trend", "canary": 12.5, "expires_in": "10m"},
    {"action": "rollback", "by": "ann", "why": "x", "route": "rb-trend", "version": "6"},
    {"action": "resume", "by": "ann", "why": "x", "lever": "l-3"},
    {"action": "reset", "by": "ann", "why": "x", "route": "rb-trend", "latch": "flips", "symbol": "rb1.SHFE"},
]


@fuzz(300)
@given(body=bodies(*LEVERS))
def test_levers(inside: InProcess, body: bytes) -> None:
    said = inside.say(inside.admin, request(b"/admin/v1/pull", body))
    sound(said)
    assert len(STATUS.findall(said)) == 1


@fuzz(100)
@given(body=bodies({"symbol": "rb1.SHFE", "ts_event": TS, "signal": "long", "route": "rb-trend", "source": "desk"}))
def test_observations(inside: InProcess, body: bytes) -> None:
    said = inside.say(inside.app, request(b"/v1/observe", body))
    sound(said)
    assert len(STATUS.findall(said)) == 1


@fuzz(100)
@given(body=bodies({"route": "rb-trend", "version": "8", "by": "ann", "why": "x"}))
def test_promotions(inside: InProcess, body: bytes) -> None:
    sound(inside.say(inside.admin, request(b"/admin/v1/promote", body)))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


BODY = json.dumps(SNAPSHOT).encode()
CHUNKED = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    len(BODY),
    BODY,
)
REQUESTS = [
    request(b"/v1/predict", BODY, b"signalyard-budget-us: 50000"),
    CHUNKED,
    request(b"/v1/predict", BODY, b"expect: 100-continue") * 2,
    b"GET /v1/state?symbol=rb1.SHFE&route=rb-trend HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\n\r\n",
]


@fuzz(500)
@given(data=st.one_of(*map(mangled, REQUESTS)), cuts=st.lists(st.integers(0, 1000), max_size=4))
@example(data=b"POST /v1/predict HTTP/1.1\r\ncontent-length: -1\r\n\r\n", cuts=[])
@example(data=b"POST /v1/predict HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", cuts=[])
@example(data=b"POST /v1/predict HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", cuts=[])
@example(data=b"GET /\xff\xfe%ff?%00=%ff&\xff HTTP/1.1\r\n\r\n", cuts=[])
@example(data=b"CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03", cuts=[])
def test_http_framing(inside: InProcess, data: bytes, cuts: list[int]) -> None:
    sound(inside.say(inside.app, *pieces(data, cuts)))


HEADERS = [
    b"content-type: application/json",
    b"signalyard-budget-us: 1000",
    b"content-encoding: gzip",
    b"authorization: Bearer x",
]


@fuzz(200)
@given(header=st.one_of(*map(mangled, HEADERS)), path=st.sampled_from([b"/v1/predict", b"/admin/v1/pull"]))
def test_headers(inside: InProcess, header: bytes, path: bytes) -> None:
    app = inside.admin if b"admin" in path else inside.app
    sound(inside.say(app, request(path, BODY, header)))


# The model server's answers

CARD = ModelCard(model="rb-trend", version="7", digest="sha256:" + "7" * 64, calibrated=True, schema=SCHEMA)
SCORED = profile.encode_response(
    ScoredRows(model="rb-trend", version="7", digest="d", score=[0.7, None], confidence=[0.6, None], row_error=["", "bad"]), "r"
)  # fmt: skip


@fuzz(600)
@given(body=bodies(SCORED))
def test_answers_of_model_servers(body: bytes) -> None:
    scored = documented(lambda: profile.decode_response(body, request_id="r", model="rb-trend", version="7", rows=2))
    if scored is not None:
        for score, wrong in zip(scored.score, scored.row_error, strict=True):
            assert wrong or (type(score) is float and score - score == 0.0)
        msgspec.json.encode(scored)


@fuzz(600)
@given(body=bodies(msgspec.json.encode(profile.metadata(CARD, "testing"))))
def test_metadata_of_model_servers(body: bytes) -> None:
    card = documented(lambda: profile.decode_metadata(body, model="rb-trend", version="7"))
    if card is not None:
        documented(lambda: Checker(card.schema).vector(("p", "x"), [0.5, None]))


@fuzz(100)
@given(schema=rebuilt(json.loads(msgspec.json.encode(SCHEMA))))
def test_schemas_of_model_servers(schema: Any) -> None:
    answer = json.loads(msgspec.json.encode(profile.metadata(CARD, "testing")))
    answer["inputs"][0]["parameters"]["schema"] = json.dumps(schema)
    test_metadata_of_model_servers.hypothesis.inner_test(json.dumps(answer).encode())


def http(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"content-length: %d" % len(body), b"", body])


HALF = len(SCORED) // 2
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (SCORED[:HALF], SCORED[HALF:], b""))
ANSWERS = [
    http(SCORED, b"content-type: application/json", b"connection: keep-alive"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + http(SCORED),
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    http(SCORED, b"connection: close") * 2,
]


@fuzz(600)
@given(data=st.one_of(*map(mangled, ANSWERS)), cuts=st.lists(st.integers(0, 1000), max_size=4))
def test_http_framing_of_model_servers(data: bytes, cuts: list[int]) -> None:
    async def talk() -> None:
        ended: list[Connection] = []
        connection, wire = Connection(OipSettings(max_answer_bytes=4096, max_header_bytes=1024), ended.append), Wire()
        connection.connection_made(wire)
        waiter = connection.send(b"POST / HTTP/1.1\r\n\r\n", 10.0)
        for piece in pieces(data, cuts):
            connection.data_received(piece)
            assert connection.failure is None or connection.closed
        if not waiter.done():
            connection.connection_lost(None)
        assert waiter.done()
        if connection.failure is None:
            assert connection.status >= 200
            assert len(connection.take_body()) <= 4096
        connection.close()
        assert ended == [connection]

    asyncio.run(talk())


# The journal


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a segment that a router has written, with every kind of record in it."""
    folder = tmp_path_factory.mktemp("journal")
    running = InProcess(folder)

    def post(features: dict[str, Any], at: int) -> None:
        body = json.dumps({"symbol": "rb1.SHFE", "ts_event": at, "features": features}).encode()
        running.say(running.app, request(b"/v1/predict", body))

    for step, p in enumerate((0.9, 0.1, 0.1, 0.5, 7.0)):
        post({"p": p, "x": None}, TS + step)
    post({"q": 1}, TS + 9)
    asyncio.run(running.journal.pull(Order(action="halt", by="ann", why="x", route="rb-trend")))
    post({"p": 0.9}, TS + 10)
    asyncio.run(running.journal.close())
    return (folder / "journal" / "journal-00000001.jsonl").read_bytes()


def look_up(folder: str, records: list[Record]) -> None:
    """Every question that the commands ask of a journal."""
    disk = RealDisk()
    documented(lambda: last(disk, folder, 3))
    for name in ("s-0", "3", "5", *(record.proposal_id for record in records if isinstance(record, DecisionRecord))):
        documented(lambda name=name: find(disk, folder, name))
    documented(lambda: newest(disk, folder, "rb1.SHFE", TS))
    for record in records:
        if isinstance(record, DecisionRecord):
            documented(lambda record=record: list(explain(record, route_in_force(disk, folder, record))))


def reopen(folder: str) -> bool:
    """Whether a router would start on the journal."""

    def start() -> bool:
        opened = LocalJournal(ManualWorld(), JournalSettings(folder=folder), CollectorRegistry())
        try:
            opened.documents()
            opened.opinions()
        finally:
            asyncio.run(opened.close())
        return True

    return bool(documented(start))


@fuzz(200)
@given(data=st.data())
def test_journals_with_changed_bytes(journal: bytes, data: st.DataObject) -> None:
    changed = data.draw(mangled(journal))
    with tempfile.TemporaryDirectory() as folder:
        segment = Path(folder, "journal-00000001.jsonl")
        segment.write_bytes(changed)
        tail, records = Tail(), []

        def verify() -> bool:
            records.extend(line.record for line in read(RealDisk(), folder, tail))
            return True

        if documented(verify):
            # only an unfinished last line may be passed over, and by no more than itself
            assert tail.size + tail.torn == len(changed)
            assert b"\n" not in changed[tail.size :]
            # and no line but the newest is taken on trust: the chain holds all before it
            before = changed[: tail.size].split(b"\n")[:-2]
            assert journal.split(b"\n")[: len(before)] == before
        look_up(folder, records)
        if reopen(folder):
            assert segment.read_bytes().startswith(changed[: tail.size])


def chained(trees: list[Any]) -> bytes:
    """The trees as lines whose chain holds, whatever they say."""
    lines, digest = [], GENESIS
    for number, tree in enumerate(trees, start=1):
        if isinstance(tree, dict):
            tree = {**tree, "seq": number, "prev": digest}
        line = json.dumps(tree, separators=(",", ":")).encode()
        digest = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
    return b"".join(lines)


@fuzz(250)
@given(data=st.data())
def test_journals_whose_chain_holds_and_whose_records_do_not(journal: bytes, data: st.DataObject) -> None:
    trees = [json.loads(line) for line in journal.splitlines()]
    place = data.draw(st.integers(0, len(trees) - 1))
    trees[place] = data.draw(rebuilt(trees[place]))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "journal-00000001.jsonl").write_bytes(chained(trees))
        records: list[Record] = []
        documented(lambda: records.extend(line.record for line in read(RealDisk(), folder, Tail())))
        look_up(folder, records)
        reopen(folder)


@pytest.fixture(scope="module")
def checkpoint(journal: bytes) -> list[Any]:
    """The parts of a checkpoint at the end of the journal."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "journal-00000001.jsonl").write_bytes(journal)
        tail, gate = Tail(), Gate()
        for line in read(RealDisk(), folder, tail):
            match line.record:
                case DecisionRecord():
                    gate.apply(line.record)
                case RouteRecord():
                    gate.accept(line.record)
                case LeverRecord():
                    gate.pull(line.record)
        made = Checkpoint(
            segment=tail.segment, seq=tail.seq, digest=tail.digest, t=TS, epoch=1, clock="wall", state=gate.snapshot()
        )

        async def content() -> bytes:
            return b"".join([piece async for piece in encode_checkpoint(made)])

        return [json.loads(line) for line in asyncio.run(content()).splitlines()]


@fuzz(150)
@given(data=st.data())
def test_checkpoints_that_say_something_else(journal: bytes, checkpoint: list[Any], data: st.DataObject) -> None:
    """One whose own digest is right is trusted with the state, so what it says must at least be a state, or be passed over."""
    parts = data.draw(rebuilt(checkpoint[:-1]))
    content = b"".join(json.dumps(part, separators=(",", ":")).encode() + b"\n" for part in parts)
    end = json.dumps({"part": "end", "sha256": hashlib.sha256(content).hexdigest()}, separators=(",", ":")).encode()
    whole = data.draw(st.sampled_from([True, True, True, False])) and content + end + b"\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "journal-00000001.jsonl").write_bytes(journal)
        Path(folder, "checkpoint-00000001.jsonl").write_bytes(whole or data.draw(mangled(content + end + b"\n")))
        reopen(folder)


def test_an_honest_journal_is_read_whole(journal: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "journal-00000001.jsonl").write_bytes(journal)
        records = [line.record for line in read(RealDisk(), folder, Tail())]
        assert {type(record).__name__ for record in records} == {
            "StartRecord",
            "RouteRecord",
            "LeverRecord",
            "DecisionRecord",
        }
        assert any(isinstance(record, RouteRecord) for record in records)
        digest, whole = GENESIS, b""
        for record in records:
            line, digest = encode(msgspec.structs.replace(record, prev=""), digest)
            whole += line
        assert whole == journal
        assert reopen(folder)


# Files

FULL = copy.deepcopy(DOCUMENT)
FULL["spec"] |= {
    "mode": "paper",
    "onDrift": "standby",
    "plan": {
        "steps": [{"canary": 10, "hold": "1h"}, {"canary": 100}],
        "checks": {"decisions": 9, "errors": "1%", "latency": "9ms"},
    },
    "hedge": {"after": "p95"},
    "sessions": {
        "timezone": "Asia/Shanghai",
        "hours": ["09:00-10:15", "21:00-02:30"],
        "days": ["mon", "tue"],
        "holidays": ["2024-10-01"],
        "eve": "calendarDay",
    },
    "alerts": {"noSignal": "off", "minConfidence": 0.5, "surge": "300%", "drift": "off"},
    "shadow": {"deadline": "200ms", "queue": 10, "thresholds": {"disagreement": 0.05, "minimum": 10}},
}
FULL["spec"]["tracks"] += [
    {"name": "shadow", "version": "9", "mirror": 50, "endpoint": {"service": "a", "port": 4}},
    {"name": "standby", "version": "5", "endpoints": [{"service": "a", "port": 5}, {"service": "b", "port": 5}]},
]
TEXT, FULL_TEXT = (yaml.safe_dump(document, sort_keys=False).encode() for document in (DOCUMENT, FULL))


def test_the_document_that_is_changed_is_good() -> None:
    compile_route(parse_document(yaml.safe_load(FULL_TEXT), "x"))


@fuzz(300)
@given(
    data=st.one_of(
        mangled(TEXT),
        mangled(FULL_TEXT),
        rebuilt(FULL).map(lambda tree: yaml.safe_dump(tree).encode()),
        mangled(json.dumps(DOCUMENT).encode()),
        rebuilt(DOCUMENT).map(lambda tree: yaml.safe_dump(tree).encode()),
    )
)
@example(data=b"? [a, b]\n: c")
@example(data=b"!!map x")
@example(data=b"a: &a [*a]")
@example(data=b'"\\ud800"')
def test_route_documents(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.yaml").write_bytes(data)
        store = FileRouteStore(Path(folder))
        for document, place in documented(lambda: asyncio.run(store.load())) or []:
            route = compile_route(document, place=place)
            # what the journal keeps of it is the same document, also after a restart
            again = parse_document(msgspec.json.decode(canonical(document)), "the journal")
            assert compile_route(again).revision == route.revision
            assert compile_route(again) == msgspec.structs.replace(route)


MANIFEST = {
    "format": 1,
    "name": "rb-trend",
    "version": "7",
    "framework": "lightgbm",
    "schema": {"features": [{"name": "p", "minimum": 0.0, "maximum": 1.0}, {"name": "x", "missing": "native"}]},
    "preprocessing": [
        {"kind": "impute", "values": {"x": 0.0}},
        {"kind": "clip", "bounds": {"p": [0.0, 1.0]}},
        {"kind": "standardise", "moments": {"p": {"mean": 0.0, "scale": 1.0}}},
        {"kind": "bin", "edges": {"x": [0.0, 1.0]}},
    ],
    "output": {"kind": "probability", "neutral": 0.5},
    "calibration": {"method": "isotonic", "x": [0.0, 1.0], "y": [0.1, 0.9]},
    "training": {"rows": [1, 2], "by": {"who": "ann"}},
    "library": {"lightgbm": "4.6.0"},
    "artifact": "model.txt",
    "golden": {"file": "golden.json", "tolerance": {"absolute": 1e-9, "relative": 1e-6}},
    "files": {name: {"sha256": "0" * 64, "size": 1} for name in ("model.txt", "golden.json")},
    "digest": "sha256:" + "0" * 64,
}


@fuzz(400)
@given(body=bodies(MANIFEST))
def test_bundle_manifests(body: bytes) -> None:
    read_ = documented(lambda: manifest.decode(body))
    if read_ is not None:
        assert "\n" not in read_.name + read_.version
        msgspec.json.encode(read_)


@fuzz(150)
@given(body=bodies({"columns": ["p", "x"], "rows": [[0.1, None]], "score": [0.5], "confidence": [0.5]}))
def test_golden_rows(body: bytes) -> None:
    documented(lambda: manifest.convert(body, manifest.GoldenRows, "golden.json"))


TOKENS = f"# who may\n\nann sha256:{'a1' * 32}\nbob sha256:{'b2' * 32}\n".encode()


@fuzz(300)
@given(data=mangled(TOKENS))
def test_token_files(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # the caller's to refuse; tests of the process see to it
    tokens = documented(lambda: read_tokens(text))
    if tokens is not None:
        for digest in tokens._names:
            assert re.fullmatch("[0-9a-f]{64}", digest), "a digest that no token has would lock its owner out"


@fuzz(100)
@given(header=st.binary(max_size=80))
def test_authorization(header: bytes) -> None:
    assert read_tokens(TOKENS.decode()).name(header) is None


# The router's answers, as the client reads them

DECISION = json.loads(
    msgspec.json.encode(
        {"outcome": "emitted", "symbol": "rb1.SHFE", "ts_event": 1, "proposal_id": "p", "elapsed_us": 1, "route": "r", "signal": None}
    )
)  # fmt: skip
PROBLEM = {"type": "about:blank", "code": "overloaded", "title": "x", "status": 503, "detail": "d", "pointer": "/a"}


ASKED = [Snapshot(symbol="rb1.SHFE", ts_event=1, features={"p": 0.5})]


@fuzz(300)
@given(body=bodies(DECISION, [DECISION], PROBLEM), status=st.sampled_from([200, 404, 422, 503]))
def test_answers_to_the_client(body: bytes, status: int) -> None:
    if status == 200:
        documented(lambda: _bodies.read_decisions(ASKED, body))
    else:
        problem = client._problem(client._http.Answer(status, body))
        assert isinstance(problem, SignalyardError)
