"""Pulling, with a store in memory: what is asked for, what is kept, and what stands where when it goes wrong."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from signalyard.problems import CallerError, ModelError, Problem, SignalyardError, error
from signalyard_runtimes.bundle import archive, store
from signalyard_runtimes.bundle.manifest import Manifest
from signalyard_runtimes.remote import place as places
from signalyard_runtimes.remote.address import Address
from signalyard_runtimes.remote.meter import Meter
from signalyard_runtimes.remote.patience import Patience
from signalyard_runtimes.remote.pull import pull
from signalyard_runtimes.remote.push import push
from signalyard_runtimes.remote.transport import Download

Make = Callable[..., tuple[Path, str]]
PIECE = 700


class Memory:
    """A store of one archive, whose ``faults`` befall one fetch after the other."""

    def __init__(self, body: bytes, ranges: bool = True) -> None:
        self.body = body
        self.ranges = ranges
        self.offsets: list[int] = []
        self.sent = 0
        self.faults: list[SignalyardError | int] = []  # an error at once, or the bytes after which it is cut off
        self.meanwhile: Callable[[], None] = lambda: None

    def fetch(self, digest: str, offset: int) -> Download:
        self.offsets.append(offset)
        self.meanwhile()
        fault = self.faults.pop(0) if self.faults else len(self.body)
        if isinstance(fault, SignalyardError):
            raise fault
        start = offset if self.ranges else 0
        return Download(offset=start, size=len(self.body), pieces=self._pieces(start, fault))

    def _pieces(self, start: int, most: int) -> Iterator[bytes]:
        end = min(start + most, len(self.body))
        for place in range(start, end, PIECE):
            piece = self.body[place : min(place + PIECE, end)]
            self.sent += len(piece)
            yield piece

    def send(self, archive: Path, manifest: Manifest) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, SignalyardError):
            raise fault
        self.body = archive.read_bytes()


class Pulling:
    """``pull`` with what it needs; no pause is waited for."""

    def __init__(self, memory: Memory, digest: str) -> None:
        self.memory = memory
        self.digest = digest
        self.pauses: list[float] = []
        self.said = io.StringIO()

    def __call__(self, out: Path, cache: Path | None = None, digest: str | None = None) -> Manifest:
        patience = Patience(60, sleep=self.pauses.append, chance=lambda: 1.0)
        with Meter("pulling", self.said) as meter:
            return pull(lambda: self.memory, digest or self.digest, out, cache=cache, patience=patience, meter=meter)


@pytest.fixture
def pulling(plain_bundle: Make) -> Pulling:
    folder, digest = plain_bundle(model=b"tree\n" * 1000, more__notes=b"why")
    body = io.BytesIO()
    archive.write(folder, body)
    return Pulling(Memory(body.getvalue()), digest)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


BUNDLE = {"manifest.json", "model.txt", "golden.json", "more"}
DOWN = error(Problem.BUNDLE_STORE_UNREACHABLE, "down")


@pytest.mark.parametrize("there", [False, True])
def test_into_a_new_folder_or_an_empty_one(pulling: Pulling, tmp_path: Path, there: bool) -> None:
    out = tmp_path / "models" / "rb-trend-7"
    if there:
        out.mkdir(parents=True)
        mount = out.stat().st_ino
    manifest = pulling(out)
    assert (manifest.version, names(out), names(out.parent)) == ("7", BUNDLE, {"rb-trend-7"})
    assert store.read(out, pulling.digest)
    if there:
        assert out.stat().st_ino == mount  # it may be a mount point: it was not replaced


def test_what_is_there_is_not_asked_for(pulling: Pulling, tmp_path: Path) -> None:
    pulling(tmp_path / "out")
    pulling(tmp_path / "out")
    assert pulling.memory.offsets == [0]


def test_the_cache_is_not_asked_for_either(pulling: Pulling, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pulling(tmp_path / name, cache=tmp_path / "cache")
    assert pulling.memory.offsets == [0]
    assert (tmp_path / "cache" / f"{pulling.digest[7:]}.tar").read_bytes() == pulling.memory.body


def test_a_damaged_cache_is_fetched_anew(pulling: Pulling, tmp_path: Path) -> None:
    pulling(tmp_path / "a", cache=tmp_path / "cache")
    kept = tmp_path / "cache" / f"{pulling.digest[7:]}.tar"
    kept.write_bytes(kept.read_bytes().replace(b"tree", b"treE", 1))
    pulling(tmp_path / "b", cache=tmp_path / "cache")
    assert (pulling.memory.offsets, kept.read_bytes()) == ([0, 0], pulling.memory.body)
    assert "of no use (bundle_file_changed): fetching it anew" in pulling.said.getvalue()


def test_a_download_that_was_cut_off_goes_on_where_it_was(pulling: Pulling, tmp_path: Path) -> None:
    memory = pulling.memory
    memory.faults = [1000, 1000, DOWN]
    pulling(tmp_path / "out")
    # The last byte is asked for once more, so that there is always one to ask for.
    assert memory.offsets == [0, 999, 1998, 1998]
    assert memory.sent == len(memory.body) + 2


def test_attempts_end_and_what_arrived_is_there_for_the_next(pulling: Pulling, tmp_path: Path) -> None:
    memory = pulling.memory
    memory.faults = [2000, DOWN, DOWN, DOWN, DOWN]
    with pytest.raises(ModelError) as caught:
        pulling(tmp_path / "out")
    assert (caught.value.problem, caught.value.detail) == (Problem.BUNDLE_STORE_UNREACHABLE, "down; tried 5 times")
    assert pulling.pauses == [0.5, 1.0, 2.0, 4.0]
    assert not (tmp_path / "out").exists()
    pulling(tmp_path / "out")
    assert memory.offsets == [0, 1999, 1999, 1999, 1999, 1999]
    assert {"out"} < names(tmp_path)
    assert not [name for name in names(tmp_path) if name.endswith(".pull")]


def test_an_attempt_that_brings_something_starts_the_count_again(pulling: Pulling, tmp_path: Path) -> None:
    pulling.memory.faults = [DOWN, DOWN, DOWN, 500, DOWN, DOWN, DOWN, 500, DOWN]
    pulling(tmp_path / "out")
    assert len(pulling.memory.offsets) == 10


def test_a_server_without_ranges_gives_all_of_it_again(pulling: Pulling, tmp_path: Path) -> None:
    memory = pulling.memory
    memory.ranges = False
    memory.faults = [1000]
    pulling(tmp_path / "out")
    assert (memory.offsets, memory.sent) == ([0, 999], len(memory.body) + 1000)


@pytest.mark.parametrize("problem", [Problem.BUNDLE_NOT_FOUND, Problem.BUNDLE_ACCESS_DENIED])
def test_what_another_attempt_would_not_change_is_not_tried_again(
    pulling: Pulling, tmp_path: Path, problem: Problem
) -> None:
    pulling.memory.faults = [error(problem, "no")]
    before = names(tmp_path)
    with pytest.raises(ModelError) as caught:
        pulling(tmp_path / "out")
    assert (caught.value.problem, len(pulling.memory.offsets)) == (problem, 1)
    assert names(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
def test_other_bytes_never_stand_there(pulling: Pulling, tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    other = "sha256:" + "0" * 64
    with pytest.raises(ModelError) as caught:
        pulling(out, digest=other)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED
    assert caught.value.detail == f"this bundle is {pulling.digest}, asked for was {other}"
    assert out.exists() == there
    if there:
        assert names(out) == set()


def test_a_file_that_was_changed_in_the_store(pulling: Pulling, tmp_path: Path) -> None:
    pulling.memory.body = pulling.memory.body.replace(b"tree", b"treE", 1)
    with pytest.raises(ModelError) as caught:
        pulling(tmp_path / "out")
    assert (caught.value.problem, caught.value.pointer) == (Problem.BUNDLE_FILE_CHANGED, "/files/model.txt/sha256")
    assert not (tmp_path / "out").exists()


def test_what_arrived_of_something_else_is_dropped(pulling: Pulling, tmp_path: Path) -> None:
    memory, right = pulling.memory, pulling.memory.body
    memory.body = b"<html>" + bytes(len(right) - 6)
    memory.faults = [1000, error(Problem.BUNDLE_ACCESS_DENIED, "no")]
    with pytest.raises(ModelError):
        pulling(tmp_path / "out", cache=tmp_path / "cache")
    memory.body = right
    pulling(tmp_path / "out", cache=tmp_path / "cache")
    assert memory.offsets == [0, 999, 999, 0]


def test_more_than_was_promised(pulling: Pulling, tmp_path: Path) -> None:
    body = pulling.memory.body

    class Longer(Memory):
        def fetch(self, digest: str, offset: int) -> Download:
            return Download(offset=0, size=len(body), pieces=iter([body, b"x"]))

    pulling.memory = Longer(body)
    with pytest.raises(ModelError, match=f"more than {len(body)} bytes arrive"):
        pulling(tmp_path / "out")


@pytest.mark.parametrize("what", ["file", "bundle", "other"])
def test_a_place_that_is_taken(pulling: Pulling, plain_bundle: Make, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("x")
    elif what == "bundle":
        out = plain_bundle(version="8")[0]
    else:
        out.mkdir()
        (out / "notes").write_text("mine")
    words = {"file": "is no folder", "bundle": "a bundle is never changed", "other": "it holds 'notes'"}[what]
    with pytest.raises(CallerError) as caught:
        pulling(out)
    assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_SETTING, "/out")
    assert words in caught.value.detail
    assert pulling.memory.offsets == []


def test_a_bundle_that_was_damaged_where_it_stands_is_said_and_not_mended(pulling: Pulling, tmp_path: Path) -> None:
    pulling(tmp_path / "out")
    (tmp_path / "out" / "model.txt").write_text("tree")
    with pytest.raises(ModelError) as caught:
        pulling(tmp_path / "out")
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED


def test_a_place_that_cannot_be_written(pulling: Pulling, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CallerError, match="cannot be written"):
        pulling(tmp_path / "file" / "out")


@pytest.mark.parametrize("files", range(4))
def test_killed_while_the_files_are_moved_in(
    pulling: Pulling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """Whenever it dies, there is no manifest before the rest is there, and the next attempt ends it."""
    out = tmp_path / "out"
    out.mkdir()
    moved = 0

    class Dying(type(tmp_path)):  # type: ignore[misc]
        def replace(self, target: Path) -> Path:
            nonlocal moved
            if moved == files:
                raise KeyboardInterrupt
            moved += 1
            return super().replace(target)

    draft = places.Place.draft
    with monkeypatch.context() as patch:
        patch.setattr(places.Place, "draft", lambda self: Dying(draft(self)))
        with pytest.raises(KeyboardInterrupt):
            pulling(out)
    assert "manifest.json" not in names(out)
    pulling(out)
    assert names(out) == BUNDLE


def test_killed_between_the_manifest_and_the_clearing_up(
    pulling: Pulling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(places.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            pulling(out)
    assert names(out) > BUNDLE
    pulling(out)
    assert (names(out), pulling.memory.offsets) == (BUNDLE, [0])


@pytest.mark.parametrize("inside", [False, True])
def test_two_pulls_of_one_bundle_to_one_place(pulling: Pulling, tmp_path: Path, inside: bool) -> None:
    out = tmp_path / "out"
    if inside:
        out.mkdir()
    second_waits = threading.Event()
    pulling.memory.meanwhile = lambda: second_waits.wait(10) and None
    failed: list[BaseException] = []

    def run(patience: Patience) -> None:
        try:
            with Meter("pulling", io.StringIO()) as meter:
                pull(lambda: pulling.memory, pulling.digest, out, cache=None, patience=patience, meter=meter)
        except BaseException as exc:  # noqa: BLE001 - the test shows it
            failed.append(exc)

    pause = threading.Event()

    def sleep(seconds: float) -> None:
        second_waits.set()
        pause.wait(seconds)

    threads = [threading.Thread(target=run, args=(Patience(30, sleep=sleep),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert (pulling.memory.offsets, names(out)) == ([0], BUNDLE)
    assert not [name for name in names(tmp_path) if name.endswith(".pull")]


def test_who_waits_too_long_for_another_says_so(pulling: Pulling, tmp_path: Path) -> None:
    place = places.Place(tmp_path / "out", pulling.digest)
    with place.held(Patience(10)), pytest.raises(ModelError) as caught, Meter("pulling", io.StringIO()) as meter:
        pull(
            lambda: pulling.memory,
            pulling.digest,
            tmp_path / "out",
            cache=None,
            patience=Patience(0.2),
            meter=meter,
        )
    assert (caught.value.problem, caught.value.detail) == (Problem.BUNDLE_TRANSFER_TIMEOUT, "not done after 0.2 s")


@pytest.mark.parametrize("where", ["call", "pieces"])
def test_a_library_that_hangs(pulling: Pulling, tmp_path: Path, where: str) -> None:
    never = threading.Event()

    class Hanging(Memory):
        def fetch(self, digest: str, offset: int) -> Download:
            if where == "call":
                never.wait(30)
            return Download(offset=0, size=10, pieces=self.hang())

        def hang(self) -> Iterator[bytes]:
            yield b"x"
            never.wait(30)

    patience = Patience(60, stall_seconds=0.1, sleep=lambda seconds: None)
    with pytest.raises(ModelError) as caught, Meter("pulling", io.StringIO()) as meter:
        pull(lambda: Hanging(b""), pulling.digest, tmp_path / "out", cache=None, patience=patience, meter=meter)
    never.set()
    assert (caught.value.problem, caught.value.detail) == (
        Problem.BUNDLE_STORE_UNREACHABLE,
        "nothing arrived for 0.1 s; tried 5 times",
    )


def test_a_pause_that_would_outlast_the_time_is_not_begun() -> None:
    now = [0.0]
    patience = Patience(1.0, clock=lambda: now[0], sleep=lambda seconds: None, chance=lambda: 1.0)
    assert patience.pause(DOWN, progress=False) == 0.5
    now[0] = 0.5
    with pytest.raises(ModelError) as caught:
        patience.pause(DOWN, progress=False)
    assert caught.value is DOWN
    now[0] = 1.0
    with pytest.raises(ModelError, match="not done after 1 s"):
        _ = patience.remaining


@pytest.mark.parametrize(
    ("scheme", "path", "whole"),
    [
        ("s3", "", "s3://m/rb-trend-7.tar"),
        ("s3", "a/", "s3://m/a/rb-trend-7.tar"),
        ("s3", "a.tar", "s3://m/a.tar"),
        ("oci", "a", "oci://m/a:7"),
    ],
)
def test_a_push_completes_the_address_and_is_tried_again(
    plain_bundle: Make, pulling: Pulling, scheme: str, path: str, whole: str
) -> None:
    folder, digest = plain_bundle(model=b"tree\n" * 1000, more__notes=b"why")
    memory, patience = Memory(b""), Patience(60, sleep=lambda seconds: None)
    memory.faults = [DOWN]
    with Meter("pushing", io.StringIO()) as meter:
        address = Address(scheme=scheme, place="m", path=path)
        sent, manifest = push(lambda address: memory, folder, address, patience=patience, meter=meter)
    assert (str(sent), manifest.digest, memory.body) == (whole, digest, pulling.memory.body)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "words"), [(io.StringIO, "pulling: 3.0 of"), (Terminal, "━")])
def test_what_takes_more_than_two_seconds_is_shown(kind: type[io.StringIO], words: str) -> None:
    now, stream = [0.0], kind()
    with Meter("pulling", stream, clock=lambda: now[0]) as meter:
        meter.at(1_000_000, 4_000_000)
        assert stream.getvalue() == ""
        now[0] = 2.0
        meter.at(3_000_000)
        now[0] = 3.0
        meter.at(3_500_000)
        meter.say("a line")
    shown = stream.getvalue().replace("3.0 MB of", "3.0 of")
    assert words in shown
    assert "a line" in shown
    assert ("3.5" in shown) == (kind is Terminal)
