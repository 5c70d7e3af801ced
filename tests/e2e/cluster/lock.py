"""What processes of this machine do one at a time."""

import fcntl
from pathlib import Path


class Lock:
    """Held from entering to leaving, and let go by the kernel where its holder ends. ``shared``: beside others that share it."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, self._kind)

    def __exit__(self, *_: object) -> None:
        self._file.close()
