"""Who may load and unload models, and what such a request says."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from signalyard.problems import Problem, error

_HERE = frozenset(("127.0.0.1", "::1"))


class Changing(StrEnum):
    """Who may change what is served.

    ``local`` are the callers of this host, in a pod those within it: by exactly 127.0.0.1 and ::1, because the sidecar of a service
    mesh hands on what comes from outside from another address of the loopback network.
    """

    OFF = "off"
    LOCAL = "local"
    ALL = "all"


class _Body(msgspec.Struct, frozen=True):
    parameters: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Body).decode


def check(changing: Changing, client: str) -> None:
    """Raises CallerError where the caller at ``client``, an IP address, may not change what is served."""
    if changing is Changing.OFF:
        raise error(
            Problem.METHOD_NOT_ALLOWED,
            "what is served stays as it is: start a server with other bundles instead, or with --live-changes",
        )
    if changing is Changing.LOCAL and client not in _HERE:
        raise error(Problem.UNAUTHENTICATED, "models are loaded and unloaded by callers of the server's own host alone")


def version_in(body: bytes) -> str | None:
    """The version that a REST request names: ``{"parameters": {"version": "7"}}``. Raises CallerError."""
    if not body:
        return None
    try:
        return version_of(_decode(body).parameters)
    except msgspec.ValidationError as exc:
        raise error(Problem.INVALID_REQUEST, str(exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise error(Problem.MALFORMED_BODY, str(exc)) from exc


def version_of(parameters: Mapping[str, Any]) -> str | None:
    """The version among the parameters, which may hold nothing else that matters. Raises CallerError."""
    for name in parameters:
        # Triton's clients send the second one unasked.
        if name not in ("version", "unload_dependents"):
            raise error(Problem.INVALID_REQUEST, "is no parameter here; version is", f"/parameters/{name}")
    version = parameters.get("version")
    if version is not None and (not isinstance(version, str) or not version):
        raise error(Problem.INVALID_REQUEST, f"must be a version as text, not {version!r}", "/parameters/version")
    return version
