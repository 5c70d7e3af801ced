"""Loading, replacing and unloading while others are served, in process."""

import asyncio
import gc
import shutil
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from mlserver.errors import MLServerError, ModelNotFound
from mlserver.registry import MultiModelRegistry
from mlserver.types import RepositoryIndexRequest
from prometheus_client import REGISTRY

from signalyard_runtimes.bundle import store
from signalyard_runtimes.live.models import LiveModels, LiveSettings, Prepared
from signalyard_runtimes.mlserver.readiness import Readiness
from signalyard_runtimes.packing import pack

Forge = Callable[..., None]


class Shop(NamedTuple):
    """A folder of bundles and what serves them."""

    folder: Path
    live: LiveModels
    registry: MultiModelRegistry
    readiness: Readiness
    pack: Callable[..., str]

    async def served(self) -> dict[str, str]:
        """Version to digest."""
        return {model.version: model.scorer.card.digest for model in await self.registry.get_models()}

    async def index(self, *, ready: bool = False) -> dict[str | None, tuple[str, str]]:
        answer = await self.live.index(RepositoryIndexRequest(ready=ready))
        return {item.version: (item.state, item.reason) for item in answer.root}


@pytest.fixture(autouse=True)
def thawed() -> Any:
    yield
    gc.unfreeze()


@pytest.fixture
def shop(tmp_path: Path, rest: Any, lightgbm_spec: Any, booster_text: bytes, golden: Any) -> Callable[..., Shop]:
    def make(**settings: Any) -> Shop:
        folder = tmp_path / "models"
        folder.mkdir()

        def packed(version: str, kind: str = "first", place: str = "") -> str:
            spec = msgspec.structs.replace(lightgbm_spec, name="rb-live", version=version, training={"kind": kind})
            path = folder / (place or version)
            pack(spec, booster_text, golden, path)
            return store.read_manifest(path).digest

        prepared, readiness = Prepared(), Readiness()
        readiness.admit()
        registry = MultiModelRegistry(model_initialiser=prepared)
        live = LiveModels(
            registry, prepared, rest.data_plane, readiness, LiveSettings(models=folder, warmup=4, **settings)
        )
        return Shop(folder, live, registry, readiness, packed)

    return make


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def info(digest: str) -> float | None:
    labels = {"model": "rb-live", "version": "7", "digest": digest}
    return REGISTRY.get_sample_value("signalyard_model_info", labels)


def test_what_is_new_in_the_folder_is_loaded_and_the_rest_stays(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        seven = here.pack("7")
        await here.live.load("rb-live")
        first = await here.registry.get_model("rb-live", "7")
        here.pack("8")
        assert await here.index() == {"7": ("READY", ""), "8": ("UNAVAILABLE", "")}
        await here.live.load("rb-live")
        assert sorted(await here.served()) == ["7", "8"]
        assert await here.registry.get_model("rb-live", "7") is first  # the same digest is not loaded again
        assert (await here.registry.get_model("rb-live")).version == "8"
        assert info(seven) == 1
        assert await here.index(ready=True) == {"7": ("READY", ""), "8": ("READY", "")}

    run(work())


def test_one_version_alone_is_loaded_where_it_is_named(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        here.pack("7")
        here.pack("8")
        (here.folder / "other").mkdir()
        (here.folder / "other" / "manifest.json").write_text("{")
        await here.live.load("rb-live", "8")
        assert list(await here.served()) == ["8"]

    run(work())


def test_a_version_is_replaced_by_another_digest_and_its_memory_is_free(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        old = here.pack("7")
        await here.live.load("rb-live")
        model = await here.registry.get_model("rb-live")
        gone = [weakref.ref(model), weakref.ref(model.scorer), weakref.ref(model.scorer._engine.booster)]
        shutil.rmtree(here.folder / "7")
        new = here.pack("7", kind="second")
        assert (await here.index())["7"][1].startswith(f"the folder has {new} now")
        del model
        gc.disable()
        try:
            await here.live.load("rb-live")
            # without the collector, which never looks at what was frozen
            assert [one() for one in gone] == [None] * 3
        finally:
            gc.enable()
        assert await here.served() == {"7": new}
        assert (info(old), info(new)) == (None, 1)

    run(work())


def test_who_has_the_old_model_in_hand_still_gets_its_scores(shop: Callable[..., Shop], golden: Any) -> None:
    async def work() -> None:
        here = shop()
        here.pack("7")
        await here.live.load("rb-live")
        old = await here.registry.get_model("rb-live")
        shutil.rmtree(here.folder / "7")
        here.pack("7", kind="second")
        rows = golden.rows[:1] * 600  # so many are scored on the model's own thread
        from signalyard_runtimes.features import to_values
        from signalyard_runtimes.mlserver.budget import current

        values = to_values([value for row in rows for value in row], len(rows), 2)
        asked = [asyncio.ensure_future(old.score(current(), golden.columns, values)) for _ in range(4)]
        await asyncio.sleep(0)
        await here.live.load("rb-live")
        assert [len(answer.score) for answer in await asyncio.gather(*asked)] == [600] * 4

    run(work())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: (path / "model.txt").write_bytes(b"tree\n"), "bundle_file_changed"),
        (lambda path: (path / "golden.json").unlink(), "bundle_file_missing"),
        (lambda path: (path / "manifest.json").write_text("{"), "bundle_manifest_invalid"),
        (lambda path: (path / "more.txt").write_text(""), "bundle_file_extra"),
    ],
)
def test_a_bad_bundle_changes_nothing(shop: Callable[..., Shop], spoil: Callable[[Path], object], words: str) -> None:
    async def work() -> None:
        here = shop()
        seven = here.pack("7")
        await here.live.load("rb-live")
        shutil.rmtree(here.folder / "7")
        here.pack("7", kind="second")  # good, and yet not loaded: all of it or nothing
        here.pack("8")
        spoil(here.folder / "8")
        with pytest.raises(MLServerError, match=words) as caught:
            await here.live.load("rb-live")
        assert str(here.folder / "8") in str(caught.value)
        assert caught.value.status_code == 500
        assert await here.served() == {"7": seven}
        assert info(seven) == 1

    run(work())


def test_scores_other_than_promised_change_nothing(shop: Callable[..., Shop], forge: Forge) -> None:
    async def work() -> None:
        here = shop()
        seven = here.pack("7")
        await here.live.load("rb-live")
        here.pack("8")
        golden = msgspec.json.decode((here.folder / "8" / "golden.json").read_bytes())
        golden["score"][0] += 1e-3
        forge(here.folder / "8", golden__json=msgspec.json.encode(golden))
        with pytest.raises(MLServerError, match="bundle_golden_mismatch"):
            await here.live.load("rb-live")
        assert await here.served() == {"7": seven}

    run(work())


def test_a_bundle_that_is_not_required_is_refused(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop(require=frozenset(("sha256:" + "0" * 64,)))
        here.pack("7")
        with pytest.raises(MLServerError, match="bundle_not_required"):
            await here.live.load("rb-live")

    run(work())


def test_two_bundles_of_one_version(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        here.pack("7")
        here.pack("7", kind="second", place="seven")
        with pytest.raises(MLServerError, match="are both version 7"):
            await here.live.load("rb-live")

    run(work())


def test_two_old_versions_stay_whose_folders_are_gone(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        for version in ("6", "7", "8", "9"):
            here.pack(version)
            await here.live.load("rb-live")
            shutil.rmtree(here.folder / version)
            if version == "8":
                assert sorted(await here.served()) == ["6", "7", "8"]
        assert sorted(await here.served()) == ["7", "8", "9"]
        assert (await here.index())["7"] == ("READY", "its folder is gone; it stays loaded")

    run(work())


def test_what_the_folder_does_not_have_cannot_be_loaded(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        here.pack("7")
        await here.live.load("rb-live")
        for name, version in (("rb-live", "9"), ("rb-dead", None)):
            with pytest.raises(MLServerError, match="has no bundle of") as caught:
                await here.live.load(name, version)
            assert caught.value.status_code == 404
        assert sorted(await here.served()) == ["7"]

    run(work())


def test_a_version_is_unloaded_by_its_name_alone(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        digest = here.pack("7")
        await here.live.load("rb-live")
        with pytest.raises(MLServerError, match="say which version of rb-live to unload, of 7") as refused:
            await here.live.unload("rb-live")
        assert refused.value.status_code == 400
        with pytest.raises(MLServerError, match="version 8 of rb-live is not loaded") as unknown:
            await here.live.unload("rb-live", "8")
        assert unknown.value.status_code == 404
        await here.live.unload("rb-live", "7")
        with pytest.raises(ModelNotFound):
            await here.registry.get_model("rb-live")
        assert info(digest) is None
        await here.live.load("rb-live")
        assert await here.served() == {"7": digest}

    run(work())


def test_nothing_changes_before_the_server_is_ready_or_while_it_stops(shop: Callable[..., Shop]) -> None:
    async def work() -> None:
        here = shop()
        here.pack("7")
        here.readiness.close()
        with pytest.raises(MLServerError, match="not_ready: stopping") as caught:
            await here.live.load("rb-live")
        assert caught.value.status_code == 503

    run(work())


def test_a_model_that_cannot_be_warmed_up_is_never_served(
    shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        here = shop()
        digest = here.pack("7")

        async def none(self: Any, request: Any) -> None:
            return None

        monkeypatch.setattr("signalyard_runtimes.lanes.fast.FastLane.answer", none)
        with pytest.raises(MLServerError, match="warming up"):
            await here.live.load("rb-live")
        assert await here.served() == {}
        assert info(digest) is None

    run(work())
