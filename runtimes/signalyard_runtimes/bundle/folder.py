"""A folder of files as one file, for a model that its library keeps as a folder: a plain tar, the same bytes for the same files."""

import io
import tarfile
from pathlib import Path, PurePosixPath

from signalyard.problems import Problem, error


def fold(folder: Path) -> bytes:
    """All files below ``folder``, by name, with no owner and no time. Raises CallerError (invalid_setting) for what is no plain file."""
    folded = io.BytesIO()
    with tarfile.open(fileobj=folded, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise error(Problem.INVALID_SETTING, f"{path} is neither a plain file nor a folder")
            header = tarfile.TarInfo(path.relative_to(folder).as_posix())
            if path.is_dir():
                header.type, header.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(header)
            else:
                body = path.read_bytes()
                header.size = len(body)
                archive.addfile(header, io.BytesIO(body))
    return folded.getvalue()


def unfold(folded: bytes, folder: Path) -> None:
    """Write the files into ``folder``. Raises ``tarfile.TarError`` for anything but plain files and folders inside it."""
    if len(folded) % tarfile.RECORDSIZE:
        raise tarfile.ReadError("it is cut off: a tar is whole records")
    # Not by extractall: what refuses links and ways out for it came with Python 3.11.4, and Debian 12 has 3.11.2.
    with tarfile.open(fileobj=io.BytesIO(folded), mode="r:") as archive:
        for header in archive:
            place = PurePosixPath(header.name)
            if place.is_absolute() or ".." in place.parts or header.type not in (tarfile.REGTYPE, tarfile.DIRTYPE):
                raise tarfile.ReadError(f"{header.name!r} is no plain file or folder inside it")
            body = archive.extractfile(header)
            if body is None:
                (folder / place).mkdir(parents=True, exist_ok=True)
            else:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(body.read())
