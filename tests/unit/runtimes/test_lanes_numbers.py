"""Numbers of large requests, read in one go: the same bits as one by one, and nothing else read at all."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signalyard_runtimes.lanes.numbers import MARK, Numbers, cut

NUMBERS = Numbers()
LARGEST = "-1.7976931348623157e+308"
TEXTS = st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,40})?([eE]([+-]?[0-9]{1,2}|-[0-9]{3}))?", fullmatch=True)


@settings(max_examples=300)
@given(texts=st.lists(TEXTS | st.just("null"), min_size=1, max_size=20), gap=st.sampled_from(["", " ", "\t", "\r\n"]))
@example(texts=["-0.0", "5e-324", "1e-400", "9007199254740993", "18446744073709551615", "-9223372036854775808"], gap="")
@example(texts=["null", "null"], gap="")
def test_numbers_have_the_bits_that_python_reads(texts: list[str], gap: str) -> None:
    found = NUMBERS.read(f"[{gap}{f'{gap},{gap}'.join(texts)}{gap}]".encode())
    promised = [float("nan" if text == "null" else "0" if text == "-0" else text) for text in texts]
    assert found is not None
    assert found.tobytes() == np.array(promised).tobytes()


@pytest.mark.parametrize(
    "text",
    [
        *("[1,]", "[,1]", "[1 2]", "[1", "1]", "", "{}", "5", "null", "[[1,2]]", "[1,[2]]", '["1"]', "[true]", "[{}]", "[1]x"),
        *("[NaN]", "[Infinity]", "[-]", "[+1]", "[01]", "[1.]", "[.5]", "[0x1]", "[1_0]", "[1e]", "[1e999]", "[18446744073709551616]"),
        *("[nul]", "[nullnull]", "[1null]", "[null1]", "[null.5]", "[-null]", "[nulle5]", '["null"]', "[null null]"),
        f"[null,{LARGEST}]",
    ],
)  # fmt: skip
def test_what_is_no_flat_array_of_numbers_is_not_read(text: str) -> None:
    assert NUMBERS.read(text.encode()) is None
    assert NUMBERS.read(b"[1,2]") is not None  # what went wrong leaves nothing behind


def test_an_array_may_be_empty() -> None:
    found = NUMBERS.read(b"[]")
    assert found is not None
    assert found.shape == (0,)


def test_text_that_is_not_utf8_is_not_read() -> None:
    assert NUMBERS.read(b"[1,\xff]") is None


def test_the_largest_number_is_one_where_none_is_missing() -> None:
    found = NUMBERS.read(f"[{LARGEST},1]".encode())
    assert found is not None
    assert list(found) == [float(LARGEST), 1.0]


def test_longer_texts_than_are_kept_for() -> None:
    values = np.random.default_rng(3).normal(size=120_000)
    found = NUMBERS.read(json.dumps(values.tolist()).encode())
    assert found is not None
    assert (found == values).all()


def test_a_body_is_cut_at_its_numbers() -> None:
    assert cut(b'{"a":[0],"data" :\n[1,2],"b":[3]}') == (b'{"a":[0],"data" :\n' + MARK + b',"b":[3]}', b"[1,2]")


@pytest.mark.parametrize(
    "body", [b"", b'{"data":5}', b'{"data":[1', b'{"data":[1],"id":"numbers"}', b'{"numbers":1,"data":[]}']
)
def test_a_body_in_which_that_is_not_certain_is_not_cut(body: bytes) -> None:
    assert cut(body) is None
