"""Pulling from an HTTP server that cuts off, lies, dribbles and hangs; killed in the middle; twice at once."""

import filecmp
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.parts


def same(out: Path, made: Any) -> bool:
    compared = filecmp.dircmp(out, made.folder)
    return not (compared.left_only or compared.right_only or compared.diff_files)


def test_a_new_place_and_the_one_that_kserve_gives(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    address = f"http://{shop.place}/good.tar#{made.digest}"
    out = tmp_path / "models" / "rb-trend-7"
    assert bundle("pull", address, "--out", out) == f"{out}: rb-trend 7, {made.digest}\n"
    mount = tmp_path / "mnt" / "models"
    mount.mkdir(parents=True)
    assert bundle("fetch", f"signalyard+{address}", mount) == f"{mount}: rb-trend 7, {made.digest}\n"
    assert same(out, made)
    assert same(mount, made)
    assert [asked.sent for asked in shop.asked] == [len(shop.body)] * 2
    # A container that is started again asks nobody.
    bundle("pull", f"http://{shop.place}/good.tar", "--digest", made.digest, "--out", out)
    assert len(shop.asked) == 2


def test_the_cache(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    address = f"http://{shop.place}/good.tar#{made.digest}"
    for name in ("a", "b"):
        bundle("pull", address, "--out", tmp_path / name, SIGNALYARD_BUNDLE_CACHE=str(tmp_path / "cache"))
    assert len(shop.asked) == 1
    assert same(tmp_path / "b", made)


def test_cut_off_it_goes_on_where_it_was(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    shop.cuts = 2
    bundle("pull", f"http://{shop.place}/cut.tar#{made.digest}", "--out", tmp_path / "out")
    assert same(tmp_path / "out", made)
    assert [asked.range is None for asked in shop.asked] == [True, False, False]
    sent = sum(asked.sent for asked in shop.asked)
    assert len(shop.body) <= sent < len(shop.body) * 1.2


def test_cut_off_without_ranges_it_begins_anew(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    shop.cuts = 1
    bundle("pull", f"http://{shop.place}/noranges.tar#{made.digest}", "--out", tmp_path / "out")
    assert same(tmp_path / "out", made)


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("404", 3, "bundle_not_found at /uri: http://"),
        ("403", 4, "bundle_access_denied at /uri: http://"),
        ("401", 4, "bundle_access_denied at /uri: http://"),
        ("400", 4, "400 Bad Request"),
        ("500", 5, "500 Internal Server Error; tried 5 times"),
        ("otherbytes", 6, "bundle_file_changed at /digest: this bundle is sha256:"),
    ],
)
def test_what_is_wrong_is_said(
    bundle: Any, shop: Any, made: Any, tmp_path: Path, how: str, status: int, words: str
) -> None:
    log = tmp_path / "termination-log"
    said = bundle(
        "pull",
        f"http://{shop.place}/{how}.tar#{made.digest}",
        "--out",
        tmp_path / "out",
        exit=status,
        SIGNALYARD_TERMINATION_LOG=str(log),
    )
    assert words in said
    assert said.endswith(f"signalyard: {log.read_text()}\n")
    assert (len(shop.asked), os.listdir(tmp_path)) == (5 if how == "500" else 1, ["termination-log"])


def test_an_archive_that_is_stored_cut_off(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    shop.body = shop.body[:1_000_000]
    said = bundle("pull", f"http://{shop.place}/good.tar#{made.digest}", "--out", tmp_path / "out", exit=5)
    assert said == "signalyard: bundle_truncated: the archive ends before the last of its files\n"
    assert os.listdir(tmp_path) == []


def test_a_server_that_dribbles_costs_no_more_than_the_time_given(
    bundle: Any, shop: Any, made: Any, tmp_path: Path
) -> None:
    address = f"http://{shop.place}/dribble.tar#{made.digest}"
    said = bundle("pull", address, "--out", tmp_path / "out", "--timeout", 2.5, exit=5)
    assert "pulling http://" in said  # what takes over two seconds is told
    assert said.endswith("signalyard: bundle_transfer_timeout: not done after 2.5 s\n")
    assert not (tmp_path / "out").exists()


def test_without_a_digest(bundle: Any, shop: Any, tmp_path: Path) -> None:
    said = bundle("pull", f"http://{shop.place}/good.tar", "--out", tmp_path / "out", exit=1)
    assert "a bundle is pulled by its digest alone" in said
    assert shop.asked == []


def test_killed_in_the_middle_and_started_again(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    address = f"http://{shop.place}/gated.tar#{made.digest}"
    process = bundle.start("pull", address, "--out", tmp_path / "out")
    try:
        assert shop.reached.wait(60)
        first = shop.asked[0].sent
        part = _until_there_is_some(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert not (tmp_path / "out").exists()
    kept = part.stat().st_size
    assert 0 < kept <= first
    shop.gate.set()
    bundle("pull", address, "--out", tmp_path / "out")
    assert same(tmp_path / "out", made)
    assert os.listdir(tmp_path) == ["out"]
    assert [asked.range for asked in shop.asked] == [None, f"bytes={kept - 1}-"]
    assert shop.asked[1].sent == len(shop.body) - kept + 1


def _until_there_is_some(folder: Path) -> Path:
    """The file of what came so far, once there is something in it: the server has sent before the client has written."""
    deadline = time.monotonic() + 60
    while True:
        for part in folder.glob(".out-*.pull/*.part"):
            if part.stat().st_size:
                return part
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_at_once_of_one_digest(bundle: Any, shop: Any, made: Any, tmp_path: Path) -> None:
    address = f"http://{shop.place}/gated.tar#{made.digest}"
    arguments = ("--cache", tmp_path / "cache", "--out")
    processes = [bundle.start("pull", address, *arguments, tmp_path / name) for name in ("a", "b")]
    try:
        assert shop.reached.wait(60)
        shop.gate.set()
        for process in processes:
            assert process.communicate(timeout=60)[1] == ""
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.wait(60)
    assert same(tmp_path / "a", made)
    assert same(tmp_path / "b", made)
    assert len(shop.asked) == 1


def test_a_folder_takes_a_bundle_once(bundle: Any, made: Any, newer: Any, tmp_path: Path) -> None:
    printed = bundle("push", made.folder, f"file://{tmp_path}/store/")
    assert printed == f"file://{tmp_path}/store/rb-trend-7.tar#{made.digest}\n"
    assert bundle("push", made.folder, f"file://{tmp_path}/store/") == printed
    said = bundle("push", newer.folder, f"file://{tmp_path}/store/rb-trend-7.tar", exit=7)
    assert said.startswith("signalyard: bundle_exists at /uri: file:///")
    assert f"holds {made.digest}, to be sent is {newer.digest}" in said
    bundle("pull", printed.strip(), "--out", tmp_path / "out")
    assert same(tmp_path / "out", made)
