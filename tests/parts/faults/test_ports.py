"""Bytes of every kind sent to the router's two ports, in a process and on sockets; the decoders alone are fuzzed in tests/unit/fuzz."""

import contextlib
import json
import random
import re
import socket

PIECES = [
    *(b"POST /v1/predict HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"POST /admin/v1/pull HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"host: x\r\n", b"content-length: 5\r\n", b"content-length: 5, 5\r\n", b"transfer-encoding: chunked\r\n", b"\r\n", b"\r\n\r\n"),
    *(b"content-type: application/json\r\n", b"expect: 100-continue\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b": \r\n"),
    *(b"signalyard-budget-us: -1\r\n", b"5\r\nabcde\r\n", b"0\r\n\r\n", b"fffffffff\r\n", b"\x00\xff\xfe", b"\x16\x03\x01\x02\x00\x01"),
    *(b"[" * 2000, b"x" * 70_000, b'{"action": "halt", "why": "x", "by": "y", "symbol": "z"}', b"GET /%ff%00?a=%ff&a HTTP/1.1\r\n"),
]  # fmt: skip


def whole(path, tree, dice):
    """A sound request whose body has a few bytes changed."""
    body = bytearray(json.dumps(tree).encode())
    for _ in range(dice.randint(0, 3)):
        body[dice.randrange(len(body))] = dice.randrange(256)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + bytes(body)


def test_whatever_comes_to_a_port(router):
    router.start()
    dice = random.Random(11)
    statuses = set()
    for number in range(400):
        port = dice.choice((router.port, router.admin_port))
        good = [
            ("/v1/predict", router.snapshot(0.9)),
            ("/admin/v1/pull", {"action": "end", "why": "x", "by": "y", "lever": "l-9"}),
        ]
        mixed = b"".join(dice.choices(PIECES, k=dice.randint(1, 8)))
        data = whole(*dice.choice(good), dice) if number % 2 else mixed
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            answer = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while part := client.recv(65536):
                    answer += part
        assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:200]
        assert b"Traceback" not in answer
        statuses |= set(re.findall(rb"HTTP/1\.1 (\d{3}) ", answer))
    assert b"500" not in statuses
    assert {b"200", b"400", b"404", b"422"} <= statuses
    assert "Traceback" not in router.said()
    assert "internal_error" not in router.said()
    assert router.ask(0.1)["outcome"] == "emitted"
    assert router.terminate() == 0
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0
