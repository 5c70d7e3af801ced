"""Who runs beside whom, where tests of a run are in two processes."""

from types import SimpleNamespace

from turns import in_turn


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
