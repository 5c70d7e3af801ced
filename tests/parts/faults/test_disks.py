"""Full, read-only and slow disks.

Full is a limit on the size of files, which is what a full disk is to who writes one. Read-only is a mount of its own where this
process may make one, else a folder whose rights say so. No device here can be slowed down, so the slow disk is the router in
this process, on the real clock and with real model servers, whose syncs wait until they are told.
"""

import asyncio
import os
import resource
import subprocess
import time

import pytest

from signalyard import Snapshot
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.main import ProcessSettings, running
from signalyard_router.rules.levers import Order
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.world.real import RealWorld


def test_a_full_disk_takes_no_lever_and_gives_no_signal(router):
    router.start(prefix=["prlimit", "--fsize=9000:unlimited"])
    for step in range(100):
        decision = router.ask(0.9 if step % 2 else 0.1)
        if decision.get("reason") == "journal_unavailable":
            break
    assert decision["outcome"] == "suppressed"
    records = len(router.records())
    for taken in range(100):  # a lever's record is smaller than a decision's, and may still fit
        pulled = router.lever("halt", "rb-trend", "--symbol", f"rb9{taken}.SHFE", "--by", "ann", "--why", "x" * 490)
        if pulled.returncode:
            break
    assert "journal_unavailable" in pulled.stderr
    assert "Traceback" not in pulled.stderr
    assert router.get("/readyz")[0] == 503
    resource.prlimit(router.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert router.ask(0.9, f"rb9{taken}.SHFE")["outcome"] == "emitted"  # what was not recorded is not in force
    assert router.ask(0.9 if step % 2 else 0.1)["outcome"] == "emitted"
    router.kill()
    router.start()
    assert len(router.records()) == records + 2
    assert len(router.records("lever")) == taken
    for number in range(taken):  # what was recorded is, also after a death
        assert router.ask(0.9, f"rb9{number}.SHFE")["reason"] == "halted"
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0


def read_only(folder):
    """(command prefix, undo) under which nothing can be written in the folder: a mount, or rights where there is no root."""
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", script, str(folder)]
    if subprocess.run([*prefix, "true"], capture_output=True, timeout=20, check=False).returncode == 0:
        return prefix, lambda: None
    paths = [*folder.iterdir(), folder]
    for path in paths:
        path.chmod(0o500 if path.is_dir() else 0o400)

    def undo():
        for path in paths:
            path.chmod(0o700)

    if os.geteuid() != 0:
        return [], undo
    # root without the right to mount writes past rights, unless it gives that power up
    return ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"], undo


def test_a_read_only_disk_stops_the_start_and_not_the_readers(router):
    router.start()
    signal = router.ask(0.9)["signal"]
    assert router.terminate() == 0
    before = {path: path.read_bytes() for path in router.journal.glob("journal-*")}
    prefix, undo = read_only(router.journal)
    try:
        assert router.spawn(prefix=prefix).wait(20) == 1
        assert "journal_unavailable" in router.said()
        assert "Traceback" not in router.said()
        for words in (["journal", "verify"], ["explain", signal["signal_id"]], ["journal", "tail"]):
            command = [*prefix, *map(str, (router.command, *words, "--journal", router.journal))]
            read = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            assert read.returncode == 0, read.stderr
    finally:
        undo()
    assert {path: path.read_bytes() for path in router.journal.glob("journal-*")} == before
    router.start()
    assert router.ask(0.1)["outcome"] == "emitted"


@pytest.fixture
def world():
    made = RealWorld()
    made.disk = FaultyDisk(made.disk)
    return made


def test_a_disk_that_takes_no_new_file_keeps_the_old_one_going(router, world):
    """What rotation meets on a disk without inodes, or one that was made read-only for new files."""
    journal = JournalSettings(folder=str(router.journal), segment_bytes=3_000)
    router.journal.mkdir()
    for number in range(2, 30):
        (router.journal / f"journal-{number:08d}.jsonl").mkdir()

    async def run():
        async with running(ProcessSettings(routes=router.routes, journal=journal), world=world) as (inside, *_):
            for number in range(10):
                row = Snapshot(symbol=f"rb{number}.SHFE", ts_event=time.time_ns(), features={"p": 0.9})
                (decision,) = await inside.predict(row)
                assert decision.outcome == "emitted"

    asyncio.run(run())
    for folder in router.journal.glob("journal-*/"):
        folder.rmdir()
    assert len(router.records()) == 10
    assert (router.journal / "journal-00000001.jsonl").stat().st_size > 2 * journal.segment_bytes
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0


def test_a_slow_disk_costs_confirmations_and_neither_deadlines_nor_records(router, world):
    # time enough for the model server on a busy machine: what is waited for here is the disk
    router.write_route((router.routes / "rb.yaml").read_text().replace("deadline: 300ms", "deadline: 1s"))
    settings = ProcessSettings(
        routes=router.routes, journal=JournalSettings(folder=str(router.journal), durability="fsync")
    )

    async def run():
        async with running(settings, world=world) as (inside, board, *_):

            async def ask(row):
                (decision,) = await inside.predict(row)
                return decision

            def row(p, name):
                return Snapshot(symbol=name, ts_event=time.time_ns(), features={"p": p})

            assert (await ask(row(0.9, "rb1.SHFE"))).outcome == "emitted"
            world.disk.hang = gate = asyncio.Event()
            rows = [row(0.9, f"rb{number}.SHFE") for number in range(2, 12)]
            late = await asyncio.gather(*map(ask, rows))
            # answered, while the disk still hangs
            assert {(decision.outcome, decision.reason) for decision in late} == {("unknown", "unconfirmed")}
            pulled = asyncio.create_task(board.pull(Order(action="halt", by="ann", why="x")))
            await asyncio.sleep(0)
            assert not pulled.done()
            world.disk.hang = None
            gate.set()
            await pulled
            again = await asyncio.gather(*map(ask, rows))
            assert not {decision.outcome for decision in again} & {"unknown", "rejected"}
            for before, decision in zip(late, again, strict=True):
                assert decision.proposal_id == before.proposal_id
            assert (await ask(row(0.9, "rb99.SHFE"))).reason == "halted"

    asyncio.run(run())
    records = router.records()
    assert len(records) == len({record["proposal_id"] for record in records}) == 12
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0
