"""A server's URL, as people may see it."""

from urllib.parse import urlsplit


def shown(url: str) -> str:
    """A URL as it may be logged: without user and password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"
