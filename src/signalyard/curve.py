"""CURVE, ZeroMQ's encryption: keys, and the files that hold them. It needs the extra ``zeromq``.

A key is 32 bytes, written as 40 characters (Z85). A file holds the secret one; the public one follows from it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import zmq

from signalyard.problems import Problem, error

LENGTH = 40
"""Characters of a key."""


@dataclass(frozen=True)
class KeyPair:
    """Who one is to others, and what proves it."""

    public: str
    secret: str = field(repr=False)


def new_pair() -> KeyPair:
    """Another pair, of the operating system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def key_pair(secret: str) -> KeyPair:
    """The pair of a secret key. Raises ValueError where it is none; the text does not show it."""
    if not _is_key(secret):
        raise ValueError(f"a key has {LENGTH} characters, Z85; this has {len(secret)}, or others among them")
    return KeyPair(zmq.curve_public(secret.encode()).decode(), secret)


def public_key(text: str) -> bytes:
    """A public key as libzmq takes it. Raises ValueError where it is none."""
    if not _is_key(text):
        raise ValueError(f"a public key has {LENGTH} characters, Z85, which {text!r} has not")
    return text.encode()


def read_key(path: Path, pointer: str) -> KeyPair:
    """The pair of the secret key in a file. Raises CallerError (invalid_setting) with ``pointer``."""
    try:
        return key_pair(path.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as exc:
        raise error(Problem.INVALID_SETTING, f"the key in {path} cannot be used: {exc}", pointer) from exc


def _is_key(text: str) -> bool:
    if len(text) != LENGTH or not text.isascii():
        return False
    try:
        zmq.curve_public(text.encode())  # any 32 bytes will do for one, so it refuses nothing but what is not Z85
    except zmq.ZMQError:
        return False
    return True
