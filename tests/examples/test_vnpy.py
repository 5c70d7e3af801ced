"""The vn.py app in the real vn.py, against a server that speaks as the router does."""

import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from vnpy.event import EventEngine
from vnpy.trader.engine import MainEngine

from signalyard import Client, Direction, Opinion, Signal, StateAnswer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from vnpy_signals import APP_NAME, EVENT_SIGNAL, SignalyardApp


def signal(seq, symbol):
    now = time.time_ns()
    return Signal(
        symbol=symbol,
        signal=Direction.LONG,
        score=0.8,
        timestamp=now // 10**9,
        signal_id=f"s-{symbol}-{seq}",
        epoch=1,
        seq=seq,
        prev_seq=seq - 1,
        ts_event=now,
        ts_init=now,
        ts_expire=now + 60 * 10**9,
        route="r",
        revision="1",
        model="m",
    )


class Router(BaseHTTPRequestHandler):
    """One opinion in the state, two signals on the stream."""

    protocol_version = "HTTP/1.1"
    ended = threading.Event()

    def do_GET(self):
        if self.path.startswith("/v1/state"):
            last = signal(6, "ag2412.SHFE")
            opinion = {name: getattr(last, name) for name in Opinion.__struct_fields__ if name != "live"}
            body = msgspec.json.encode(StateAnswer(now=1, epoch=1, opinions=[Opinion(**opinion, live=True)]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for one in (signal(1, "rb2410.SHFE"), signal(7, "ag2412.SHFE")):
            self.wfile.write(b"id: %b\ndata: %b\n\n" % (one.signal_id.encode(), msgspec.json.encode(one)))
        self.wfile.flush()
        self.ended.wait(30)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Router.ended.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Router) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Router.ended.set()
        server.shutdown()
        serving.join()


def test_signals_reach_the_event_engine(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events, of_one = queue.Queue(), queue.Queue()
    event_engine = EventEngine()
    event_engine.register(EVENT_SIGNAL, events.put)
    event_engine.register(EVENT_SIGNAL + "ag2412.SHFE", of_one.put)
    main_engine = MainEngine(event_engine)
    engine = main_engine.add_app(SignalyardApp)
    assert main_engine.get_engine(APP_NAME) is engine
    engine.start(Client(url))
    found = [events.get(timeout=30).data for _ in range(3)]
    assert [(type(one).__name__, one.symbol, one.seq) for one in found] == [
        ("Opinion", "ag2412.SHFE", 6),
        ("Signal", "rb2410.SHFE", 1),
        ("Signal", "ag2412.SHFE", 7),
    ]
    assert [of_one.get(timeout=30).data.seq for _ in range(2)] == [6, 7]
    main_engine.close()
    assert not any(thread.name in (APP_NAME, "signalyard-client") for thread in threading.enumerate())
