"""What becomes of complete segments: a checkpoint at the end of each, a copy in the archive, and in the end their removal.

It runs in tasks of its own beside the journal, and holds nothing that a commit waits for. A store that fails or hangs only keeps
segments from being dropped.
"""

import asyncio
import logging

from prometheus_client import CollectorRegistry

from signalyard.problems import SignalyardError
from signalyard_router.journal.archiver import Archiver
from signalyard_router.journal.checkpoint import Checkpoint, checkpoint_name, checkpoint_number, checkpoints, encode
from signalyard_router.journal.local import LocalJournal, Rotated
from signalyard_router.journal.metrics import ArchiveMetrics, UpkeepMetrics
from signalyard_router.journal.retention import Complete, expendable
from signalyard_router.journal.segments import Ends, ends, segment_name, segment_number, segments
from signalyard_router.journal.settings import JournalSettings, UpkeepSettings
from signalyard_router.ports import AppendFile, Archive, World

_CHECKPOINTS = 2
"""How many are kept: should the newest be damaged, the one before and the segments since then are enough."""

_log = logging.getLogger("signalyard.router.journal")


class Upkeep:
    """Looks after the segments of a journal that is open. Raises OSError where the folder cannot be read."""

    def __init__(
        self,
        world: World,
        settings: JournalSettings,
        upkeep: UpkeepSettings,
        journal: LocalJournal,
        registry: CollectorRegistry,
        archive: Archive | None = None,
    ) -> None:
        self._disk = world.disk
        self._folder = settings.folder
        self._settings = settings
        self._upkeep = upkeep
        self._journal = journal
        self._metrics = UpkeepMetrics(registry)
        self._archive_metrics = ArchiveMetrics(registry) if archive is not None else None
        self._archiver = (
            Archiver(self._disk, self._folder, archive, self._archive_metrics)
            if archive is not None and self._archive_metrics is not None
            else None
        )
        self._complete: dict[str, Complete] = {}
        self._unarchived: dict[str, Ends] = {}
        self._checkpoints: list[str] = []
        self._pending: Checkpoint | None = None
        self._files: list[AppendFile] = []
        self._rotated = asyncio.Event()
        self._to_archive = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        for name in segments(self._disk, self._folder):
            if segment_number(name) < segment_number(journal.segment):
                self._add(name)
        # Those behind the one that the journal was opened from were passed over, and stand on no chain.
        self._checkpoints = [
            name
            for name in checkpoints(self._disk, self._folder)
            if checkpoint_number(name) <= segment_number(journal.restored)
        ]
        if self._archive_metrics is not None:
            self._archive_metrics.age.set_function(self._oldest_waiting)
            self._archive_metrics.waiting.set_function(lambda: len(self._unarchived))
        self._metrics.segments.set_function(lambda: len(self._complete))

    def start(self) -> None:
        """Begin. Needs the running event loop."""
        self._journal.on_rotation = self._on_rotation
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep())]
        if self._archiver is not None:
            self._tasks.append(loop.create_task(self._archive(self._archiver)))

    async def close(self) -> None:
        """Stop. What is not archived is found again at the next start."""
        self._journal.on_rotation = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for file in self._files:
            file.close()
        self._files = []

    def _on_rotation(self, rotated: Rotated) -> None:
        self._files.append(rotated.file)
        self._pending = rotated.checkpoint
        self._rotated.set()

    def _add(self, name: str) -> None:
        """Take a complete segment into account. Reads its two ends."""
        found, size, damage = None, 0, ""
        try:
            size = self._disk.size(f"{self._folder}/{name}")
            found = ends(self._disk, self._folder, name)
            damage = "it does not end with a line" if found is None and size else ""
        except (OSError, SignalyardError) as exc:
            damage = str(exc)
        if damage:
            _log.error("event=segment_damaged segment=%s error=%s", name, damage)
        self._complete[name] = Complete(name, size, found.last_t if found else 0, bool(damage))
        if found is not None and self._archiver is not None:
            self._unarchived[name] = found
            self._to_archive.set()

    def _oldest_waiting(self) -> float:
        waiting = next(iter(self._unarchived.values()), None)
        return max(0, self._journal.now - waiting.last_t) / 1e9 if waiting is not None else 0.0

    # Checkpoints and retention ---------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._upkeep.look_seconds):
                    await self._rotated.wait()
            except TimeoutError:
                self._journal.try_again()
                self._journal.rotate_if_due()
            self._rotated.clear()
            try:
                self._complete_new()
                await self._checkpoint()
                await self._drop()
            except OSError as exc:
                _log.error("event=upkeep_failed folder=%s error=%s", self._folder, exc)

    def _complete_new(self) -> None:
        known = max(map(segment_number, self._complete), default=0)
        for name in segments(self._disk, self._folder):
            if known < segment_number(name) < segment_number(self._journal.segment):
                self._add(name)

    async def _checkpoint(self) -> None:
        """Write what stands at the end of the newest complete segment; older ones that wait are not needed any more."""
        checkpoint, self._pending = self._pending, None
        files, self._files = self._files, []
        if checkpoint is None:
            return
        name = checkpoint_name(segment_number(checkpoint.segment))
        try:
            try:
                # The checkpoint must not be on the medium before the records that it stands for.
                for file in files:
                    await file.write_and_sync(b"")
                await self._disk.replace(f"{self._folder}/{name}", encode(checkpoint))
            finally:
                for file in files:
                    file.close()
        except OSError as exc:
            self._metrics.unwritten.inc()
            _log.error("event=checkpoint_failed checkpoint=%s error=%s", name, exc)
            return
        self._metrics.written.inc()
        self._checkpoints.append(name)
        _log.info("event=checkpoint_written checkpoint=%s seq=%d", name, checkpoint.seq)

    async def _drop(self) -> None:
        kept = self._checkpoints[-_CHECKPOINTS:]
        for name in checkpoints(self._disk, self._folder):
            if name not in kept:
                await self._disk.remove(f"{self._folder}/{name}")
        self._checkpoints = kept
        if len(kept) < _CHECKPOINTS:
            return
        gone = expendable(
            list(self._complete.values()),
            anchor=segment_name(checkpoint_number(kept[0])),
            archived=None if self._archiver is None else self._complete.keys() - self._unarchived.keys(),
            keep_bytes=self._settings.keep_bytes,
            keep_age=self._settings.keep_age,
            now=self._journal.now,
        )
        for name in gone:
            await self._disk.remove(f"{self._folder}/{name}")
            size = self._complete.pop(name).size
            self._metrics.dropped.inc()
            self._metrics.dropped_bytes.inc(size)
            _log.info("event=segment_dropped segment=%s bytes=%d", name, size)

    # The archive -----------------------------------------------------------------------------------------------------

    async def _archive(self, archiver: Archiver) -> None:
        assert self._archive_metrics is not None
        pause = self._upkeep.first_pause_seconds
        while True:
            waiting = next(iter(self._unarchived.values()), None)
            if waiting is None:
                self._to_archive.clear()
                await self._to_archive.wait()
                continue
            try:
                async with asyncio.timeout(self._upkeep.archive_seconds):
                    await archiver.keep(self._journal.epoch, waiting)
            except OSError as exc:  # TimeoutError is one
                self._archive_metrics.failed.inc()
                text = str(exc) or f"no end within {self._upkeep.archive_seconds:g} s"
                _log.error("event=archive_failed segment=%s retry_seconds=%g error=%s", waiting.segment, pause, text)
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._upkeep.longest_pause_seconds)
            else:
                pause = self._upkeep.first_pause_seconds
                del self._unarchived[waiting.segment]
                self._archive_metrics.archived.inc()
                _log.info("event=segment_archived segment=%s last_seq=%d", waiting.segment, waiting.last_seq)
                self._rotated.set()  # it may be dropped now
