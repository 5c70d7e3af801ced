"""Who made a bundle: a signature by a key, as OpenSSF's model-signing writes and reads it, in ``signature.json`` beside the manifest.

It is over the SHA-256 of every file of the bundle, the manifest among them. The bundle's digest does not cover it, because it covers
the digest: a bundle may be signed after it was packed, and anew with another key, and is the same bundle.

A signature by a key has no date in the format, and so never expires. A key ends when it is trusted no longer; several are trusted at
once, so that bundles can be signed anew before it does.
"""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import SIGNATURE_FILE, Manifest

_KEYS = (".pub", ".pem")
_SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}


def attach(folder: Path, key: Path) -> Manifest:
    """Verify the bundle in ``folder``, no model being loaded, and put a signature by the private key in the PEM file ``key`` into it.

    Raises ModelError as :func:`signalyard_runtimes.bundle.store.read` does; CallerError (invalid_setting) where the key is none, or
    needs a password, or the folder cannot be written.
    """
    manifest = store.read(folder).manifest
    signature = _sign(folder, key)
    # Beside the bundle, which is whole all the while.
    draft = folder.parent / f".{folder.name}-{SIGNATURE_FILE}"
    try:
        draft.write_bytes(signature)
        draft.replace(folder / SIGNATURE_FILE)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise error(Problem.INVALID_SETTING, f"{folder} cannot be written: {exc.strerror}") from exc
    return manifest


def public_keys(places: Iterable[Path]) -> tuple[Path, ...]:
    """The PEM files of keys at ``places``: themselves, and of a folder, as a secret is mounted, every ``*.pub`` and ``*.pem``.

    Raises CallerError (invalid_setting) where there is none: who asks for signed bundles must not be served others.
    """
    keys: list[Path] = []
    for place in places:
        found = sorted(path for path in place.iterdir() if path.suffix in _KEYS) if place.is_dir() else [place]
        if not found or not all(path.is_file() for path in found):
            raise error(
                Problem.INVALID_SETTING, f"{place} is no public key, and no folder of files *.pub or *.pem", "/trust"
            )
        keys += found
    return tuple(keys)


def _sign(folder: Path, key: Path) -> bytes:
    from model_signing import hashing, signing

    with tempfile.TemporaryDirectory(prefix="signalyard-sign-") as scratch:
        written = Path(scratch, SIGNATURE_FILE)
        try:
            signer = signing.Config().use_elliptic_key_signer(private_key=key)  # type: ignore[no-untyped-call]
        except Exception as exc:  # the library has no exceptions of its own
            raise _no_key(key, "private", exc) from exc
        ignored = [folder / SIGNATURE_FILE]
        files = hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)  # type: ignore[no-untyped-call]
        signer.set_hashing_config(files.use_file_serialization(hashing_algorithm="sha256", ignore_paths=ignored))
        signer.sign(folder, written)
        return written.read_bytes()


def check(signature: bytes | None, files: Mapping[str, str], keys: Iterable[Path]) -> None:
    """See that one of ``keys``, PEM files of public keys, has signed exactly ``files``: path to SHA-256 in hexadecimal.

    What was hashed when it was read is compared, and nothing is read again. Raises ModelError: bundle_unsigned,
    bundle_signature_untrusted; CallerError (invalid_setting) where a key is none.
    """
    verifiers = [(key, _verifier(key, files)) for key in keys]
    if signature is None:
        raise error(
            Problem.BUNDLE_UNSIGNED,
            f"it has no {SIGNATURE_FILE}, and only what is signed is trusted, by one of: {', '.join(key.name for key, _ in verifiers)}",
        )
    reasons = []
    with tempfile.TemporaryDirectory(prefix="signalyard-verify-") as scratch:
        written = Path(scratch, SIGNATURE_FILE)
        written.write_bytes(signature)
        for key, verifier in verifiers:
            try:
                verifier.verify(Path(scratch), written)
            except Exception as exc:  # noqa: BLE001 - a bad signature or bytes that are none: the library has no exceptions of its own
                reasons.append(f"{key.name}: {' '.join(str(exc).split()) or type(exc).__name__}")
            else:
                return
    raise error(
        Problem.BUNDLE_SIGNATURE_UNTRUSTED,
        f"its {SIGNATURE_FILE} is by none of the trusted keys, or of other files ({'; '.join(reasons)})",
    )


def _verifier(key: Path, files: Mapping[str, str]) -> Any:
    from model_signing import hashing, manifest, verifying
    from model_signing._hashing.hashing import Digest

    class Known(hashing.Config):
        """In the place of reading the files: their digests are known, and are those of the bytes that will be loaded."""

        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:
            items = [
                manifest.FileManifestItem(path=PurePosixPath(path), digest=Digest("sha256", bytes.fromhex(sha256)))
                for path, sha256 in files.items()
            ]
            return manifest.Manifest("bundle", items, manifest.SerializationType.from_args(_SERIALIZATION))

        def add_ignored_paths(self, *, model_path: Any, paths: Any) -> None:
            """None: every file of the bundle must be signed, whatever the signature leaves out."""

    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)  # type: ignore[no-untyped-call]
    except Exception as exc:  # as above
        raise _no_key(key, "public", exc) from exc
    return verifier.set_hashing_config(Known())  # type: ignore[no-untyped-call]


def _no_key(key: Path, kind: str, exc: Exception) -> SignalyardError:
    return error(
        Problem.INVALID_SETTING,
        f"{key} is no {kind} key that can be used (an elliptic curve's, in PEM, without a password): {type(exc).__name__}: {exc}",
    )
