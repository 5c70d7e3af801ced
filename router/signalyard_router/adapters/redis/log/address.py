"""Where Redis is, as people write it."""

import ssl
from urllib.parse import unquote, urlsplit

import msgspec

from signalyard.problems import Problem, SignalyardError, error


class Address(msgspec.Struct, frozen=True):
    """A URL of Redis, taken apart. ``shown`` is without user and password, for people."""

    host: str
    port: int
    database: int
    user: str
    password: str
    tls: bool

    @property
    def shown(self) -> str:
        """The URL without what is secret."""
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
    if parts.scheme not in ("redis", "rediss"):
        raise _refuse("it begins with something else")
    if not parts.hostname:
        raise _refuse("it names no host")
    database = parts.path.strip("/") or "0"
    if not database.isdigit():
        raise _refuse(f"the database {database!r} is no number")
    return Address(
        host=parts.hostname,
        port=port,
        database=int(database),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
    )


def _refuse(why: str) -> SignalyardError:
    text = f"give redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS: {why}"
    return error(Problem.INVALID_SETTING, text, "/journal-redis")
