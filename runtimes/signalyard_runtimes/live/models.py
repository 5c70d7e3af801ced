"""MLServer's repository API for a folder of bundles.

MLServer's own handlers are not used. They register a new version before it is loaded, so that it fails callers who name no version;
load one after another, so that a bad one leaves half a change; unload every version whose folder is gone; and forget a model when its
folder is. Here a bundle is verified, loaded and warmed up apart, and is put in its place in one step of the event loop.
"""

import asyncio
import gc
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from mlserver.registry import MultiModelRegistry
from mlserver.settings import ModelSettings
from mlserver.types import RepositoryIndexRequest, RepositoryIndexResponse, RepositoryIndexResponseItem, State

from signalyard.problems import Problem, SignalyardError, error
from signalyard.profile import ModelCard
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import Manifest, invalid
from signalyard_runtimes.drift.watch import WINDOW_SECONDS
from signalyard_runtimes.lanes.fast import FastLane
from signalyard_runtimes.lanes.target import Alone, Target
from signalyard_runtimes.live import keeping, memory
from signalyard_runtimes.mlserver.errors import to_mlserver
from signalyard_runtimes.mlserver.metrics import forget, watch_readiness
from signalyard_runtimes.mlserver.model import BundleModel
from signalyard_runtimes.mlserver.planes import BundlePlane, model_settings
from signalyard_runtimes.mlserver.readiness import Readiness
from signalyard_runtimes.warmup import warm_up_apart

_log = logging.getLogger("signalyard.serve")


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where bundles are found, how they are warmed up, and which may be served; as in `server.ServeSettings`."""

    models: Path
    warmup: int
    require: frozenset[str] = frozenset()
    trust: tuple[Path, ...] = ()
    drift_window: float = WINDOW_SECONDS


class Prepared:
    """What MLServer's registry makes of settings: the model that was prepared for them, a new one where there is none."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], Any] = {}

    def put(self, model: Any) -> None:
        """The registry's next load of its model and version takes it."""
        self._models[(model.name, model.version)] = model

    def __call__(self, settings: ModelSettings) -> Any:
        return self._models.pop((settings.name, settings.version), None) or settings.implementation(settings)


class Found(NamedTuple):
    """A bundle in the folder, of which the manifest was read and nothing else."""

    path: Path
    manifest: Manifest


class LiveModels:
    """Loads and unloads, one change after another. Errors are MLServer's, with ours as their text."""

    def __init__(
        self,
        registry: MultiModelRegistry,
        prepared: Prepared,
        plane: BundlePlane,
        readiness: Readiness,
        settings: LiveSettings,
    ) -> None:
        self._registry = registry
        self._prepared = prepared
        self._plane = plane
        self._readiness = readiness
        self._settings = settings
        self._changing = asyncio.Lock()

    async def index(self, payload: RepositoryIndexRequest) -> RepositoryIndexResponse:
        """What is loaded and what the folder has, each version with its own state."""
        found, bad = await asyncio.to_thread(_look, self._settings.models)
        loaded = {(card.model, card.version): card for card in await self._cards()}
        items = [_item(*key, State.READY, _beside(card, found)) for key, card in loaded.items()]
        if not payload.ready:
            there = {(one.manifest.name, one.manifest.version) for one in found}
            items += [_item(*key, State.UNAVAILABLE, "") for key in sorted(there - loaded.keys())]
            items += [_item(path.name, None, State.UNAVAILABLE, str(exc)) for path, exc in bad.items()]
        return RepositoryIndexResponse(root=items)

    async def load(self, name: str, version: str | None = None) -> bool:
        """Load what the folder has of ``name`` (of one version, where it is given) and is not loaded, or is with another digest.

        All of it, or nothing: where one bundle is bad, everything stays as it was. Raises MLServerError.
        """
        try:
            async with self._changing:
                await self._load(name, version)
        except SignalyardError as exc:
            _log.warning("%s: not loaded: %s", name, exc)
            raise to_mlserver(exc) from exc
        return True

    async def unload(self, name: str, version: str | None = None) -> bool:
        """Unload one version, be it the last; without one this is refused. Raises MLServerError."""
        try:
            async with self._changing:
                await self._unload(name, version)
        except SignalyardError as exc:
            raise to_mlserver(exc) from exc
        return True

    async def _load(self, name: str, version: str | None) -> None:
        self._check_open()
        cards = {card.version: card for card in await self._cards(name)}
        there = await asyncio.to_thread(self._find, name, version)
        wanted = [one for one in there if _is_new(cards.get(one.manifest.version), one.manifest)]
        models: list[Any] = []
        try:
            for one in wanted:
                models.append(await self._prepare(one))
            # What is alive leaves the collector's sight, as at the start: else the first full collection goes over all of the new model.
            gc.collect()
            gc.freeze()
            self._check_open()
        except BaseException:
            for model in models:
                forget(model.scorer.card, replaced=model.version in cards)
            raise
        gone: list[Any] = []
        for model in models:
            if model.version in cards:
                gone.append(await self._registry.get_model(name, model.version))
                forget(cards[model.version], replaced=True)
            self._prepared.put(model)
            await self._registry.load(model.settings)  # in one step: neither it nor the model waits for anything
            watch_readiness((model.scorer.card,), self._is_open)
            _log.info("%s %s: loaded, %s", name, model.version, model.scorer.card.digest)
        if version is None:
            stale = keeping.let_go(cards.keys() | {model.version for model in models}, _versions(there))
            gone += [await self._take_out(name, one) for one in stale]
        del models
        await asyncio.to_thread(memory.release, gone)

    async def _unload(self, name: str, version: str | None) -> None:
        self._check_open()
        loaded = keeping.newest_first(card.version for card in await self._cards(name))
        if not loaded or version not in (None, *loaded):
            which = name if version is None else f"version {version} of {name}"
            raise error(Problem.NOT_FOUND, f"{which} is not loaded")
        if version is None:
            raise error(
                Problem.INVALID_REQUEST,
                f"say which version of {name} to unload, of {', '.join(loaded)}: all of them are never unloaded at once",
                "/parameters/version",
            )
        gone = [await self._take_out(name, version)]
        await asyncio.to_thread(memory.release, gone)

    async def _take_out(self, name: str, version: str) -> Any:
        model = await self._registry.get_model(name, version)
        await self._registry.unload_version(name, version)
        forget(model.scorer.card, replaced=False)
        _log.info("%s %s: unloaded", name, version)
        return model

    async def _prepare(self, one: Found) -> Any:
        """A model that is loaded and warm, and that nobody can ask yet."""
        with store.naming(one.path):
            model, scorer, *more = await asyncio.to_thread(_read, one, self._settings)
            model.serve(scorer, *more)
            try:
                target = Target(model, self._plane.metrics((model.name, model.version)))
                await warm_up_apart(FastLane(Alone(target)), scorer, self._settings.warmup)
                if model.drift is not None:
                    model.drift.clear()
            except BaseException:
                forget(scorer.card, replaced=await self._is_loaded(scorer.card))
                raise
        return model

    def _find(self, name: str, version: str | None) -> list[Found]:
        """The bundles to serve. Raises ModelError for a bad one, where it may be meant: of a bad manifest nobody knows the name."""
        found, bad = _look(self._settings.models)
        if version is None and bad:
            raise next(iter(bad.values()))
        ours = [one for one in found if one.manifest.name == name and version in (None, one.manifest.version)]
        if not ours:
            which = name if version is None else f"version {version} of {name}"
            hint = f"; {next(iter(bad.values()))}" if bad else ""
            raise error(Problem.NOT_FOUND, f"{self._settings.models} has no bundle of {which}{hint}")
        seen: dict[str, Path] = {}
        for path, manifest in ours:
            store.check_required(path, manifest, self._settings.require)
            other = seen.setdefault(manifest.version, path)
            if other != path:
                raise invalid(f"{path} and {other} are both version {manifest.version} of {name}", "/version")
        return ours

    async def _cards(self, name: str | None = None) -> list[ModelCard]:
        models: Iterable[Any] = await self._registry.get_models()
        return [model.scorer.card for model in models if name in (None, model.name) and isinstance(model, BundleModel)]

    async def _is_loaded(self, card: ModelCard) -> bool:
        return any(other.version == card.version for other in await self._cards(card.model))

    def _is_open(self) -> bool:
        return self._readiness.open

    def _check_open(self) -> None:
        if not self._readiness.open:
            raise error(Problem.NOT_READY, self._readiness.reason)


def _look(folder: Path) -> tuple[list[Found], dict[Path, SignalyardError]]:
    """The bundles in the folder, and the places of those that cannot be read, with why."""
    found, bad = [], {}
    for path in store.places(folder):
        try:
            with store.naming(path):
                found.append(Found(path, store.read_manifest(path)))
        except SignalyardError as exc:
            bad[path] = exc
    return found, bad


def _read(one: Found, given: LiveSettings) -> Any:
    """A model that has not begun to serve, and what its ``serve`` takes."""
    settings = model_settings(one.path, one.manifest, given.trust, given.drift_window)
    model = settings.implementation(settings)
    return model, *model.read()


def _is_new(card: ModelCard | None, manifest: Manifest) -> bool:
    return card is None or card.digest != manifest.digest


def _versions(found: Iterable[Found]) -> frozenset[str]:
    return frozenset(one.manifest.version for one in found)


def _beside(card: ModelCard, found: Iterable[Found]) -> str:
    """What the folder has in place of a loaded bundle, empty where it is the same."""
    for _, manifest in found:
        if (manifest.name, manifest.version) == (card.model, card.version):
            return "" if manifest.digest == card.digest else f"the folder has {manifest.digest} now; load replaces it"
    return "its folder is gone; it stays loaded"


def _item(name: str, version: str | None, state: State, reason: str) -> RepositoryIndexResponseItem:
    return RepositoryIndexResponseItem(name=name, version=version, state=state, reason=reason)
