"""The judge of route changes sees a signal under a revision that is not in force."""

from traffic.revisions import torn


def document(seq, generation):
    return {"kind": "route", "seq": seq, "name": "r", "revision": f"rev-{generation}", "generation": generation}


def decision(seq, generation, outcome="emitted"):
    plain = {"kind": "decision", "seq": seq, "route": "r", "signal_id": f"s{seq}", "outcome": outcome}
    return plain | {"revision": f"rev-{generation}", "generation": generation}


def test_one_revision_after_the_other_is_as_it_should_be():
    records = [document(1, 1), decision(2, 1), document(3, 2), decision(4, 1, "suppressed"), decision(5, 2)]
    assert not torn(records, "r")
    assert not torn([*records, {**decision(6, 7), "route": "other"}], "r")


def test_a_signal_under_the_old_one_is_seen():
    records = [document(1, 1), decision(2, 1), document(3, 2), decision(4, 1), decision(5, 2)]
    assert torn(records, "r") == ("s4 was given under ('rev-1', 1) while ('rev-2', 2) was in force",)


def test_a_signal_before_any_is_seen():
    (found,) = torn([decision(1, 1), document(2, 1)], "r")
    assert found == "s1 was given under ('rev-1', 1) while ('none', 0) was in force"
