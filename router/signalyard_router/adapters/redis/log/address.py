"""Where Redis is, as people write it."""

import ssl
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from signalyard.problems import Problem, SignalyardError, error


class Address(msgspec.Struct, frozen=True):
    """A URL of Redis, taken apart; ``path`` is that of a socket in the file system, empty where there is a host. ``shown`` is without user
    and password, for people."""

    host: str
    port: int
    database: int
    user: str
    password: str
    tls: bool
    path: str = ""

    @property
    def shown(self) -> str:
        """The URL without what is secret."""
        if self.path:
            return f"unix://{self.path}?db={self.database}"
        return f"redis{'s' if self.tls else ''}://{self.host}:{self.port}/{self.database}"

    def context(self) -> ssl.SSLContext | None:
        """How to speak TLS, None where it is not spoken."""
        return ssl.create_default_context() if self.tls else None


def address_of(url: str) -> Address:
    """Take a URL apart. Raises CallerError (invalid_setting); its text does not hold the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError as exc:
        raise _refuse("the port is no number") from exc
    if parts.scheme == "unix":
        return _socket_of(parts)
    if parts.scheme not in ("redis", "rediss"):
        raise _refuse("it begins with something else")
    if not parts.hostname:
        raise _refuse("it names no host")
    return Address(
        host=parts.hostname,
        port=port,
        database=_database(parts.path.strip("/")),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
    )


def _socket_of(parts: SplitResult) -> Address:
    if parts.hostname or not parts.path.strip("/"):
        raise _refuse("a socket is unix:///PATH, with three slashes")
    options = parse_qs(parts.query, keep_blank_values=True)
    if set(options) - {"db"} or len(options.get("db", [])) > 1:
        raise _refuse("of a socket nothing but db=DATABASE can be asked for")
    return Address(
        host="",
        port=0,
        database=_database(options.get("db", [""])[0]),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=False,
        path=unquote(parts.path),
    )


def _database(word: str) -> int:
    if word and not (word.isascii() and word.isdigit()):
        raise _refuse(f"the database {word!r} is no number")
    return int(word or "0")


def _refuse(why: str) -> SignalyardError:
    text = (
        f"give redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, or unix:///PATH[?db=DATABASE]: {why}"
    )
    return error(Problem.INVALID_SETTING, text, "/journal-redis")
