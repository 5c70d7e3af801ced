"""A router's journal from outside: rotated, archived and dropped while it serves, and whole all the same."""

import json
import time

from tests.parts.router.conftest import PATIENCE


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def dropped(folder):
    """All that went which the older of two checkpoints does not need. Which segments have one depends on how fast they follow."""
    checkpoints, segments = (
        sorted(path.name[-14:] for path in folder.glob(f"{kind}-*")) for kind in ("checkpoint", "journal")
    )
    return len(checkpoints) == 2 and segments[0] == checkpoints[0] and "00000001.jsonl" not in segments


def test_segments_move_to_the_archive_and_the_chain_holds_across_a_kill(router, tmp_path):
    options = ("--segment-bytes", "3000", "--keep-bytes", "1", "--archive", f"file://{tmp_path}/archive")
    router.start(*options)
    asked = [router.ask(0.7 if number % 2 else 0.3) for number in range(20)]
    until(lambda: dropped(router.journal))
    metrics = router.get("/metrics")[1].decode()
    assert "\nsignalyard_archive_failures_total 0.0\n" in metrics
    assert "\nsignalyard_archive_oldest_waiting_seconds " in metrics
    router.kill()
    router.start(*options)
    assert "event=checkpoint_restored" in router.said()
    asked += [router.ask(0.7 if number % 2 else 0.3) for number in range(20)]
    router.terminate()
    here = router.run("journal", "verify", "--journal", str(router.journal), "--json")
    report = json.loads(here.stdout)
    assert report["since"] > 1
    whole = router.run(
        "journal", "verify", "--journal", str(router.journal), "--archive", f"file://{tmp_path}/archive", "--json"
    )
    report = json.loads(whole.stdout)
    assert (report["since"], report["kinds"]["decision"], report["notes"]) == (1, len(asked), [])
    # the sequences run on over the kill
    signals = [decision["signal"]["seq"] for decision in asked if decision["outcome"] == "emitted"]
    assert signals == list(range(1, len(signals) + 1))
    told = router.run("explain", "--journal", str(router.journal), asked[-1]["proposal_id"])
    assert "enter 0.6" in told.stdout  # the document went with its segment; the checkpoint has it
    lacking = router.run("journal", "query", "--journal", str(router.journal))
    assert lacking.returncode == 1
    assert "install signalyard[query]" in lacking.stderr


def test_an_archive_that_cannot_be_used_stops_the_start(router):
    process = router.spawn("--archive", "ftp://somewhere")
    assert process.wait(PATIENCE) == 1
    assert "invalid_setting at /archive" in router.said()
    assert not router.journal.exists()


def test_replay_scores_the_record_on_the_running_model_server(router, models):
    router.start()
    for number in range(10):
        router.ask({"p": number / 10, "x": 1.0})
    against = ("journal", "replay", "--journal", str(router.journal), "--against")
    good = router.run(*against, f"http://127.0.0.1:{models.ports['7']}")
    assert (good.returncode, good.stdout.startswith("10 records scored, 0 differ;")) == (0, True)
    other = router.run(*against, f"http://127.0.0.1:{models.ports['6']}")
    assert (other.returncode, "rb-trend 7: 10 skipped" in other.stdout) == (2, True)
    nobody = router.run(*against, "http://127.0.0.1:1")
    assert (nobody.returncode, "model_unreachable" in nobody.stderr) == (2, True)
