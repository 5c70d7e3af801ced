"""Whether a file is still the one that was read."""

from os import stat_result

Stamp = tuple[int, int, int]


def stamp(found: stat_result) -> Stamp:
    """Something that differs after a file was written anew, or another took its place, as when a cluster swaps a mounted secret."""
    return found.st_mtime_ns, found.st_size, found.st_ino
