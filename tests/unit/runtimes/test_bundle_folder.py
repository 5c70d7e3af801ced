"""A folder of files as one file, and what is refused on the way back."""

import io
import tarfile
from pathlib import Path

import pytest

from signalyard.problems import CallerError
from signalyard_runtimes.bundle.folder import fold, unfold


def test_there_and_back(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "variables" / "empty").mkdir(parents=True)
    (made / "saved_model.pb").write_bytes(b"\0graph" * 3000)
    (made / "variables" / "index").write_bytes(b"")
    folded = fold(made)
    assert folded == fold(made)
    unfold(folded, tmp_path / "back")
    assert fold(tmp_path / "back") == folded


def test_a_link_is_not_folded(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(CallerError, match="neither a plain file nor a folder"):
        fold(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("in/../../outside", tarfile.REGTYPE),
        ("/tmp/outside", tarfile.REGTYPE),
        ("..", tarfile.DIRTYPE),
        ("link", tarfile.SYMTYPE),
        ("link", tarfile.LNKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_what_leaves_the_folder_or_is_no_file_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        archive.addfile(header)
    with pytest.raises(tarfile.TarError, match="no plain file or folder inside it"):
        unfold(body.getvalue(), tmp_path / "in")
    assert not (tmp_path / "in").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("size", [0, 512, tarfile.RECORDSIZE, tarfile.RECORDSIZE + 1])
def test_what_was_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model").write_bytes(b"x" * 3 * tarfile.RECORDSIZE)
    with pytest.raises(tarfile.TarError):
        unfold(fold(tmp_path / "in")[:size], tmp_path / "out")
