"""One digest a track at a time, while pods roll, drift and come and go."""

from hypothesis import given
from hypothesis import strategies as st

from signalyard_router.rules.serving import Identity, Report, in_force

X, Y, OLD, OLDER = Identity("7", "x"), Identity("7", "y"), Identity("6", "o"), Identity("5", "p")


def at(*identities, ready=True):
    return [Report(identity, ready and identity is not None) for identity in identities]


def roll(in_use, *stages):
    served = []
    for reports in stages:
        in_use = in_force("7", in_use, reports)
        served.append(in_use)
    return served


def test_pods_that_roll_to_the_pinned_version_cut_over_once_at_half():
    assert roll(OLD, at(OLD, OLD, OLD), at(X, OLD, OLD), at(X, X, OLD), at(X, X, X)) == [OLD, OLD, X, X]


def test_a_bundle_published_again_under_the_same_version_cuts_over_once():
    assert roll(X, at(X, X, X), at(Y, X, X), at(Y, Y, X), at(Y, Y, Y)) == [X, X, Y, Y]
    assert roll(X, at(Y, X), at(Y, None), at(Y, Y)) == [X, Y, Y]
    assert roll(Y, at(Y, X), at(Y, X)) == [Y, Y]


def test_a_rollback_by_the_cluster_is_drift_only_when_the_last_has_gone():
    assert roll(X, at(OLD, X, X), at(OLD, OLD, X), at(OLD, OLD, OLD), at(X, OLD, OLD)) == [X, X, OLD, OLD]


def test_at_the_start_it_waits_for_every_endpoint_before_it_settles_for_another_version():
    waiting = [Report(OLD, ready=True), Report(asked=False)]
    assert in_force("7", None, waiting) is None
    assert in_force("7", None, [Report(OLD, ready=True), Report(X, ready=True)]) == X
    assert in_force("7", None, [Report(OLD, ready=True), Report()]) == OLD
    assert in_force("7", None, at(OLD, OLDER, OLDER)) == OLDER


def test_when_all_fall_silent_nothing_changes():
    assert in_force("7", X, [Report(X), Report(OLD)]) == X
    assert in_force("7", X, [Report(X), Report(OLD, ready=True)]) == OLD


REPORTS = st.lists(
    st.builds(Report, st.sampled_from([None, X, Y, OLD, OLDER]), st.booleans(), st.booleans()), min_size=1, max_size=5
)


@given(st.lists(REPORTS, min_size=1, max_size=6), st.sampled_from([0.25, 0.5, 1.0]))
def test_what_always_holds(history, share):
    in_use = None
    for reports in history:
        before = in_use
        ready = [r.identity for r in reports if r.ready and r.identity is not None]
        pinned = [identity for identity in ready if identity.version == "7"]
        in_use = in_force("7", before, reports, share)
        if before is not None:
            assert in_use is not None
        if in_use != before:
            assert in_use in ready  # nobody is moved to where nobody is
        if ready and (before is not None or all(r.asked for r in reports)):
            assert in_use in ready  # and nobody stays where nobody is
        if in_use is not None and in_use.version != "7" and before != in_use:
            assert not pinned  # drift only where no endpoint has the pinned version
        for identity in {X, Y}:
            if pinned.count(identity) >= max(1, share * len(reports)):
                assert in_use.version == "7"
        assert in_force("7", in_use, reports, share) == in_use  # it does not swing
