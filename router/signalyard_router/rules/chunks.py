"""How many rows travel in one call."""


def rows_within(budget: int, row_time: float, most: int, least: int) -> int:
    """Rows that half of the ``budget`` should suffice for, given what a row takes (both nanoseconds; 0: not known).

    Half, because the calls of one batch wait for one another in the server. Between ``least`` and ``most``.
    """
    if row_time <= 0.0:
        return most
    return max(least, min(most, int(budget / 2 / row_time)))


def rows_together(rows: int, endpoints: int, most: int) -> int:
    """Of ``rows`` that come at once from several requests, how many should share a call: at most ``most``, and so few that every
    endpoint gets its part."""
    return max(1, min(most, -(-rows // max(1, endpoints))))


def chunks(count: int, most: int) -> list[slice]:
    """``count`` rows in as few chunks of at most ``most`` rows as there can be, of sizes that differ by one row at most."""
    number = max(1, -(-count // most))
    return [slice(count * index // number, count * (index + 1) // number) for index in range(number)]
