"""Addresses of bundles."""

import pytest

from signalyard.problems import CallerError, Problem
from signalyard_runtimes.remote.address import Address, parse, pinned

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "scheme", "place", "path", "tag"),
    [
        ("file:///srv/models/rb-trend-7.tar", "file", "", "srv/models/rb-trend-7.tar", None),
        ("http://store:8080/a/b.tar", "http", "store:8080", "a/b.tar", None),
        ("https://[::1]:8080/b.tar", "https", "[::1]:8080", "b.tar", None),
        ("s3://models/rb/7.tar", "s3", "models", "rb/7.tar", None),
        ("s3://models", "s3", "models", "", None),
        ("gs://models/x=1/", "gs", "models", "x=1/", None),
        ("az://models/7.tar", "az", "models", "7.tar", None),
        ("oci://registry.example:5000/team/rb-trend:7", "oci", "registry.example:5000", "team/rb-trend", "7"),
        ("oci://registry.example/rb-trend", "oci", "registry.example", "rb-trend", None),
    ],
)
def test_what_an_address_is(text: str, scheme: str, place: str, path: str, tag: str | None) -> None:
    wanted = Address(scheme=scheme, place=place, path=path, tag=tag)
    assert parse(text) == (wanted, None)
    assert parse(f"{text}#{A}") == (wanted, A)
    assert parse(f"signalyard+{text}#{A}") == (wanted, A)
    assert str(wanted) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models/rb-trend-7", "starts with none of file://"),
        ("ftp://host/x", "starts with none of"),
        ("signalyard+ftp://host/x", "starts with none of"),
        ("file://models/x.tar", "must have three slashes"),
        ("s3:///x.tar", "needs a bucket"),
        ("http:///x.tar", "needs a host"),
        ("s3://models/../x.tar", "must have a plain path"),
        ("s3://models//x.tar", "must have a plain path"),
        ("s3://models/a b.tar", "must have a plain path"),
        ("s3://models/a%2fb.tar", "must have a plain path"),
        ("oci://registry/Team/x", "needs a repository in small letters"),
        ("oci://registry/", "needs a repository"),
        ("oci://registry/x:-7", "has a tag that is none"),
        (f"oci://registry/x@{A}", "goes behind '#'"),
        ("http://[::1/x", "cannot be read"),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(CallerError) as caught:
        parse(text)
    assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_SETTING, "/uri")
    assert words in caught.value.detail


@pytest.mark.parametrize(
    "text", ["https://me:s3cret@host/x.tar", "https://host/x.tar?sig=s3cret", "oci://me:s3cret@host/x"]
)
def test_secrets_have_no_place_in_it_and_are_not_repeated(text: str) -> None:
    with pytest.raises(CallerError) as caught:
        parse(text)
    assert "s3cret" not in str(caught.value)
    assert "into the environment" in caught.value.detail


def test_a_digest_from_either_place() -> None:
    address = Address(scheme="s3", place="m", path="x.tar")
    assert (
        pinned("s3://m/x.tar", A) == pinned(f"s3://m/x.tar#{A}", None) == pinned(f"s3://m/x.tar#{A}", A) == (address, A)
    )
    with pytest.raises(CallerError, match="asked for are two"):
        pinned(f"s3://m/x.tar#{A}", B)


def test_without_a_digest_it_says_how_to_find_it() -> None:
    with pytest.raises(CallerError) as caught:
        pinned("s3://m/x.tar", None)
    assert caught.value.pointer == "/digest"
    assert "s3://m/x.tar#sha256:… or --digest" in caught.value.detail
    assert "signalyard bundle inspect" in caught.value.detail


@pytest.mark.parametrize("digest", ["", "sha256:", A[:-1], A.upper(), A + "\n", "md5:" + "a" * 32])
def test_what_is_no_digest(digest: str) -> None:
    with pytest.raises(CallerError, match="is no digest: write sha256:"):
        parse(f"s3://m/x.tar#{digest}")
