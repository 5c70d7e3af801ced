"""The words of libraries and servers, before they stand in an error of ours."""

import re

_STRUCK = (
    (re.compile(r":?\s*<[?!a-zA-Z].*"), ""),  # a page, or XML
    (re.compile(r"\?[^\s\"')>]+"), "?…"),  # signatures and tokens stand in queries
    (re.compile(r"//[^/@\s]+@"), "//…@"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s,]+", re.IGNORECASE), r"\1 …"),
)
_LONGEST = 300


def words(text: object) -> str:
    """The first line of it, without pages and without what could be a secret, and not too long."""
    line = str(text).strip().partition("\n")[0]
    for struck, stead in _STRUCK:
        line = struck.sub(stead, line)
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
