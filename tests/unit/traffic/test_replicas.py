"""The journals of replicas become one; where they contradict one another, that is seen."""

from traffic.replicas import together

SECOND = 1_000_000_000


def decision(seq, at, name, replica, **more):
    """Settled at ``at`` seconds, the record ``seq`` of some journal."""
    plain = {"v": 1, "kind": "decision", "seq": seq, "t": at * SECOND, "prev": f"{seq}", "route": "r"}
    return plain | {"proposal_id": name, "outcome": "emitted", "signal_id": f"s-{name}", "replica": replica} | more


def lever(seq, at, **more):
    return {"v": 1, "kind": "lever", "seq": seq, "t": at * SECOND, "prev": f"{seq}", "action": "halt"} | more


def test_each_is_there_once_in_the_order_in_which_it_was_settled():
    first = [
        {"kind": "start", "seq": 1, "t": 0},
        decision(2, 1, "a", "0", input={"x": 1}, steps=[1]),
        decision(3, 2, "b", "1"),
        lever(4, 3, id="l-1"),
        {"kind": "call", "seq": 5, "t": 3 * SECOND, "id": "c-5"},
    ]
    # It was away when b and the lever came, and begins with what it found.
    second = [decision(2, 1, "a", "0"), decision(9, 4, "c", "1", input={"x": 2})]
    seen = together({"0": first, "1": second})
    assert seen.contradictions == ()
    assert [(one["seq"], one.get("proposal_id", one["kind"])) for one in seen.records] == [
        (0, "a"),
        (1, "b"),
        (2, "lever"),
        (3, "c"),
    ]
    assert [one.get("input") for one in seen.records] == [{"x": 1}, None, None, {"x": 2}]


def test_who_decided_has_the_order_within_a_moment():
    first = [decision(7, 1, "b", "1"), decision(8, 1, "a", "1")]
    second = [decision(3, 1, "b", "1", input={}), decision(4, 1, "a", "1", input={})]
    for journals in ({"0": first, "1": second}, {"1": second, "0": first}):
        assert [one["proposal_id"] for one in together(journals).records] == ["b", "a"]


def test_what_two_journals_tell_differently_is_seen():
    first, second = [decision(1, 1, "a", "0")], [decision(1, 1, "a", "0", outcome="suppressed", signal_id=None)]
    assert together({"0": first, "1": second}).contradictions == (
        "outcome of a is emitted in the journal of 0 and suppressed in that of 1",
        "signal_id of a is s-a in the journal of 0 and None in that of 1",
    )
    # Decided by each of them: a signal twice.
    (found,) = together({"0": first, "1": [decision(1, 1, "a", "1")]}).contradictions
    assert found == "replica of a is 0 in the journal of 0 and 1 in that of 1"


def test_what_stands_twice_in_one_journal_is_seen():
    (found,) = together({"0": [decision(1, 1, "a", "0"), decision(2, 2, "a", "0", signal_id="s-2")]}).contradictions[:1]
    assert found == "a stands twice in the journal of 0"
