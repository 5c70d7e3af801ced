"""Keys, clients and addresses: what the settings may say of them."""

import pytest
import zmq
from click.testing import CliRunner

from signalyard.curve import key_pair, new_pair, read_key
from signalyard.problems import CallerError, Problem
from signalyard.wires.zeromq import ZeromqWire
from signalyard_router.adapters.zeromq.security import is_exposed, publisher, read_clients, read_security
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.sockets import bind
from signalyard_router.route_cli import route

LOOPBACK = "tcp://127.0.0.1:8092"
OPEN = "tcp://0.0.0.0:8092"


@pytest.fixture
def files(tmp_path):
    """A router's key, and its clients."""
    pair = new_pair()
    (tmp_path / "key").write_text(f"{pair.secret}\n")
    (tmp_path / "clients").write_text(f"# who may\n\nann {new_pair().public}\n")
    return {"key": tmp_path / "key", "clients": tmp_path / "clients"}


def refused(act, pointer, *words):
    with pytest.raises(CallerError) as caught:
        act()
    assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_SETTING, pointer)
    for word in words:
        assert word in caught.value.detail


@pytest.mark.parametrize(
    ("address", "exposed"),
    [
        (LOOPBACK, False),
        ("tcp://127.9.9.9:*", False),
        ("tcp://[::1]:8092", False),
        ("tcp://localhost:8092", False),
        ("ipc:///run/signalyard", False),
        (OPEN, True),
        ("tcp://*:8092", True),
        ("tcp://[::]:8092", True),
        ("tcp://eth0:8092", True),
        ("tcp://127.0.0.1.example.com:8092", True),
        ("nonsense", False),
    ],
)
def test_what_others_can_reach(address, exposed):
    assert is_exposed(address) is exposed


def test_what_is_no_address_is_told_what_one_is_like():
    with zmq.Context() as context:
        refused(
            lambda: bind(context.socket(zmq.ROUTER), "nonsense", 1, "/zeromq-requests"), "/zeromq-requests", "tcp://"
        )


@pytest.mark.parametrize("which", ["requests", "signals", "snapshots"])
def test_plain_text_leaves_the_machine_only_where_that_is_said(which):
    def said(address, **more):
        return ZeromqSettings(**{which: (address,) if which == "snapshots" else address}, **more)

    refused(lambda: read_security(said(OPEN)), f"/zeromq-{which}", OPEN, "--zeromq-plain")
    assert read_security(said(OPEN, plain=True)) is None
    assert read_security(said(LOOPBACK)) is None


def test_a_key_and_its_clients(files):
    security = read_security(ZeromqSettings(requests=OPEN, **files))
    assert list(security.clients.values()) == ["ann"]
    assert security.own.secret not in repr(security)
    only_taking = ZeromqSettings(snapshots=(f"{OPEN}#{security.own.public}",), key=files["key"])
    assert read_security(only_taking).clients == {}


def test_what_does_not_go_together_is_refused(files, tmp_path):
    (tmp_path / "nobody").write_text("# nobody yet\n")
    for settings, pointer in [
        (ZeromqSettings(requests=LOOPBACK, clients=files["clients"]), "/zeromq-key"),
        (ZeromqSettings(requests=LOOPBACK, key=files["key"]), "/zeromq-clients"),
        (ZeromqSettings(signals=LOOPBACK, key=files["key"], clients=tmp_path / "nobody"), "/zeromq-clients"),
        (ZeromqSettings(signals=LOOPBACK, key=files["key"], clients=tmp_path / "none"), "/zeromq-clients"),
        (ZeromqSettings(signals=LOOPBACK, key=tmp_path / "none", clients=files["clients"]), "/zeromq-key"),
        (ZeromqSettings(signals=LOOPBACK, key=files["clients"], clients=files["clients"]), "/zeromq-key"),
    ]:
        refused(lambda settings=settings: read_security(settings), pointer)


@pytest.mark.parametrize("line", ["ann", "ann short", "KEY", "ann KEY more", "ann " + "~" * 40])
def test_a_line_that_names_no_client_is_told_by_its_number(line):
    text = f"# clients\n{line}\n".replace("KEY", new_pair().public)
    refused(lambda: read_clients(text), "/zeromq-clients", "line 2", "NAME PUBLIC-KEY")


def test_a_publisher_has_its_key_behind_its_address(files):
    security = read_security(ZeromqSettings(requests=OPEN, **files))
    key = new_pair().public
    assert publisher(f"{OPEN}#{key}", security) == (OPEN, key.encode())
    assert publisher(LOOPBACK, None) == (LOOPBACK, None)
    refused(lambda: publisher(OPEN, security), "/zeromq-snapshots", f"{OPEN}#PUBLIC-KEY")
    refused(lambda: publisher(f"{OPEN}#short", security), "/zeromq-snapshots", "40")
    refused(lambda: publisher(f"{OPEN}#{key}", None), "/zeromq-key")


def test_a_secret_key_is_not_shown():
    with pytest.raises(ValueError, match="has 40 characters") as caught:
        key_pair("not a key at all")
    assert "not a key" not in str(caught.value)


def test_the_command_makes_a_key_for_nobody_elses_eyes(tmp_path):
    out = tmp_path / "ann.key"
    made = CliRunner().invoke(route, ["curve-key", "ann", "--out", str(out)])
    assert made.exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    pair = read_key(out, "/key")
    line = made.output.splitlines()[1].partition(":  ")[2]
    assert read_clients(line) == {pair.public.encode(): "ann"}
    assert pair.secret not in made.output
    again = CliRunner().invoke(route, ["curve-key", "ann", "--out", str(out)])
    assert again.exit_code != 0
    assert read_key(out, "/key") == pair


def test_a_client_needs_both_keys():
    refused(lambda: ZeromqWire(LOOPBACK, router_key=new_pair().public), "/router_key", "go together")
    refused(lambda: ZeromqWire(LOOPBACK, router_key="short", key=new_pair()), "/router_key", "40")
