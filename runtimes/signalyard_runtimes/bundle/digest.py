"""The digest of a bundle: one name for everything in it.

``sha256:`` and the SHA-256, in hexadecimal, of the manifest as canonical JSON without its field ``digest``: keys sorted by code
point, no white space, UTF-8, numbers as Python's ``json`` writes them. The manifest lists the SHA-256 of every other file, so
that the digest covers them too. Anybody can check it with a line of Python::

    python -c 'import json, hashlib, sys; m = json.load(open(sys.argv[1])); m.pop("digest"); print("sha256:" + hashlib.sha256(
        json.dumps(m, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest())' manifest.json
"""

import hashlib
import json

from signalyard_runtimes.bundle.manifest import MANIFEST_FILE, FileEntry, invalid


def bundle_digest(manifest: bytes) -> str:
    """The digest of a bundle, from its manifest as JSON; a field ``digest`` in it has no influence.

    Raises ModelError (bundle_manifest_invalid) where it is not a JSON object, or has a name twice: two readers might then
    see two different bundles.
    """
    try:
        document = json.loads(manifest, object_pairs_hook=_unique)
        document.pop("digest", None)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
    except (ValueError, AttributeError, RecursionError) as exc:
        raise invalid(f"{MANIFEST_FILE}: {exc}") from exc


def file_entry(body: bytes) -> FileEntry:
    """What the manifest lists of a file."""
    return FileEntry(sha256=hashlib.sha256(body).hexdigest(), size=len(body))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise ValueError(f"the name {twice!r} is given twice")
    return names
