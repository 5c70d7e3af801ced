"""Reading segments piece by piece gives what reading them whole would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard_router.journal import segments
from signalyard_router.journal.segments import LineCutter, backwards, forwards, pieces


class Memory:
    """A disk of one file, which counts what it hands out."""

    def __init__(self, content: bytes):
        self.content = content
        self.largest = 0

    def size(self, path):
        return len(self.content)

    def read_range(self, path, offset, count):
        self.largest = max(self.largest, count)
        return self.content[offset : offset + count]


@given(st.lists(st.binary(max_size=6).map(lambda raw: raw.replace(b"\n", b"")), max_size=12), st.booleans(), st.data())
def test_lines_are_the_same_from_both_ends(lines, torn, data):
    content = b"".join(line + b"\n" for line in lines) + (b"x" if torn else b"")
    disk = Memory(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "PIECE", data.draw(st.integers(1, 9)))
        assert list(forwards(pieces(disk, "f"))) == lines
        reverse = list(backwards(disk, "f"))
    assert [line for _, line in reverse] == lines[::-1]
    assert all(content[start : start + len(line)] == line for start, line in reverse)


def test_what_is_unfinished_is_measured():
    cutter = LineCutter()
    assert cutter.feed(b"ab") == []
    assert cutter.feed(b"c\nd") == [b"abc"]
    assert cutter.torn == 1


def test_a_large_file_is_read_in_small_pieces():
    disk = Memory(b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 50_000)
    assert sum(1 for _ in forwards(pieces(disk, "f"))) == 50_001
    assert sum(1 for _ in backwards(disk, "f")) == 50_001
    assert disk.largest == segments.PIECE < len(disk.content) / 10
