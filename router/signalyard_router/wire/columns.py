"""Sets of column names, each kept once."""

_MAX = 1_024


class ColumnSets:
    """Gives equal columns as one and the same tuple, so that what is keyed by them downstream is found by identity.

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
            known = self._sets[columns] = columns
        return known
