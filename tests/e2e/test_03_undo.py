"""A new version by helm upgrade, back by rollout undo, on by helm again: one digest at every moment, and no request failed."""

import pytest
from bundles import MODEL
from cluster.commands import CommandError
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from traffic.digests import torn

DEPLOYMENT = f"deployment/{MODEL}-stable"


def test_03_undo(desk, scenario):
    def values(version):
        # Both new pods at once: their start is most of this scenario's time.
        return desk.model(version, replicas=2, pods={"maxSurge": 2})

    def serves(version, *, drift):
        """Wait until ``version`` decides and the route's status says whether that is drift."""
        digest = desk.published.version(version)["digest"]
        load.await_lines(lambda lines: _signals(lines)[-1:] and _signals(lines)[-1]["digest"] == digest, timeout=120)
        desk.await_condition("VersionDrift", str(drift), "Drift" if drift else "AsPinned")
        assert desk.metric("signalyard_version_drift", track="stable") == drift
        load.await_more(50)

    desk.install_router()
    desk.install_model(values("7"))
    desk.await_ready()
    with scenario.load(ROUTER, rate=40, deadline=DEADLINE) as load:
        load.await_more(50)
        desk.upgrade_model(values("8"))
        serves("8", drift=False)
        scenario.kubectl("rollout", "undo", DEPLOYMENT)
        serves("7", drift=True)

        # What the undo wrote is kubectl's: helm says so, changes nothing, and the notes have the cure.
        with pytest.raises(CommandError, match='conflicts with "kubectl"'):
            desk.upgrade_model(values("9"))
        serves("7", drift=True)
        notes = scenario.helm("get", "notes", MODEL)
        assert f"upgrade {MODEL} CHART -f VALUES --force-conflicts" in notes
        desk.upgrade_model(values("9"), "--force-conflicts")
        serves("9", drift=False)

        # Helm's own way back, the same.
        scenario.kubectl("rollout", "undo", DEPLOYMENT)
        serves("7", drift=True)
        revision = next(
            one["revision"] for one in desk.history(MODEL) if one["status"] == "superseded" and one["revision"] > 1
        )
        with pytest.raises(CommandError, match='conflicts with "kubectl"'):
            scenario.helm("rollback", MODEL, revision)
        assert f"rollback {MODEL} --force-conflicts" in notes
        scenario.helm("rollback", MODEL, revision, "--force-conflicts")
        serves("8", drift=False)
        scenario.await_rollout(DEPLOYMENT)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.marks) == {"drift"}
    assert not {"no_answer", "model_timeout"} & set(account.reasons)
    expected = [desk.published.version(version)["digest"] for version in ("7", "8", "7", "9", "7", "8")]
    decisions = [record for record in scenario.journal(ROUTER_POD) if record["kind"] == "decision"]
    assert not torn(decisions, expected)
    # What the desk was told is what the journal names.
    named = {record["signal_id"]: record["digest"] for record in decisions if "signal_id" in record}
    assert {one["signal_id"]: one["digest"] for one in _signals(load.lines())} == named


def _signals(lines):
    return [one for line in lines for one in line["decisions"] if "signal_id" in one]
