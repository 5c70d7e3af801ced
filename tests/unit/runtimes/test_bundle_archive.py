"""Archives: the same bytes for the same bundle, and nothing out of one that its manifest does not name."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from signalyard.problems import ModelError, Problem
from signalyard_runtimes.bundle import archive, store
from signalyard_runtimes.bundle.digest import bundle_digest

Make = Callable[..., tuple[Path, str]]
Entry = tuple[tarfile.TarInfo, bytes]


def packed(folder: Path) -> bytes:
    file = io.BytesIO()
    archive.write(folder, file)
    return file.getvalue()


def tar(*entries: Entry, form: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as made:
        for info, body in entries:
            made.addfile(info, io.BytesIO(body))
    return file.getvalue()


def entry(name: str, body: bytes = b"", **more: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(body)
    for field, value in more.items():
        setattr(info, field, value)
    return info, body


def entries(folder: Path, *names: str) -> list[Entry]:
    return [entry(name, (folder / name).read_bytes()) for name in ("manifest.json", *names)]


def unpacked(body: bytes, into: Path, digest: str) -> None:
    into.mkdir()
    archive.unpack(io.BytesIO(body), into, digest)


def test_there_and_back(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle(more__notes="ö".encode(), more__deep__empty=b"")
    unpacked(packed(folder), tmp_path / "out", digest)
    assert store.read(tmp_path / "out", digest).manifest.digest == digest
    made = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {
        path.relative_to(tmp_path / "out"): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == made


def test_the_same_bundle_is_the_same_bytes(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle()
    first = packed(folder)
    unpacked(first, tmp_path / "out", digest)
    (tmp_path / "out" / "model.txt").chmod(0o600)
    assert packed(tmp_path / "out") == first
    with tarfile.open(fileobj=io.BytesIO(first)) as read:
        assert read.getnames() == ["manifest.json", "golden.json", "model.txt"]
        assert {(member.mode, member.mtime, member.uid, member.uname) for member in read} == {(0o644, 0, 0, "")}


def test_a_damaged_bundle_is_not_packed(plain_bundle: Make) -> None:
    folder, _ = plain_bundle()
    (folder / "model.txt").write_text("tre2\n")
    with pytest.raises(ModelError) as caught:
        packed(folder)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED


def test_a_path_too_long_for_an_archive(plain_bundle: Make) -> None:
    folder, _ = plain_bundle(**{"__".join(["x" * 90] * 4): b""})
    with pytest.raises(ModelError, match="cannot be in one: name is too long") as caught:
        packed(folder)
    assert caught.value.problem is Problem.BUNDLE_ARCHIVE_INVALID


HOSTILE: dict[str, tuple[Entry, str]] = {
    "symbolic link": (
        entry("model.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "'model.txt' is a symbolic link",
    ),
    "hard link": (entry("model.txt", type=tarfile.LNKTYPE, linkname="manifest.json"), "'model.txt' is a hard link"),
    "device": (entry("model.txt", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "'model.txt' is a device"),
    "disk": (entry("model.txt", type=tarfile.BLKTYPE), "'model.txt' is a device"),
    "pipe": (entry("model.txt", type=tarfile.FIFOTYPE), "'model.txt' is a pipe"),
    "folder": (entry("deep", type=tarfile.DIRTYPE), "'deep' is a folder"),
    "sparse file": (entry("model.txt", type=tarfile.GNUTYPE_SPARSE), "'model.txt' is a sparse file"),
    "extended header": (entry("model.txt", b"tree\n", pax_headers={"path": "../x"}), "is an entry of the kind"),
    "absolute path": (entry("/etc/cron.d/x", b"x"), "'/etc/cron.d/x' is in it and not in the manifest"),
    "parent": (entry("../x", b"x"), "'../x' is in it and not in the manifest"),
    "unlisted": (entry("more.txt", b"x"), "'more.txt' is in it and not in the manifest"),
    "manifest twice": (entry("manifest.json", b"{}"), "'manifest.json' is in it twice"),
    "file twice": (entry("golden.json", b"x"), "'golden.json' is in it twice"),
    "longer than listed": (entry("model.txt", b"tree\n" * 1000), "has 5000 bytes in it, and 5 in the manifest"),
    "shorter than listed": (entry("model.txt", b"tre"), "has 3 bytes in it, and 5 in the manifest"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_entries(plain_bundle: Make, tmp_path: Path, kind: str) -> None:
    folder, digest = plain_bundle()
    hostile, words = HOSTILE[kind]
    form = tarfile.PAX_FORMAT if hostile[0].pax_headers else tarfile.USTAR_FORMAT
    body = tar(*entries(folder, "golden.json"), hostile, form=form)
    with pytest.raises(ModelError) as caught:
        unpacked(body, tmp_path / "out", digest)
    assert caught.value.problem is Problem.BUNDLE_ARCHIVE_INVALID
    assert words in caught.value.detail
    # Nothing but what the manifest names was written, and nothing outside.
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {"manifest.json", "golden.json"}
    assert not (tmp_path / "x").exists()


def test_a_negative_size(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle()
    info = tarfile.TarInfo("model.txt")
    info.size = -1
    header = info.tobuf(tarfile.GNU_FORMAT)
    body = tar(*entries(folder, "golden.json"))
    end = body.rindex(b"golden.json") + 2 * tarfile.BLOCKSIZE
    with pytest.raises(ModelError, match="a size below 0"):
        unpacked(body[:end] + header + bytes(1024), tmp_path / "out", digest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {f"f{number}": {"sha256": "0" * 64, "size": 1} for number in range(10_001)}}, "10003 files; 10000"),
        ({"files": {"big": {"sha256": "0" * 64, "size": 5 * 1024**3}}}, "are the most"),
        (
            {"files": {"a": {"sha256": "0" * 64, "size": 1}, "a/b": {"sha256": "0" * 64, "size": 1}}},
            "'a' would be a file",
        ),
        ({"files": {"manifest.json/b": {"sha256": "0" * 64, "size": 1}}}, "'manifest.json' would be a file"),
    ],
)
def test_bombs_are_refused_by_what_the_manifest_promises(
    plain_bundle: Make, tmp_path: Path, change: dict[str, dict[str, object]], words: str
) -> None:
    folder, _ = plain_bundle()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] |= change["files"]
    digest = manifest["digest"] = bundle_digest(json.dumps(manifest).encode())
    body = tar(entry("manifest.json", json.dumps(manifest).encode()))
    with pytest.raises(ModelError) as caught:
        unpacked(body, tmp_path / "out", digest)
    assert caught.value.problem is Problem.BUNDLE_ARCHIVE_INVALID
    assert words in caught.value.detail
    assert list((tmp_path / "out").iterdir()) == []


def test_a_manifest_that_would_write_elsewhere(plain_bundle: Make, tmp_path: Path) -> None:
    folder, _ = plain_bundle()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["../x"] = {"sha256": "0" * 64, "size": 1}
    digest = manifest["digest"] = bundle_digest(json.dumps(manifest).encode())
    with pytest.raises(ModelError) as caught:
        unpacked(tar(entry("manifest.json", json.dumps(manifest).encode())), tmp_path / "out", digest)
    assert caught.value.problem is Problem.BUNDLE_PATH_UNSAFE


def test_a_manifest_that_never_ends(tmp_path: Path) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.size = 2**33 - 1
    with pytest.raises(ModelError, match="larger than 16777216 bytes"):
        unpacked(info.tobuf(tarfile.USTAR_FORMAT), tmp_path / "out", "sha256:" + "0" * 64)


def test_another_bundle_is_seen_before_it_is_unpacked(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle()
    with pytest.raises(ModelError) as caught:
        unpacked(packed(folder), tmp_path / "out", "sha256:" + "0" * 64)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED
    assert caught.value.detail == f"this bundle is {digest}, asked for was sha256:{'0' * 64}"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_listed_file_that_is_not_there(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle()
    with pytest.raises(ModelError) as caught:
        unpacked(tar(*entries(folder, "golden.json")), tmp_path / "out", digest)
    assert (caught.value.problem, "model.txt" in caught.value.detail) == (Problem.BUNDLE_FILE_MISSING, True)


def test_cut_anywhere_it_is_no_bundle(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle()
    body = packed(folder)
    for place in range(0, len(body) - 2 * tarfile.BLOCKSIZE, 61):
        with pytest.raises(ModelError) as caught:
            unpacked(body[:place], tmp_path / f"out-{place}", digest)
        assert caught.value.problem is Problem.BUNDLE_TRUNCATED


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>not found</html>" * 100, "no tar"),
        (bytes(1024), "its first file is None"),
        (tar(entry("model.txt", b"x")), "its first file is 'model.txt', not 'manifest.json'"),
    ],
)
def test_what_is_no_archive_of_ours(tmp_path: Path, body: bytes, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        unpacked(body, tmp_path / "out", "sha256:" + "0" * 64)
    assert caught.value.problem is Problem.BUNDLE_ARCHIVE_INVALID
    assert words in caught.value.detail


def test_something_behind_the_end(plain_bundle: Make, tmp_path: Path) -> None:
    folder, digest = plain_bundle()
    unpacked(packed(folder) + bytes(10240), tmp_path / "padded", digest)
    with pytest.raises(ModelError, match="something follows behind its end"):
        unpacked(packed(folder) + bytes(512) + b"x", tmp_path / "out", digest)


def test_a_peek_reads_the_beginning_alone(plain_bundle: Make) -> None:
    folder, digest = plain_bundle()
    size = (folder / "manifest.json").stat().st_size
    # The next header tells whether it is signed.
    beginning = archive.peek(io.BytesIO(packed(folder)[: 1024 + -(-size // 512) * 512]))
    assert beginning == (digest, None)
