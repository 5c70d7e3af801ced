"""The address of a router."""

from urllib.parse import urlsplit

from signalyard.problems import Problem, error


def read_url(url: str) -> tuple[str, int, str, str]:
    """Host, port, authority (what the Host header says) and path prefix. Raises CallerError (invalid_setting)."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        host = parts.hostname
        right = url.isascii() and url.isprintable() and " " not in url and host is not None
    except ValueError:
        right = False
    if not right or parts.scheme != "http" or parts.query or parts.fragment or "@" in parts.netloc:
        raise error(
            Problem.INVALID_SETTING,
            f"the router's url is written as http://HOST:PORT, with a path if it has one; it is {url!r}",
            "/url",
        )
    return host or "", port, parts.netloc, parts.path.rstrip("/")
