"""Sets of columns, and their names."""

from signalyard_router.wire.columns import ColumnSets


def named(*numbers: int) -> tuple[str, ...]:
    """Columns whose names are new objects."""
    return tuple([f"feature_{number}" for number in numbers])


def test_equal_columns_are_one_tuple() -> None:
    sets = ColumnSets()
    assert sets.shared(named(1, 2)) is sets.shared(named(1, 2))
    assert sets.shared(named(2, 1)) == named(2, 1)


def test_names_are_the_same_objects_over_every_wire() -> None:
    one, other = ColumnSets().shared(named(1, 2)), ColumnSets().shared(named(1, 2))
    assert all(left is right for left, right in zip(one, other, strict=True))


def test_a_caller_with_ever_other_names_does_not_fill_the_memory() -> None:
    sets = ColumnSets()
    for number in range(3_000):
        sets.shared(named(number))
    assert len(sets._sets) <= 1_024
