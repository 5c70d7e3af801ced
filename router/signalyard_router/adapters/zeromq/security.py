"""Who may connect, and whom we trust: what of it the settings say. Pure but for the files.

CURVE encrypts, and proves both sides by their keys (https://rfc.zeromq.org/spec/26/).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import zmq

from signalyard.curve import KeyPair, public_key, read_key
from signalyard.problems import Problem, error
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.loopback import is_loopback


@dataclass(frozen=True)
class Security:
    """Our own pair, and the names of those who may connect at the start, by their public keys."""

    own: KeyPair
    clients: Mapping[bytes, str]

    def listen(self, socket: "zmq.Socket[bytes]", domain: str) -> None:
        """Have a socket that will be bound take only whom the `Doorkeeper` lets in."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        # Without it, everybody is let in while nobody keeps the door.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def connect(self, socket: "zmq.Socket[bytes]", server: bytes) -> None:
        """Have a socket whose next connection is to one that has this public key."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.own.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret.encode())


def read_security(settings: ZeromqSettings) -> Security | None:
    """None where there is no key. Raises CallerError (invalid_setting) where a file cannot be used, or where what is said would leave
    the machine readable for others."""
    if settings.key is None:
        if settings.clients is not None:
            raise error(Problem.INVALID_SETTING, "clients are known by CURVE, which needs a key", "/zeromq-key")
        _refuse_exposed(settings)
        return None
    return Security(read_key(settings.key, "/zeromq-key"), known_clients(settings))


def known_clients(settings: ZeromqSettings) -> dict[bytes, str]:
    """Who may connect, as the file says now. Raises CallerError (invalid_setting) where it cannot be used, or names nobody though
    somebody is to connect."""
    clients: dict[bytes, str] = {}
    if settings.clients is not None:
        try:
            text = settings.clients.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise error(Problem.INVALID_SETTING, f"the clients cannot be read: {exc}", "/zeromq-clients") from exc
        clients = read_clients(text)
    if not clients and (settings.requests or settings.signals):
        raise error(Problem.INVALID_SETTING, "with a key, nobody connects but who is named there", "/zeromq-clients")
    return clients


def read_clients(text: str) -> dict[bytes, str]:
    """Lines of ``NAME PUBLIC-KEY``; empty ones and those that begin with # count for nothing.

    Raises CallerError (invalid_setting) naming the line.
    """
    clients: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        try:
            name, key = parts
            clients[public_key(key)] = name
        except ValueError as exc:
            text = f"line {number} must read: NAME PUBLIC-KEY, the key 40 characters, as signalyard route curve-key says it"
            raise error(Problem.INVALID_SETTING, text, "/zeromq-clients") from exc
    return clients


def publisher(address: str, security: Security | None) -> tuple[str, bytes | None]:
    """The address of a publisher, and its public key where one stands behind it: ``tcp://HOST:PORT#PUBLIC-KEY``.

    Raises CallerError (invalid_setting) where the two do not go together with the settings.
    """
    where, _, key = address.partition("#")
    pointer = "/zeromq-snapshots"
    if security is None:
        if key:
            raise error(
                Problem.INVALID_SETTING, f"{where} has a public key, but we have none of our own", "/zeromq-key"
            )
        return where, None
    if not key:
        text = f"with a key of ours, {where} needs its publisher's public key behind it: {where}#PUBLIC-KEY"
        raise error(Problem.INVALID_SETTING, text, pointer)
    try:
        return where, public_key(key)
    except ValueError as exc:
        raise error(Problem.INVALID_SETTING, f"{where}: {exc}", pointer) from exc


def is_exposed(address: str) -> bool:
    """Whether others than this machine's can reach an address, or be reached there."""
    kind, separator, rest = address.partition("://")
    if not separator or kind in ("ipc", "inproc"):
        return False  # what is no address at all is said by libzmq
    return not is_loopback(rest.rpartition(":")[0].strip("[]"))


def _refuse_exposed(settings: ZeromqSettings) -> None:
    if settings.plain:
        return
    named = [("/zeromq-requests", settings.requests), ("/zeromq-signals", settings.signals)]
    named += [("/zeromq-snapshots", address) for address in settings.snapshots]
    for pointer, address in named:
        if address and is_exposed(address):
            text = f"on {address} anybody could read along and ask: give a key and clients, listen on 127.0.0.1, "
            text += "or say --zeromq-plain where the network keeps others out"
            raise error(Problem.INVALID_SETTING, text, pointer)
