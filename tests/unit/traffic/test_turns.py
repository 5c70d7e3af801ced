"""Who runs beside whom, where tests of a run are in two processes."""

import fcntl
from types import SimpleNamespace

from turns import Turns, in_turn


def item(name, *fixtures, marked=""):
    return SimpleNamespace(name=name, fixturenames=fixtures, get_closest_marker=lambda kind: kind == marked or None)


def test_what_wants_no_cluster_runs_beside_what_wants_it_alone():
    given = [
        *(
            item("01", "cluster"),
            item("04", "cluster", marked="alone"),
            item("05", "cluster", marked="kills"),
            item("07", "cluster"),
        ),
        *(item("08", "cluster"), item("09", "cluster"), item("resources"), item("more-resources")),
    ]
    ordered = [one.name for one in in_turn(given)]
    first, second = ordered[:4], ordered[4:]
    assert first == ["04", "05", "01", "07"]
    assert second == ["resources", "more-resources", "08", "09"]


def test_alone_comes_first_however_few_there_are():
    assert [one.name for one in in_turn([item("01", "cluster"), item("05", "cluster", marked="kills")])] == ["05", "01"]
    assert in_turn([]) == []


def shared(folder):
    """Whether another process would have the cluster now, beside whoever shares it."""
    with (folder / "cluster.lock").open("w") as ours:
        try:
            fcntl.flock(ours, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_those_that_want_to_be_alone_are_so_until_the_last_of_them(tmp_path):
    kills, times = item("05", "cluster", marked="kills"), item("04", "cluster", marked="alone")
    resources, plain = item("resources"), item("plain", "cluster")
    turns = Turns(tmp_path)
    with turns.turn(plain, kills):
        assert shared(tmp_path)
    with turns.turn(kills, times):
        assert not shared(tmp_path)
    assert not shared(tmp_path)  # nobody slips in between
    with turns.turn(times, plain):
        assert not shared(tmp_path)
    assert shared(tmp_path)
    with turns.turn(resources, kills):
        assert shared(tmp_path)
    with turns.turn(kills, None):
        assert not shared(tmp_path)
    assert shared(tmp_path)
