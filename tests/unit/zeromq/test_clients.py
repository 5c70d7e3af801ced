"""Who may connect, while the file that says so changes."""

import logging
import os

import pytest
from prometheus_client import CollectorRegistry

from signalyard.curve import new_pair
from signalyard_router.adapters.zeromq.clients import Clients
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.security import known_clients
from signalyard_router.adapters.zeromq.settings import ZeromqSettings

ANN, BOB = (new_pair().public.encode() for _ in range(2))
ONLY_ANN, BOTH = f"ann {ANN.decode()}\n", f"ann {ANN.decode()}\nbob {BOB.decode()}\n"


class Stage:
    """The file, those that it lets in, and what was counted."""

    def __init__(self, folder):
        self.path = folder / "clients"
        self.write(ONLY_ANN)
        self.registry = CollectorRegistry()
        settings = ZeromqSettings(requests="tcp://127.0.0.1:*", clients=self.path)
        self.clients = Clients(settings, known_clients(settings), ZeromqMetrics(self.registry))
        self.clients.look()

    def write(self, text):
        """As a cluster does it: another file takes its place."""
        new = self.path.with_name("new")
        new.write_text(text)
        os.replace(new, self.path)

    def look(self, text=None):
        if text is not None:
            self.write(text)
        self.clients.look()
        return {self.clients.name(key) for key in (ANN, BOB)} - {None}

    def counted(self):
        def value(name, **labels):
            return self.registry.get_sample_value(f"signalyard_zeromq_clients_{name}", labels)

        loads = (value("loads_total", result=result) for result in ("accepted", "refused"))
        return (*loads, value("current"))


@pytest.fixture
def stage(tmp_path, caplog):
    caplog.set_level(logging.INFO, "signalyard.zeromq")
    return Stage(tmp_path)


def test_it_is_taken_when_it_changes_and_read_at_no_other_time(stage, caplog):
    assert stage.look() == {"ann"}
    assert stage.counted() == (1, 0, 1)
    assert caplog.messages == []
    assert stage.look(BOTH) == {"ann", "bob"}
    assert stage.look() == {"ann", "bob"}
    assert stage.counted() == (2, 0, 1)
    assert stage.look(ONLY_ANN) == {"ann"}
    assert caplog.messages == ["event=zeromq_clients_taken clients=2", "event=zeromq_clients_taken clients=1"]


def test_what_changed_between_the_start_and_the_first_look_is_taken(tmp_path):
    stage = Stage(tmp_path)
    late = Clients(ZeromqSettings(clients=stage.path), {}, ZeromqMetrics(CollectorRegistry()))
    late.look()
    assert late.name(ANN) == "ann"


@pytest.mark.parametrize(
    ("text", "word"),
    [("ann short\n", "line 1"), (f"{BOTH}bob\n", "line 3"), ("", "named there"), ("# nobody\n", "named there")],
    ids=["short", "half", "empty", "nobody"],
)
def test_a_bad_one_keeps_who_was_known_and_is_said_once(stage, caplog, text, word):
    assert stage.look(text) == {"ann"}
    assert stage.look() == {"ann"}
    assert stage.look(text) == {"ann"}  # written anew, as bad as before: counted, and no news
    assert stage.counted() == (1, 2, 0)
    (said,) = caplog.messages
    assert said.startswith("event=zeromq_clients_refused kept=last_good")
    assert word in said
    assert stage.look(BOTH) == {"ann", "bob"}
    assert stage.counted() == (2, 2, 1)
    assert caplog.messages[1:] == ["event=zeromq_clients_taken clients=2"]


def test_one_that_is_gone_or_no_text_is_a_bad_one(stage, caplog):
    stage.path.unlink()
    assert stage.look() == {"ann"}
    assert stage.look() == {"ann"}
    stage.path.write_bytes(b"\xff\xfe")
    assert stage.look() == {"ann"}
    assert stage.counted() == (1, 2, 0)
    assert len(caplog.messages) == 2
    # mended as it was: that is news, too
    assert stage.look(ONLY_ANN) == {"ann"}
    assert caplog.messages[2:] == ["event=zeromq_clients_taken clients=1"]
    assert stage.counted() == (2, 2, 1)


def test_where_there_is_no_file_there_is_nothing_to_look_at(tmp_path):
    registry = CollectorRegistry()
    clients = Clients(ZeromqSettings(), {}, ZeromqMetrics(registry))
    clients.look()
    assert clients.name(ANN) is None
    assert registry.get_sample_value("signalyard_zeromq_clients_current") == 1
