"""Opening an archive by its URL. The library behind it is imported late: whoever has no archive needs none."""

from signalyard.problems import Problem, error
from signalyard_router.ports import Archive


def open_archive(url: str | None, *, create: bool = False) -> Archive | None:
    """The archive at a URL, or None without one; ``create``: to be written, so that a folder may be made for it.

    Raises CallerError (invalid_setting).
    """
    if not url:
        return None
    try:
        from signalyard_router.adapters.archive.settings import ArchiveSettings
        from signalyard_router.adapters.archive.store import ObstoreArchive
    except ModuleNotFoundError as exc:
        raise error(
            Problem.INVALID_SETTING,
            f"an archive needs the package {exc.name!r}: install signalyard[archive]",
            "/archive",
        ) from exc
    return ObstoreArchive(ArchiveSettings(url=url), create=create)
