"""Where a bundle is, and which one it must be: ``URI#sha256:HEX``. Pure."""

import re
from urllib.parse import urlsplit

import msgspec

from signalyard.problems import Problem, SignalyardError, error

SCHEMES = ("file", "http", "https", "s3", "gs", "az", "oci")

_OURS = "signalyard+"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
# What needs no escaping in a URL: whoever reads the address and whoever asks for it then mean the same.
_PATH = re.compile(r"[A-Za-z0-9._=@,+-]+(/[A-Za-z0-9._=@,+-]+)*")
# From the OCI distribution specification.
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """``place`` is the host (with its port), bucket or container, empty for a file; ``path`` the object or the repository in it.

    Only ``oci`` has a ``tag``, and may do without.
    """

    scheme: str
    place: str
    path: str
    tag: str | None = None

    def __str__(self) -> str:
        slash = "/" if self.path else ""
        return f"{self.scheme}://{self.place}{slash}{self.path}{f':{self.tag}' if self.tag else ''}"


def parse(text: str) -> tuple[Address, str | None]:
    """The address, and the digest behind ``#`` if there is one; ``signalyard+`` before the scheme means nothing.

    Raises CallerError (invalid_setting), which never repeats what could be a secret.
    """
    uri, hash_, digest = text.removeprefix(_OURS).partition("#")
    if "?" in uri:
        raise _wrong("has a query; what proves who you are belongs into the environment, not into an address")
    try:
        parts = urlsplit(uri)
    except ValueError as exc:
        raise _wrong("cannot be read as a URI") from exc
    if "@" in parts.netloc:
        raise _wrong("holds credentials; they belong into the environment, not into an address")
    if parts.scheme not in SCHEMES:
        raise _wrong(f"starts with none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    path = parts.path.removeprefix("/")
    address = _oci(parts.netloc, path) if parts.scheme == "oci" else _object(parts.scheme, parts.netloc, path)
    return address, check_digest(digest) if hash_ else None


def pinned(text: str, digest: str | None) -> tuple[Address, str]:
    """An address with the digest that it must have, from behind ``#`` or by itself. Raises CallerError (invalid_setting)."""
    address, behind = parse(text)
    if digest is not None:
        check_digest(digest)
        if behind not in (None, digest):
            raise error(Problem.INVALID_SETTING, f"asked for are two: {behind} behind '#', and {digest}", "/digest")
    wanted = digest or behind
    if wanted is None:
        raise error(
            Problem.INVALID_SETTING,
            f"a bundle is pulled by its digest alone: say {address}#sha256:… or --digest sha256:…. 'signalyard bundle push' "
            "printed it, and where the bundle was packed 'signalyard bundle inspect DIR' shows it",
            "/digest",
        )
    return address, wanted


def check_digest(text: str) -> str:
    """The digest of a bundle as it was written. Raises CallerError (invalid_setting)."""
    if not _DIGEST.fullmatch(text):
        raise error(Problem.INVALID_SETTING, f"{text!r} is no digest: write sha256: and 64 digits 0-9, a-f", "/digest")
    return text


def _object(scheme: str, place: str, path: str) -> Address:
    if scheme == "file":
        if place:
            raise _wrong("must have three slashes: file:///folder/bundle.tar")
    elif not _HOST.fullmatch(place):
        raise _wrong(
            f"needs a {'host' if scheme in ('http', 'https') else 'bucket'} of letters, digits, '.', '_' and '-'"
        )
    # At a slash at the end a push adds the name.
    plain = path.removesuffix("/")
    if plain and (not _PATH.fullmatch(plain) or any(part in (".", "..") for part in plain.split("/"))):
        raise _wrong("must have a plain path: letters, digits and . _ = @ , + - between single slashes")
    return Address(scheme=scheme, place=place, path=path)


def _oci(place: str, path: str) -> Address:
    if not _HOST.fullmatch(place):
        raise _wrong("needs a host: oci://registry.example:5000/team/rb-trend:7")
    if "@" in path:
        raise _wrong("names a manifest by '@'; the digest of a bundle goes behind '#'")
    repository, colon, tag = path.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise _wrong("needs a repository in small letters: oci://registry.example:5000/team/rb-trend:7")
    if colon and not _TAG.fullmatch(tag):
        raise _wrong("has a tag that is none: letters, digits, '.', '_' and '-', at most 128")
    return Address(scheme="oci", place=place, path=repository, tag=tag if colon else None)


def _wrong(detail: str) -> SignalyardError:
    return error(Problem.INVALID_SETTING, f"the address of the bundle {detail}", "/uri")
