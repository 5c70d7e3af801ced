"""What a router in process can be told."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from signalyard_router.journal.settings import JournalSettings, UpkeepSettings
from signalyard_router.main import ProcessSettings
from signalyard_router.settings import RouterSettings


@dataclass(frozen=True, kw_only=True)
class InlineSettings:
    """Everything that a router in process is told. The journal is its own: one process writes there, this one."""

    models: Path = Path("models")
    """The folder of the bundles: they stand in it, in its folders, or in theirs."""

    routes: Path = Path("routes")
    """The folder of the route documents. Their endpoints say nothing here: a version is answered by its bundle."""

    trust: tuple[Path, ...] = ()
    """PEM files of public keys, or folders of them: with any, only bundles that one of these keys has signed are loaded."""

    journal: JournalSettings = field(default_factory=JournalSettings)

    archive: str | None = None
    """The URL of the store where complete segments of the journal are kept."""

    upkeep: UpkeepSettings = field(default_factory=UpkeepSettings)
    router: RouterSettings = field(default_factory=RouterSettings)

    max_rows: int = 1_000
    """How many snapshots may be decided at once; meanwhile nothing else is."""

    def of_router(self) -> ProcessSettings:
        """The part that concerns the router."""
        # models of this process share no calls, so a snapshot that waited for others would gain nothing
        router = replace(self.router, gather=False)
        return ProcessSettings(
            routes=self.routes, archive=self.archive, upkeep=self.upkeep, router=router, journal=self.journal
        )
