"""Termination messages, and the words that stand in them."""

from pathlib import Path

import pytest

from signalyard.problems import Problem, error
from signalyard_runtimes.remote.foreign import words
from signalyard_runtimes.termination import VARIABLE, reporting


def left(tmp_path: Path, exc: Exception) -> str:
    file = tmp_path / "termination-log"
    with pytest.raises(type(exc)), reporting({VARIABLE: str(file)}):
        raise exc
    return file.read_text()


def test_an_error_is_left_in_one_line(tmp_path: Path) -> None:
    assert left(tmp_path, error(Problem.BUNDLE_NOT_FOUND, "nothing\nthere", "/uri")) == (
        "bundle_not_found at /uri: nothing there"
    )


def test_it_is_no_longer_than_kubernetes_shows(tmp_path: Path) -> None:
    assert len(left(tmp_path, error(Problem.BUNDLE_NOT_FOUND, "ü" * 5000)).encode()) <= 4096


def test_what_nobody_foresaw_is_named_without_its_text(tmp_path: Path) -> None:
    assert left(tmp_path, RuntimeError("password=1234")) == "internal: RuntimeError"


def test_nothing_is_left_where_all_went_well(tmp_path: Path) -> None:
    with reporting({VARIABLE: str(tmp_path / "termination-log")}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_does_not_hide_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="x"), reporting({VARIABLE: str(tmp_path)}):
        raise ValueError("x")
    assert capsys.readouterr().err == f"signalyard: {tmp_path} cannot be written: Is a directory\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("GET https://a/b?sig=s3cret&x=1 failed", "GET https://a/b?… failed"),
        ("proxy http://me:s3cret@proxy:3128 refused", "proxy http://…@proxy:3128 refused"),
        ("Authorization: Bearer s3cret", "Authorization: Bearer …"),
        ("one\nDebug source: s3cret", "one"),
        ("404 Not Found: <?xml version='1.0'?><Error>", "404 Not Found"),
        ("a\x1b[31mb", "a [31mb"),
    ],
)
def test_foreign_words_keep_no_secret(text: str, wanted: str) -> None:
    assert words(text) == wanted


def test_foreign_words_are_short() -> None:
    assert len(words("x" * 1000)) == 301
