"""What the archive can be told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ArchiveSettings:
    """Where the archive is. Who may write there, the store's own environment variables say (AWS_*, GOOGLE_*, AZURE_*)."""

    url: str
    """``s3://bucket/path``, ``gs://bucket/path``, ``az://container/path`` or ``file:///folder``. One journal to a URL."""

    request_seconds: int = 60
    """How long, in seconds, one request to the store may take."""
