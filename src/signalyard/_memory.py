"""How much memory the kernel lets this process have: the limit of its control group, as a container sees it."""

from pathlib import Path

_PLACES = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNLIMITED = 1 << 60
"""The first version of control groups says "no limit" by a number near 2**63."""


def memory_limit(root: Path = Path("/")) -> int:
    """The limit in bytes; 0 where there is none, or none that can be read."""
    for place in _PLACES:
        try:
            text = (root / place).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    return 0
