"""Networks that go wrong between the router and a model server: the standby answers, and nobody gets another's score."""

import random
import socket

import pytest


def served_by(router, load, start):
    """The versions that answered, from the journal; every score is the input's own."""
    records = [r for r in router.records()[start:] if r.get("version")]
    for record in records:
        assert record["score"] == record["input"]["values"][0]
    return {record["version"] for record in records}


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        ("deaf", {"model_timeout"}),
        ("vanish", {"model_timeout"}),
        ("late", {"model_timeout"}),
        ("reset", {"model_unreachable"}),
        ("garbage", {"model_answer_malformed"}),
    ],
)
def test_the_standby_stands_in_and_the_way_back_is_free(proxied, tools, mode, result):
    router, proxy = proxied
    proxy.late = 0.4
    with tools.Load(f"http://127.0.0.1:{router.port}", strategies=2) as load:
        load.more(20)
        proxy.mode = mode
        tools.until(lambda: len([r for r in router.records()[-4:] if r.get("version") == "6"]) == 4)
        start = len(router.records())
        load.more(10)
        proxy.mode = "forward"
        assert served_by(router, load, start) <= {"6", "7"}
        tools.until(lambda: {r.get("version") for r in router.records()[-4:]} == {"7"})
    records = router.records()
    served_by(router, load, 0)
    met = {step["result"] for r in records for step in r["steps"] if step["rung"] == "stable"} - {"answered"}
    # a connection that dies with the proxy's change of mode may be told apart from the mode itself
    assert result <= met <= result | {"model_timeout", "model_unreachable"}
    assert not [d for _, d in load.decisions if d.reason == "no_answer"]
    assert not load.failures
    tools.check_record(router, load)


def test_a_peer_whose_backlog_is_full(proxied, tools):
    """SYNs that nobody answers: what a machine looks like that is gone, or a server that accepts no more."""
    router, proxy = proxied
    proxy.call(proxy.unlisten())
    with socket.socket() as full:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", proxy.port))
        full.listen(0)
        held = []
        for _ in range(8):
            probe = socket.socket()
            probe.setblocking(False)
            probe.connect_ex(("127.0.0.1", proxy.port))
            held.append(probe)
        with tools.Load(f"http://127.0.0.1:{router.port}", strategies=2) as load:
            load.more(10)
        for probe in held:
            probe.close()
    results = [step["result"] for r in router.records()[1:] for step in r["steps"] if step["rung"] == "stable"]
    assert results[0] == "model_timeout"
    assert set(results) <= {"model_timeout", "model_unreachable"}  # the latter once the breaker is open
    assert {d.signal.version for _, d in load.decisions if d.signal} == {"6"}
    assert not load.failures
    proxy.call(proxy.listen_again())
    tools.until(lambda: router.ask(0.5) and router.records()[-1].get("version") == "7")
    tools.check_record(router, load)


def test_whatever_a_model_server_sends(proxied, tools):
    """Bytes made of the pieces of HTTP and of answers; the router takes none of them for an answer, and stays up."""
    router, proxy = proxied
    dice = random.Random(7)
    pieces = [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/9.9 999 X\r\n", b"\r\n", b"\r\n\r\n", b"\x00\xff"),
        *(b"content-length: 10\r\n", b"content-length: -1\r\n", b"content-length: 99999999999999999999\r\n", b"upgrade: h2c\r\n"),
        *(b"transfer-encoding: chunked\r\n", b"ffffffffffffffff\r\n", b"0\r\n\r\n", b"connection: upgrade\r\n", b'{"id": "x"}'),
        *(b'{"model_name": "rb-trend", "outputs": []}', b"[" * 3000, b"x" * 40_000, b"5\r\nabcde\r\n"),
    ]  # fmt: skip
    proxy.blobs = (b"".join(dice.choices(pieces, k=dice.randint(1, 6))) for _ in iter(int, 1))
    asked = 120
    for number in range(3 * asked):
        # two good answers for each bad one, or the endpoint's breaker would keep the next bytes from coming
        proxy.mode, version = ("forward", "7") if number % 3 else ("garbage", "6")
        status, decision = router.post(router.snapshot(0.9, f"rb{number}.SHFE"))
        assert status == 200
        assert decision["signal"]["version"] == version
    assert proxy.met["garbage"] >= asked
    results = {step["result"] for r in router.records() for step in r["steps"] if step["rung"] == "stable"}
    assert results - {"answered"} <= {
        "model_answer_malformed",
        "model_unreachable",
        "model_failed",
        "model_answer_wrong_id",
        "model_timeout",
    }
    assert "Traceback" not in router.said()
    router.ask(0.9)
    assert router.records()[-1]["version"] == "7"
