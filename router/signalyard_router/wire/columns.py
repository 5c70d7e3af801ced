"""Sets of column names, each kept once."""

import sys

_MAX = 1_024


class ColumnSets:
    """Gives equal columns as one and the same tuple, so that what is keyed by them downstream is found by identity.

    Every wire has sets of its own. Their names are the same objects all the same: else what one wire had put downstream would be
    compared letter by letter for every row that comes over another one, which takes a twentieth of what deciding does.

    It keeps at most 1,024 sets, and forgets all of them when one more comes: a caller who names its features differently in
    every request must not fill the memory.
    """

    def __init__(self) -> None:
        self._sets: dict[tuple[str, ...], tuple[str, ...]] = {}

    def shared(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """The one tuple that equals ``columns``."""
        known = self._sets.get(columns)
        if known is None:
            if len(self._sets) >= _MAX:
                self._sets.clear()
            known = tuple([sys.intern(name) for name in columns])
            self._sets[known] = known
        return known
