"""What a container may use of memory."""

import pytest

from signalyard._memory import memory_limit

SECOND, FIRST = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"


@pytest.mark.parametrize(
    ("place", "text", "limit"),
    [
        (SECOND, "268435456\n", 268435456),
        (SECOND, "max\n", 0),
        (FIRST, "268435456\n", 268435456),
        (FIRST, "9223372036854771712\n", 0),
        (SECOND, "", 0),
        ("elsewhere", "1\n", 0),
    ],
)
def test_the_limit(tmp_path, place, text, limit):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(text)
    assert memory_limit(tmp_path) == limit
