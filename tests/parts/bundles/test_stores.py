"""Pushing to and pulling from a real S3 API, and from an OCI registry: by `make test-registry`, Debian's docker-registry."""

import filecmp
import json
import os
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.parts
SECRETS = ("s3cret", "ZGVzazpzM2NyZXQtd29yZA==", "t0ken")


def same(out: Path, made: Any) -> bool:
    compared = filecmp.dircmp(out, made.folder)
    return not (compared.left_only or compared.right_only or compared.diff_files)


def test_s3(s3: Any, made: Any, newer: Any, tmp_path: Path) -> None:
    printed = s3("push", made.folder, "s3://models/rb-trend/")
    assert printed == f"s3://models/rb-trend/rb-trend-7.tar#{made.digest}\n"
    assert s3("push", made.folder, "s3://models/rb-trend/") == printed
    s3("pull", printed.strip(), "--out", tmp_path / "out")
    assert same(tmp_path / "out", made)
    said = s3("push", newer.folder, "s3://models/rb-trend/rb-trend-7.tar", exit=7)
    assert f"holds {made.digest}, to be sent is {newer.digest}" in said


def test_s3_goes_on_where_it_was(s3: Any, made: Any, archive: Path, tmp_path: Path) -> None:
    printed = s3("push", made.folder, "s3://models/resumed.tar").strip()
    cache = tmp_path / "cache"
    cache.mkdir()
    part = cache / f"{made.digest[7:]}.part"
    part.write_bytes(archive.read_bytes()[:1_000_000])
    s3("pull", printed, "--out", tmp_path / "out", "--cache", cache)
    assert same(tmp_path / "out", made)
    assert not part.exists()


@pytest.mark.parametrize(("key", "status", "words"), [("none.tar", 3, "bundle_not_found"), ("", 1, "invalid_setting")])
def test_s3_says_what_is_wrong(s3: Any, made: Any, tmp_path: Path, key: str, status: int, words: str) -> None:
    variables = {} if key else {"AWS_ALLOW_HTTP": "false"}
    said = s3("pull", f"s3://models/{key or 'x'}#{made.digest}", "--out", tmp_path / "out", exit=status, **variables)
    assert words in said
    assert "s3cret" not in said
    assert os.listdir(tmp_path) == []


def plain(registry: Any) -> dict[str, str]:
    return {"SIGNALYARD_OCI_PLAIN_HTTP": registry.place}


def test_a_registry(bundle: Any, registry: Any, made: Any, newer: Any, tmp_path: Path) -> None:
    bundle.variables = plain(registry)
    repository = f"oci://{registry.place}/team/rb-trend"
    first = bundle("push", made.folder, f"{repository}:stable").strip()
    assert first == f"{repository}:stable#{made.digest}"
    assert bundle("push", made.folder, f"{repository}:stable").strip() == first
    # The tag moves on; the older bundle is still there by its digest, with or without a tag.
    bundle("push", newer.folder, f"{repository}:stable")
    for number, address in enumerate((first, f"{repository}#{made.digest}")):
        bundle("pull", address, "--out", tmp_path / str(number))
        assert same(tmp_path / str(number), made)


def test_what_stands_in_a_registry(bundle: Any, registry: Any, newer: Any) -> None:
    bundle.variables = plain(registry)
    # A tag that is left out is the version.
    printed = bundle("push", newer.folder, f"oci://{registry.place}/annotated").strip()
    assert printed == f"oci://{registry.place}/annotated:8#{newer.digest}"
    request = urllib.request.Request(
        f"http://{registry.place}/v2/annotated/manifests/8",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        document = json.load(answer)
    assert document["annotations"] == {
        "io.signalyard.bundle.digest": newer.digest,
        "io.signalyard.bundle.model": "rb-trend",
        "io.signalyard.bundle.version": "8",
    }
    assert [layer["mediaType"] for layer in document["layers"]] == ["application/vnd.signalyard.bundle.v1.tar"]


@pytest.mark.parametrize("store", ["s3", "registry"])
def test_a_signature_takes_the_place_of_none_and_of_another(
    bundle: Any, s3: Any, registry: Any, made: Any, tmp_path: Path, store: str
) -> None:
    command, address = (s3, "s3://models/signed/") if store == "s3" else (bundle, f"oci://{registry.place}/signed:7")
    command.variables |= plain(registry)
    folder = shutil.copytree(made.folder, tmp_path / "bundle")

    def pulled(name: str) -> bytes | None:
        printed = command("push", folder, address).strip()
        command("pull", printed, "--out", tmp_path / name)
        file = tmp_path / name / "signature.json"
        return file.read_bytes() if file.exists() else None

    assert pulled("unsigned") is None
    for signature in (b"one", b"two"):
        (folder / "signature.json").write_bytes(signature)
        assert pulled(signature.decode()) == signature
    # One that is there is not taken away by a push of none.
    (folder / "signature.json").unlink()
    assert pulled("again") == b"two"


def test_a_registry_goes_on_where_it_was(bundle: Any, registry: Any, made: Any, archive: Path, tmp_path: Path) -> None:
    bundle.variables = plain(registry)
    address = bundle("push", made.folder, f"oci://{registry.place}/resumed").strip()
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"{made.digest[7:]}.part").write_bytes(archive.read_bytes()[:1_000_000])
    registry.asked.clear()
    bundle("pull", address, "--out", tmp_path / "out", "--cache", cache)
    assert same(tmp_path / "out", made)
    blobs = [asked for asked in registry.asked if "/blobs/" in asked.path]
    assert [(asked.range, asked.sent) for asked in blobs] == (
        [("bytes=999999-", archive.stat().st_size - 999_999)] if registry.asked else []
    )


def test_a_registry_that_stops_half_way(bundle: Any, odd_registry: Any, made: Any, tmp_path: Path) -> None:
    bundle.variables = plain(odd_registry)
    address = bundle("push", made.folder, f"oci://{odd_registry.place}/cut").strip()
    odd_registry.cuts = 2
    odd_registry.asked.clear()
    bundle("pull", address, "--out", tmp_path / "out")
    assert same(tmp_path / "out", made)
    blobs = [asked for asked in odd_registry.asked if "/blobs/" in asked.path]
    assert [asked.range is None for asked in blobs] == [True, False, False]
    (whole,) = (len(body) for body in odd_registry.blobs.values() if len(body) > 2)
    # The last byte is asked for once more.
    assert sum(asked.sent for asked in blobs) == whole + 2


def test_a_registry_that_answers_slowly(bundle: Any, odd_registry: Any, made: Any, tmp_path: Path) -> None:
    bundle.variables = plain(odd_registry)
    address = bundle("push", made.folder, f"oci://{odd_registry.place}/slow").strip()
    odd_registry.dribbles = True
    said = bundle("pull", address, "--out", tmp_path / "out", "--timeout", 2.5, exit=5)
    assert said.endswith("signalyard: bundle_transfer_timeout: not done after 2.5 s\n")
    assert not (tmp_path / "out").exists()


def test_a_registry_that_serves_other_bytes(bundle: Any, odd_registry: Any, newer: Any, tmp_path: Path) -> None:
    bundle.variables = plain(odd_registry)
    address = bundle("push", newer.folder, f"oci://{odd_registry.place}/other").strip()
    for name, body in odd_registry.blobs.items():
        odd_registry.blobs[name] = body.replace(b'"golden":', b'"g0lden":')
    said = bundle("pull", address, "--out", tmp_path / "out", exit=6)
    assert said.startswith("signalyard: bundle_file_changed at /digest: this bundle is sha256:")
    assert f"asked for was {newer.digest}" in said
    assert os.listdir(tmp_path) == []


def test_what_is_not_there(bundle: Any, registry: Any, made: Any, newer: Any, tmp_path: Path) -> None:
    bundle.variables = plain(registry)
    bundle("push", newer.folder, f"oci://{registry.place}/moved:stable")
    said = bundle("pull", f"oci://{registry.place}/moved:stable#{made.digest}", "--out", tmp_path / "out", exit=6)
    assert f"moved:stable is {newer.digest}, asked for was {made.digest}" in said
    said = bundle("pull", f"oci://{registry.place}/moved:gone#{made.digest}", "--out", tmp_path / "out", exit=3)
    assert "bundle_not_found" in said
    said = bundle("pull", f"oci://{registry.place}/never:7#{made.digest}", "--out", tmp_path / "out", exit=3)
    assert f"the registry has no bundle {made.digest} there" in said


def test_without_tls_only_where_it_is_said(bundle: Any, registry: Any, newer: Any) -> None:
    said = bundle("push", newer.folder, f"oci://{registry.place}/plain", exit=1)
    assert "where the registry has no TLS, name it in SIGNALYARD_OCI_PLAIN_HTTP" in said


def test_who_asks(
    bundle: Any, closed_registry: Any, newer: Any, docker_config: Callable[[str], str], tmp_path: Path
) -> None:
    bundle.variables = plain(closed_registry) | {"HOME": str(tmp_path / "nobody")}
    uri = f"oci://{closed_registry.place}/team/rb-trend"
    said = bundle("push", newer.folder, uri, exit=4)
    assert "bundle_access_denied" in said
    address = bundle("push", newer.folder, uri, ORAS_USER="desk", ORAS_PASS="s3cret-word").strip()
    bundle("pull", address, "--out", tmp_path / "out", DOCKER_CONFIG=docker_config(closed_registry.place))
    assert same(tmp_path / "out", newer)
    said += bundle("pull", address, "--out", tmp_path / "c", exit=4, ORAS_USER="desk", ORAS_PASS="s3cret-wrong")
    (tmp_path / "docker" / "config.json").write_text('{"auths": s3cret')
    said += bundle("pull", address, "--out", tmp_path / "c", exit=1, DOCKER_CONFIG=str(tmp_path / "docker"))
    assert "cannot be read as JSON" in said
    assert not [secret for secret in SECRETS if secret in said]
