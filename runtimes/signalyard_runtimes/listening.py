"""The ports of a server."""

import socket
from collections.abc import Mapping

from signalyard.problems import Problem, error


def listen(host: str, port: int, purpose: str) -> socket.socket:
    """A socket that listens. Raises CallerError (invalid_setting) where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        raise error(
            Problem.INVALID_SETTING, f"cannot listen for {purpose} on {address(host, port)}: {exc.strerror or exc}"
        ) from exc
    listening.setblocking(False)
    return listening


def check_free(host: str, ports: Mapping[str, int]) -> None:
    """Raise CallerError (invalid_setting) where a port, by its purpose, cannot be had now: to load the models first takes seconds."""
    for purpose, port in ports.items():
        listen(host, port, purpose).close()


def address(host: str, port: int) -> str:
    """Host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
