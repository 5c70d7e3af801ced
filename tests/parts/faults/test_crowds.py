"""Thousands of connections that say nothing."""

import contextlib
import socket

ASKED = 5_000
EACH = 16 * 1024
"""Bytes of the router's memory that an idle connection may cost; measured are nine to ten thousand."""


def crowd(stack, port, count):
    """Connections that have asked something once, and keep quiet since."""
    for start in range(0, count, 100):
        size = min(100, count - start)
        batch = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(size)]
        for connection in batch:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        for connection in batch:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        yield from batch


def open_connections(router):
    text = router.get("/metrics")[1].decode()
    line = next(line for line in text.splitlines() if line.startswith("signalyard_http_connections "))
    return int(float(line.split()[1]))


def test_five_thousand_idle_connections(router, tools):
    with tools.many_files() as limit, contextlib.ExitStack() as stack:
        count = min(ASKED, limit - 500)  # both ends are on this machine, each in a process of its own
        router.start("--max-connections", str(count + 100), prefix=["prlimit", f"--nofile={limit}"])
        assert router.ask(0.9)["outcome"] == "emitted"
        before = tools.memory(router.process.pid)
        held = list(crowd(stack, router.port, count))
        assert len(held) == count
        assert count <= open_connections(router) <= count + 1
        grown = tools.memory(router.process.pid) - before
        assert grown < count * EACH, f"{grown / count:.0f} bytes a connection"
        for step in range(20):
            decision = router.ask(0.9 if step % 2 else 0.1, f"rb{step}.SHFE")
            assert decision["outcome"] == "emitted"
            assert decision["elapsed_us"] < 300_000
        # the last few that fit, and one too many: told so, and nobody else is worse off
        assert len(list(crowd(stack, router.port, 98))) == 98
        extra = [stack.enter_context(socket.create_connection(("127.0.0.1", router.port), 20)) for _ in range(5)]
        refused = [connection.recv(4096) for connection in extra[2:]]
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in refused), refused
        held[0].sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert held[0].recv(4096).startswith(b"HTTP/1.1 200 ")
    tools.until(lambda: open_connections(router) <= 2)
    assert router.ask(0.5)["outcome"] == "abstained"
    assert "Traceback" not in router.said()
