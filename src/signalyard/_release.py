"""Which release this is."""

from functools import cache
from importlib.metadata import version


@cache
def release() -> str:
    """The version that is installed. It stands in a file, which is read once: a call for metadata must not wait for a disk."""
    return version("signalyard")
