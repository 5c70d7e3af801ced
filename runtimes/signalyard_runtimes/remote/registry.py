"""OCI registries, by the client oras.

A bundle is an artifact: a manifest with one layer, the archive, and the bundle's digest among its annotations. A push gives it two
names: the tag that was asked for (the bundle's version if none was), and ``bundle-HEX``, after the digest, which never
moves. A pull asks for the second first, so that an older bundle can still be had after its tag went on to a newer one.

Of the library we leave out its retries, which wait up to two minutes and repeat what was refused; and add what it has none of:
time-outs.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import requests
from oras.container import Container
from oras.oci import NewLayer
from oras.provider import Registry
from urllib3.exceptions import HTTPError

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle import archive as archives
from signalyard_runtimes.bundle.manifest import Manifest
from signalyard_runtimes.remote.address import Address
from signalyard_runtimes.remote.foreign import words
from signalyard_runtimes.remote.patience import STALL_SECONDS
from signalyard_runtimes.remote.transport import CONNECT_SECONDS, Download

PLAIN_HTTP = "SIGNALYARD_OCI_PLAIN_HTTP"
"""The variable that names the registries, HOST:PORT and commas, that are asked without TLS."""

USERNAME, PASSWORD = "ORAS_USER", "ORAS_PASS"
"""Variables with the account, where it is not in the configuration of Docker."""

DIGEST_ANNOTATION = "io.signalyard.bundle.digest"
SIGNATURE_ANNOTATION = "io.signalyard.bundle.signature.sha256"
_ARTIFACT = "application/vnd.signalyard.bundle.v1"
_LAYER = "application/vnd.signalyard.bundle.v1.tar"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_PIECE = 256 * 1024
_TRY_AGAIN = (408, 425, 429)
_LARGEST_MANIFEST = 4 * 1024 * 1024  # more than the specification lets a registry demand


class RegistryTransport:
    """Implements `transport.Transport` for one repository. ``environ`` is the process's, unless a test gives another."""

    def __init__(self, address: Address, environ: Mapping[str, str] = os.environ) -> None:
        logging.getLogger("oras.logger").disabled = True  # it quotes what servers say; we say it once, in our words
        self._address = address
        self._environ = environ
        self._plain = frozenset(filter(None, environ.get(PLAIN_HTTP, "").replace(" ", "").split(",")))
        self._client: _Client | None = None
        self._layer: dict[str, Any] | None = None

    def fetch(self, digest: str, offset: int) -> Download:
        with self._ours():
            client = self._connect()
            if self._layer is None:
                self._layer = self._find(client, digest)
            headers = {"Accept-Encoding": "identity"}
            if offset:
                headers["Range"] = f"bytes={offset}-"
            url = f"{client.prefix}://{self._container().get_blob_url(self._layer['digest'])}"
            response = client.do_request(url, "GET", headers=headers, stream=True)
            if offset and response.status_code == requests.codes.requested_range_not_satisfiable:
                response.close()
                return self.fetch(digest, 0)
            self._check(response)
            start = offset if response.status_code == requests.codes.partial_content else 0
            return Download(offset=start, size=self._layer["size"], pieces=self._pieces(response))

    def send(self, archive: Path, manifest: Manifest) -> None:
        tag = self._address.tag or manifest.version
        with self._ours(), TemporaryDirectory() as folder:
            client = self._connect()
            with archive.open("rb") as file:
                signature = archives.peek(file).signature
            # The tag comes last: whoever finds it finds the rest.
            names = [
                name
                for name in (_fixed(manifest.digest), tag)
                if not _stands(self._manifest(client, name) or {}, manifest.digest, signature)
            ]
            if not names:
                return
            empty = Path(folder) / "config.json"
            empty.write_bytes(b"{}")
            config, layer = NewLayer(str(empty), _EMPTY), NewLayer(str(archive), _LAYER)
            layer["annotations"] = {"org.opencontainers.image.title": f"{manifest.name}-{manifest.version}.tar"}
            for blob, descriptor in ((empty, config), (archive, layer)):
                self._check(client.upload_blob(str(blob), self._container(), descriptor))
            document = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "artifactType": _ARTIFACT,
                "config": config,
                "layers": [layer],
                "annotations": {
                    DIGEST_ANNOTATION: manifest.digest,
                    **({} if signature is None else {SIGNATURE_ANNOTATION: signature}),
                    "io.signalyard.bundle.model": manifest.name,
                    "io.signalyard.bundle.version": manifest.version,
                },
            }
            for name in names:
                self._check(client.upload_manifest(document, self._container(name)))

    def _find(self, client: "_Client", digest: str) -> dict[str, Any]:
        """The descriptor of the archive. Raises ModelError: bundle_not_found, bundle_file_changed, bundle_archive_invalid."""
        document = self._manifest(client, _fixed(digest))
        if document is None and self._address.tag is not None:
            document = self._manifest(client, self._address.tag)
        if document is None:
            raise error(Problem.BUNDLE_NOT_FOUND, f"{self._address}: the registry has no bundle {digest} there", "/uri")
        found = _bundle(document)
        if found != digest:
            raise error(
                Problem.BUNDLE_FILE_CHANGED if found else Problem.BUNDLE_ARCHIVE_INVALID,
                f"{self._address} is {found or 'no bundle'}, asked for was {digest}",
                "/digest",
            )
        layers = document.get("layers")
        layer = layers[0] if isinstance(layers, list) and len(layers) == 1 else None
        if (
            not isinstance(layer, dict)
            or not isinstance(layer.get("size"), int)
            or not isinstance(layer.get("digest"), str)
        ):
            raise error(Problem.BUNDLE_ARCHIVE_INVALID, f"{self._address}: its manifest has no single layer", "/uri")
        return layer

    def _manifest(self, client: "_Client", name: str) -> dict[str, Any] | None:
        """A manifest by its tag, None where there is none."""
        url = f"{client.prefix}://{self._container(name).manifest_url()}"
        response = client.do_request(url, "GET", headers={"Accept": _MANIFEST}, stream=True)
        with response:
            if response.status_code == requests.codes.not_found:
                return None
            self._check(response)
            body = response.raw.read(_LARGEST_MANIFEST + 1, decode_content=True)
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("its manifest is no JSON object")
        return document

    def _container(self, tag: str | None = None) -> Container:
        place = f"{self._address.place}/{self._address.path}"
        return Container(f"{place}:{tag}" if tag else place, registry=self._address.place)

    def _connect(self) -> "_Client":
        """A client that knows how this registry wants to be told who asks."""
        if self._client is None:
            plain = self._address.place in self._plain
            scheme = "http" if plain else "https"
            session = _Session(self._plain)
            with session.get(f"{scheme}://{self._address.place}/v2/") as answer:
                challenge = answer.headers.get("Www-Authenticate", "") if answer.status_code == 401 else ""
            basic = challenge.lower().startswith("basic")
            client = _Client(hostname=self._address.place, insecure=plain, auth_backend="basic" if basic else "token")
            client.session = client.auth.session = session
            username, password = self._environ.get(USERNAME), self._environ.get(PASSWORD)
            if username and password:
                client.auth.set_basic_auth(username, password)
            else:
                self._load_docker(client)
            if basic and getattr(client.auth, "_basic_auth", None) is None:
                raise error(
                    Problem.BUNDLE_ACCESS_DENIED,
                    f"{self._address}: the registry wants a name and a password: docker login, or {USERNAME} and {PASSWORD}",
                    "/uri",
                )
            self._client = client
        return self._client

    def _load_docker(self, client: "_Client") -> None:
        """Take the account from Docker's configuration: that of DOCKER_CONFIG, and the one at home."""
        folder = self._environ.get("DOCKER_CONFIG")
        file = Path(folder, "config.json") if folder else None
        try:
            client.auth.load_configs(self._container(), [str(file)] if file and file.is_file() else [])
        except (ValueError, OSError, AttributeError) as exc:
            # Nothing of it is quoted: it holds passwords.
            raise error(Problem.INVALID_SETTING, "Docker's configuration, config.json, cannot be read as JSON") from exc

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        with response, self._ours():
            # One read of the socket at a time: to gather a whole piece from a slow server would hold back what is there.
            while piece := response.raw.read1(_PIECE):
                yield piece

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status < 400:
            return
        response.close()
        detail = f"{self._address}: the registry answers {status} {words(response.reason)}"
        if status == requests.codes.not_found:
            raise error(Problem.BUNDLE_NOT_FOUND, detail, "/uri")
        if status < 500 and status not in _TRY_AGAIN:
            raise error(Problem.BUNDLE_ACCESS_DENIED, detail, "/uri")
        raise error(Problem.BUNDLE_STORE_UNREACHABLE, detail, "/uri")

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """The library's errors as ours. It raises ValueError where it finds no way to prove who asks."""
        try:
            yield
        except SignalyardError:
            raise
        except json.JSONDecodeError as exc:
            raise error(
                Problem.BUNDLE_STORE_UNREACHABLE, f"{self._address}: what answers is no registry: {words(exc)}", "/uri"
            ) from exc
        except requests.exceptions.SSLError as exc:
            raise error(
                Problem.INVALID_SETTING,
                f"{self._address}: {words(exc)}; where the registry has no TLS, name it in {PLAIN_HTTP}",
                "/uri",
            ) from exc
        except (requests.RequestException, HTTPError, OSError) as exc:
            raise error(Problem.BUNDLE_STORE_UNREACHABLE, f"{self._address}: {words(exc)}", "/uri") from exc
        except ValueError as exc:
            raise error(Problem.BUNDLE_ACCESS_DENIED, f"{self._address}: {words(exc)}", "/uri") from exc


class _Client(Registry):  # type: ignore[misc]
    """oras's client without its retries: ours know what is worth it, and how much time there is."""

    def do_request(self, *arguments: Any, **named: Any) -> requests.Response:
        answer: requests.Response = Registry.do_request.__wrapped__(self, *arguments, **named)
        return answer


class _Session(requests.Session):
    """Each request has its time-outs, and none goes out without TLS but to the registries that were named; redirects included."""

    def __init__(self, plain: frozenset[str]) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._plain = plain

    def send(self, request: requests.PreparedRequest, **named: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        if parts.scheme != "https" and parts.netloc not in self._plain:
            raise error(
                Problem.BUNDLE_ACCESS_DENIED,
                f"{parts.scheme}://{parts.netloc} would be asked without TLS, and is not named in {PLAIN_HTTP}",
                "/uri",
            )
        named["timeout"] = (CONNECT_SECONDS, STALL_SECONDS)
        return super().send(request, **named)


def _fixed(digest: str) -> str:
    """The tag that only this bundle has."""
    return f"bundle-{digest.removeprefix('sha256:')}"


def _bundle(document: dict[str, Any]) -> str | None:
    return _annotation(document, DIGEST_ANNOTATION)


def _stands(document: dict[str, Any], digest: str, signature: str | None) -> bool:
    """Whether a manifest is of this bundle, and ours has no signature that it lacks."""
    return _bundle(document) == digest and signature in (None, _annotation(document, SIGNATURE_ANNOTATION))


def _annotation(document: dict[str, Any], name: str) -> str | None:
    annotations = document.get("annotations")
    found = annotations.get(name) if isinstance(annotations, dict) else None
    return found if isinstance(found, str) else None
