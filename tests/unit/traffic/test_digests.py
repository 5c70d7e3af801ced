"""The judge of cutovers sees two digests at a time."""

from traffic.digests import torn

SECOND = 1_000_000_000


def record(seq, digest, asked=None):
    """Settled at ``seq`` seconds, asked for half a second before."""
    return {
        "seq": seq,
        "t": seq * SECOND,
        "ts_recv": int((seq - 0.5 if asked is None else asked) * SECOND),
        "digest": digest,
        "proposal_id": f"p{seq}",
    }


def test_one_digest_after_the_other_is_as_it_should_be():
    assert not torn([record(seq, digest) for seq, digest in enumerate("aabba")], "aba")
    assert not torn([record(1, "a"), record(2, None), record(3, "b")], "ab")


def test_what_was_under_way_may_still_end():
    assert not torn([record(1, "a"), record(2, "b"), record(3, "a", asked=1.9), record(4, "b"), record(5, "a")], "aba")


def test_an_old_digest_after_the_new_one_is_seen():
    (found,) = torn([record(1, "a"), record(2, "b"), record(3, "a"), record(4, "b")], "ab")
    assert found == "p3 was asked for 0.500 s after b came in and got a"
    # Also where it is mistaken for the next change at first.
    assert torn([record(1, "a"), record(2, "b"), record(3, "a"), record(4, "b"), record(5, "a")], "aba")


def test_a_digest_that_nobody_expected_is_seen():
    assert torn([record(1, "a"), record(2, "c")], "ab") == (
        "p2 was asked for 1.500 s after a came in and got c",
        "b never answered",
    )
