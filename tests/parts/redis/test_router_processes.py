"""Two routers as their users start them, on one Redis."""

import signal
import time

import pytest
from tests.parts.router.conftest import NAME, PATIENCE, ROUTE, Models, RouterProcess

pytestmark = pytest.mark.parts

WINDOW = "  dedupe: {window: 1s}\n"


@pytest.fixture
def models():
    with Models() as running:
        yield running


@pytest.fixture
def routers(tmp_path, models, redis_server):
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        shared = {"SIGNALYARD_JOURNAL_REDIS": redis_server.url, "SIGNALYARD_ARCHIVE": f"file://{tmp_path}/archive"}
        shared["SIGNALYARD_SEGMENT_BYTES"] = "8192"
        made.append(RouterProcess(folder, models.ports, SIGNALYARD_REPLICA=name, **shared))
        made[-1].write_route(text(models))
    for router in made:
        router.start()
    yield made
    for router in made:
        router.close()


def text(models, deadline="2s"):
    return ROUTE.format(deadline=deadline, stable=models.ports["7"], standby=models.ports["6"]) + WINDOW


def until(ask, holds):
    """The first answer that is as it should be."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = ask()
        if holds(answer):
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def emitted(decision):
    return decision["outcome"] == "emitted"


def test_two_routers_act_as_one(routers, models, redis_server):
    one, two = routers
    first = until(lambda: one.ask(0.9, "rb1.SHFE"), emitted)  # when what was held at the beginning is over
    epoch = first["signal"]["epoch"]
    long = one.ask(0.9)
    assert emitted(long)
    again = two.ask(0.9)
    assert (again["reason"], again["duplicate_of"]) == ("duplicate", long["signal"]["signal_id"])
    short = two.ask(0.1)
    assert (short["signal"]["seq"], short["signal"]["prev_seq"]) == (2, 1)
    states = [router.get("/v1/state")[1]["opinions"] for router in routers]
    assert [len(each) for each in states] == [2, 2]

    # A halt at one is a halt at the other, and so is its end.
    assert one.lever("halt", "--by", "me", "--why", "because").returncode == 0
    assert two.ask(0.9)["reason"] == "halted"
    (lever,) = two.get("/v1/status")[1]["levers"]
    assert two.lever("resume", lever["id"], "--by", "me", "--why", "over").returncode == 0
    assert emitted(one.ask(0.9))

    # A changed document is everybody's at once, whoever read it first.
    one.write_route(text(models, deadline="3s"))
    until(lambda: one.get("/v1/status")[1]["routes"][0], lambda route: route["generation"] == 2)
    until(lambda: two.get("/v1/status")[1]["routes"][0], lambda route: route["generation"] == 2)
    assert emitted(two.ask(0.1))
    two.write_route(text(models, deadline="3s"))

    # Killed and frozen replicas hold nobody up, and know what they missed before they decide.
    one.kill()
    two.process.send_signal(signal.SIGSTOP)
    one.start()
    said = one.ask(0.9)
    assert emitted(said)
    two.process.send_signal(signal.SIGCONT)
    assert two.ask(0.95)["duplicate_of"] == said["signal"]["signal_id"]

    # Without Redis nothing leaves; with it again nothing is repeated, and the epoch is another one.
    redis_server.kill()
    for router in routers:
        away = until(lambda router=router: router.ask(0.1), lambda decision: decision["outcome"] != "unknown")
        assert (away["outcome"], away["reason"]) == ("suppressed", "journal_unavailable")
        assert away["elapsed_us"] < 3_000_000
        assert router.get("/readyz")[0] == 503
    redis_server.start()
    for router in routers:
        until(lambda router=router: router.get("/readyz")[0], lambda status: status == 200)
    assert one.ask(0.1, "rb2.SHFE")["reason"] == "journal_recovering"
    back = until(lambda: two.ask(0.1, "rb3.SHFE"), emitted)
    assert back["signal"]["epoch"] > epoch

    left = [record["signal_id"] for record in one.records() if record["outcome"] == "emitted"]
    assert len(left) == len(set(left))
    for router in routers:
        assert router.terminate() == 0
        verified = router.run("journal", "verify", "--journal", str(router.journal))
        assert verified.returncode == 0, verified.stderr
        assert {record["replica"] for record in router.records()} == {"one", "two"}
    assert NAME in {record["symbol"] for record in two.records()}

    # What is complete is in the archive, each replica's in a folder of its own: their segments have the same names.
    archive = one.folder.parent / "archive"
    assert {path.relative_to(archive).parts[0] for path in archive.rglob("journal-*")} == {"one", "two"}
