"""Signatures: by whom, over what, and what is refused before anything of a model is loaded."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from signalyard.cli import main
from signalyard.problems import CallerError, ModelError, Problem
from signalyard_runtimes import inline
from signalyard_runtimes.bundle import archive, signature, store
from signalyard_runtimes.scorer import load

Forge = Callable[..., None]


class Key:
    """A key pair in two files."""

    def __init__(self, folder: Path, name: str, made: Any = None) -> None:
        secret = ec.generate_private_key(ec.SECP256R1()) if made is None else made
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pub"
        self.private.write_bytes(
            secret.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.public.write_bytes(
            secret.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )


@pytest.fixture
def desk(tmp_path: Path) -> Key:
    return Key(tmp_path, "desk")


@pytest.fixture
def stranger(tmp_path: Path) -> Key:
    return Key(tmp_path, "stranger")


def refusal(bundle: Path, *keys: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(bundle, trust=keys)
    return caught.value


def test_what_a_trusted_key_has_signed_loads_and_is_the_same_bundle(lightgbm_bundle: Path, desk: Key) -> None:
    before = load(lightgbm_bundle).card.digest
    assert signature.attach(lightgbm_bundle, desk.private).digest == before
    assert load(lightgbm_bundle, trust=[desk.public]).card.digest == before
    assert load(lightgbm_bundle).card.digest == before
    assert inline.load(lightgbm_bundle, trust=[desk.public]).card.digest == before


def test_what_nobody_has_signed_is_refused_where_keys_are_trusted(lightgbm_bundle: Path, desk: Key) -> None:
    found = refusal(lightgbm_bundle, desk.public)
    assert found.problem is Problem.BUNDLE_UNSIGNED
    assert "signature.json" in found.detail
    with pytest.raises(ModelError):
        inline.load(lightgbm_bundle, trust=[desk.public])


def test_a_foreign_signature(lightgbm_bundle: Path, desk: Key, stranger: Key) -> None:
    signature.attach(lightgbm_bundle, stranger.private)
    found = refusal(lightgbm_bundle, desk.public)
    assert found.problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED
    assert "desk.pub" in found.detail


def test_keys_are_rotated_by_trusting_both_for_a_while(lightgbm_bundle: Path, desk: Key, stranger: Key) -> None:
    signature.attach(lightgbm_bundle, desk.private)
    for keys in ([desk.public, stranger.public], [stranger.public, desk.public]):
        load(lightgbm_bundle, trust=keys)
    signature.attach(lightgbm_bundle, stranger.private)
    load(lightgbm_bundle, trust=[desk.public, stranger.public])
    load(lightgbm_bundle, trust=[stranger.public])
    assert refusal(lightgbm_bundle, desk.public).problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED


def test_a_signature_is_of_every_file(lightgbm_bundle: Path, desk: Key, forge: Forge) -> None:
    signature.attach(lightgbm_bundle, desk.private)
    forge(lightgbm_bundle, lambda manifest: manifest.update(version="8"))
    found = refusal(lightgbm_bundle, desk.public)
    assert found.problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED
    assert "manifest.json" in found.detail
    forge(lightgbm_bundle, lambda manifest: manifest.update(version="7"))
    forge(lightgbm_bundle, golden__json=(lightgbm_bundle / "golden.json").read_bytes() + b" ")
    assert "golden.json" in refusal(lightgbm_bundle, desk.public).detail


def test_the_signature_of_another_bundle(lightgbm_bundle: Path, sklearn_bundle: Path, desk: Key) -> None:
    signature.attach(sklearn_bundle, desk.private)
    shutil.copy(sklearn_bundle / "signature.json", lightgbm_bundle)
    assert refusal(lightgbm_bundle, desk.public).problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED


def test_a_signature_that_leaves_files_out_covers_nothing_less(lightgbm_bundle: Path, desk: Key) -> None:
    from model_signing import hashing, signing

    left_out = [lightgbm_bundle / name for name in ("model.txt", "signature.json")]
    files = hashing.Config().set_ignored_paths(paths=left_out, ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=desk.private)
    signer.set_hashing_config(files).sign(lightgbm_bundle, lightgbm_bundle / "signature.json")
    found = refusal(lightgbm_bundle, desk.public)
    assert found.problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED
    assert "model.txt" in found.detail


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"\xff", b'{"mediaType": "x"}'])
def test_bytes_that_are_no_signature(lightgbm_bundle: Path, desk: Key, body: bytes) -> None:
    (lightgbm_bundle / "signature.json").write_bytes(body)
    assert refusal(lightgbm_bundle, desk.public).problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED
    load(lightgbm_bundle)  # who trusts no key in particular looks at none


def test_a_flipped_bit_in_a_signature(lightgbm_bundle: Path, desk: Key) -> None:
    signature.attach(lightgbm_bundle, desk.private)
    file = lightgbm_bundle / "signature.json"
    document = json.loads(file.read_bytes())
    signed = document["dsseEnvelope"]["signatures"][0]
    signed["sig"] = signed["sig"][:-6] + "AAAA" + signed["sig"][-2:]
    file.write_text(json.dumps(document))
    assert refusal(lightgbm_bundle, desk.public).problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED


class _Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_nothing_of_an_untrusted_bundle_is_unpickled(
    sklearn_bundle: Path, forge: Forge, desk: Key, stranger: Key, tmp_path: Path
) -> None:
    forge(sklearn_bundle, model__joblib=pickle.dumps(_Trap(tmp_path / "it-ran")))
    assert refusal(sklearn_bundle, desk.public).problem is Problem.BUNDLE_UNSIGNED
    signature.attach(sklearn_bundle, stranger.private)
    assert refusal(sklearn_bundle, desk.public).problem is Problem.BUNDLE_SIGNATURE_UNTRUSTED
    assert not (tmp_path / "it-ran").exists()


def test_keys_that_are_none(lightgbm_bundle: Path, tmp_path: Path, desk: Key) -> None:
    (tmp_path / "text.pub").write_text("no key")
    other = Key(tmp_path, "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for public in (tmp_path / "text.pub", tmp_path / "absent.pub", desk.private, other.public):
        with pytest.raises(CallerError, match="no public key that can be used") as caught:
            load(lightgbm_bundle, trust=[public])
        assert caught.value.problem is Problem.INVALID_SETTING
        assert str(public) in caught.value.detail
    for private in (tmp_path / "text.pub", desk.public, other.private):
        with pytest.raises(CallerError, match="no private key that can be used"):
            signature.attach(lightgbm_bundle, private)
    assert not (lightgbm_bundle / "signature.json").exists()


def test_a_folder_of_keys_as_a_secret_is_mounted(tmp_path: Path, desk: Key, stranger: Key) -> None:
    folder = tmp_path / "keys"
    (folder / "..data").mkdir(parents=True)
    for key in (desk, stranger):
        (folder / "..data" / key.public.name).write_bytes(key.public.read_bytes())
        (folder / key.public.name).symlink_to(folder / "..data" / key.public.name)
    assert signature.public_keys([folder, desk.public]) == (folder / "desk.pub", folder / "stranger.pub", desk.public)
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(CallerError, match="no public key, and no folder"):
            signature.public_keys([nothing])


def test_a_signature_travels_in_the_archive(lightgbm_bundle: Path, desk: Key, tmp_path: Path) -> None:
    unsigned = (tmp_path / "unsigned.tar").open("w+b")
    signed = (tmp_path / "signed.tar").open("w+b")
    with unsigned, signed:
        archive.write(lightgbm_bundle, unsigned)
        signature.attach(lightgbm_bundle, desk.private)
        digest = archive.write(lightgbm_bundle, signed).digest
        unsigned.seek(0)
        signed.seek(0)
        assert archive.peek(unsigned) == (digest, None)
        beginning = archive.peek(signed)
        assert beginning.digest == digest
        assert beginning.signature is not None
        signed.seek(0)
        (tmp_path / "out").mkdir()
        archive.unpack(signed, tmp_path / "out", digest)
    assert load(tmp_path / "out", digest, [desk.public]).card.digest == digest
    assert store.read(tmp_path / "out").signature == (lightgbm_bundle / "signature.json").read_bytes()


def test_a_manifest_cannot_list_the_signature(lightgbm_bundle: Path, forge: Forge) -> None:
    forge(lightgbm_bundle, signature__json=b"{}")
    with pytest.raises(ModelError, match="cannot list what signs it"):
        load(lightgbm_bundle)


def test_the_commands(lightgbm_bundle: Path, desk: Key, stranger: Key) -> None:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(main, ["bundle", *map(str, arguments)])

    said = run("sign", lightgbm_bundle, "--key", desk.private)
    assert said.exit_code == 0
    assert "signed, rb-trend 7, sha256:" in said.output
    assert run("verify", lightgbm_bundle, "--key", stranger.public, "--key", desk.public).exit_code == 0
    refused = run("verify", lightgbm_bundle, "--key", stranger.public)
    assert refused.exit_code == 1
    assert "bundle_signature_untrusted" in refused.output


def test_others_can_check_it_without_us(lightgbm_bundle: Path, desk: Key) -> None:
    signature.attach(lightgbm_bundle, desk.private)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(lightgbm_bundle)]
    command += ["--signature", str(lightgbm_bundle / "signature.json"), "--public_key", str(desk.public)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "succeeded" in found.stdout
