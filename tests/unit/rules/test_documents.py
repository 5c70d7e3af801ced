import asyncio
import copy

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from signalyard.problems import CallerError, Problem
from signalyard.words import Track
from signalyard_router.adapters.files.store import FileRouteStore
from signalyard_router.rules.documents import canonical, in_namespace, parse_document, revision
from signalyard_router.rules.route import FlatRung, ModelRung, TrackRung, compile_route
from signalyard_router.rules.units import nanoseconds, rate

TEXT = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {name: rb-trend}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: 100ms
  tracks:
    - {name: stable,  version: "7", weight: 90, endpoint: {service: rb-trend-stable, port: 8080}}
    - {name: canary,  version: "8", weight: 10, endpoint: {service: rb-trend-canary, port: 8080}}
    - {name: standby, version: "6", endpoint: {service: rb-trend-standby, port: 8080}}
  ladder: [{standby: "6"}, {skip: {}}]
  mapping: {long: {enter: 0.6, exit: 0.52}, short: {enter: 0.4, exit: 0.48}, position: {scale: linear, max: 1.0}}
  filters: {directions: [long, short, flat], minConfidence: 0.55}
  dedupe: {window: 5s}
  limits: {signals: 60/min, flips: 4/min}
  sessions:
    timezone: Asia/Shanghai
    hours: [09:00-10:15, "21:00-02:30"]
    holidays: [2026-10-01, "2026-10-02"]
  alerts: {noSignal: 5m, surge: off, degraded: "off", drift: on}
"""


def document():
    return yaml.safe_load(TEXT)


def compiled(data):
    return compile_route(parse_document(data, "rb.yaml"), place="rb.yaml")


def put(data, path, value):
    *parents, name = path
    for step in parents:
        data = data[step]
    if value is REMOVE:
        del data[name]
    else:
        data[name] = value


REMOVE = object()


def test_a_good_document_becomes_a_route():
    route = compiled(document())
    assert route.weights == {Track.STABLE: 9_000, Track.CANARY: 1_000}
    assert [type(rung) for rung in route.ladder] == [TrackRung]
    assert route.deadline == 100_000_000
    assert route.gate.window == 5_000_000_000
    assert (route.gate.signals.count, route.gate.flips.count) == (60, 4)


def test_sessions_and_alerts_as_yaml_reads_them():
    route = compiled(document())
    assert not route.sessions.open_at(1_790_818_200_000_000_000)  # 1 October 2026, 09:30 in Shanghai
    assert route.sessions.open_at(1_790_645_400_000_000_000)  # two days before
    assert (route.alerts.no_signal, route.alerts.surge, route.alerts.degraded) == (300_000_000_000, None, None)
    assert (route.alerts.min_confidence, route.alerts.late) == (0.5, 0.01)
    quoted = document()
    quoted["spec"]["alerts"]["surge"] = "off"
    assert compiled(quoted).revision == route.revision
    del quoted["spec"]["sessions"]
    assert compiled(quoted).sessions is None


def test_the_shipped_ladder_is_every_standby_then_skip():
    data = document()
    del data["spec"]["ladder"]
    assert [rung.target.version for rung in compiled(data).ladder] == ["6"]


def test_every_kind_of_rung():
    data = document()
    data["spec"]["ladder"] = [
        {"standby": "6"},
        {"model": {"name": "momentum", "version": "1", "endpoint": {"service": "momentum", "port": 8080}}},
        {"flat": {"after": "30s"}},
        {"skip": {}},
    ]
    assert [type(rung) for rung in compiled(data).ladder] == [TrackRung, ModelRung, FlatRung]


@pytest.mark.parametrize(
    ("path", "value", "pointer", "says"),
    [
        (("spec", "modle"), "x", "/spec", "modle"),
        (("spec", "model"), 7, "/spec/model", "str"),
        (("spec", "deadline"), "100 ms", "/spec/deadline", "write a duration such as 100ms"),
        (("spec", "deadline"), "0ms", "/spec/deadline", "more than zero"),
        (("spec", "limits", "signals"), "60 a minute", "/spec/limits/signals", "write a rate such as 60/min"),
        (("spec", "limits", "flips"), "9999/min", "/spec/limits/flips", "at most 1000"),
        (("spec", "tracks", 0, "weight"), 80, "/spec/tracks", "the weights must add up to 100, they are 80 + 10"),
        (("spec", "tracks", 0, "weight"), -1, "/spec/tracks/0/weight", ">= 0"),
        (("spec", "tracks", 0, "weight"), 90.001, "/spec/tracks/0/weight", "two decimals"),
        (("spec", "tracks", 2, "weight"), 5, "/spec/tracks/2/weight", "a standby takes no weight"),
        (("spec", "tracks", 1, "name"), "stable", "/spec/tracks/1/name", "there is a stable track already"),
        (("spec", "tracks", 0, "name"), "blue", "/spec/tracks/0/name", "blue"),
        (("spec", "tracks", 0, "endpoint", "port"), 70000, "/spec/tracks/0/endpoint/port", "65535"),
        (("spec", "tracks", 0, "endpoint"), REMOVE, "/spec/tracks/0", "endpoint"),
        (("spec", "tracks"), [], "/spec/tracks", "length"),
        (("spec", "instruments"), [], "/spec/instruments", "length"),
        (
            ("spec", "ladder"),
            [{"skip": {}}, {"standby": "6"}],
            "/spec/ladder/1",
            "never reached: rung 0 (skip) always answers",
        ),
        (("spec", "ladder"), [{"standby": "5"}], "/spec/ladder/0/standby", "no standby track has version '5'"),
        (("spec", "ladder"), [{}], "/spec/ladder/0", "exactly one of"),
        (("spec", "ladder"), [{"standby": "6", "skip": {}}], "/spec/ladder/0", "exactly one of"),
        (("spec", "ladder"), [{"flat": {}}], "/spec/ladder/0/flat", "after"),
        (("spec", "ladder"), [{"flat": {"after": "0s"}}], "/spec/ladder/0/flat/after", "more than zero"),
        (("spec", "mapping"), {}, "/spec/mapping", "at least one of long and short"),
        (("spec", "mapping", True), "score", "/spec/mapping", "quoted"),
        (("spec", "mapping", "long", "exit"), 0.7, "/spec/mapping/long/exit", "at or below where it begins"),
        (("spec", "mapping", "short", "exit"), 0.3, "/spec/mapping/short/exit", "at or above where it begins"),
        (("spec", "mapping", "long", "exit"), 0.4, "/spec/mapping/long/exit", "one score means both"),
        (("spec", "mapping", "short", "exit"), 0.6, "/spec/mapping/short/exit", "one score means both"),
        (("spec", "mapping", "long", "enter"), float("nan"), "/spec/mapping/long/enter", "finite"),
        (("spec", "filters", "minConfidence"), 1.5, "/spec/filters/minConfidence", "<= 1"),
        (("spec", "filters", "directions"), [], "/spec/filters/directions", "at least one"),
        (("spec", "filters", "directions"), ["up"], "/spec/filters/directions/0", "up"),
        (("spec", "pin"), {"rb2410.SHFE": "standby"}, "/spec/pin", "no such track"),
        (("metadata", "name"), "RB Trend", "/metadata/name", "lower-case"),
        (("kind",), "Route", "/kind", "Route"),
        (("spec", "halted"), True, "/spec", "halted"),
        (("spec", "sessions", "timezone"), "Asia/Shangai", "/spec/sessions/timezone", "no time zone is named"),
        (("spec", "sessions", "timezone"), "../passwd", "/spec/sessions/timezone", "no time zone is named"),
        (("spec", "sessions", "timezone"), "Asia", "/spec/sessions/timezone", "no time zone is named"),
        (("spec", "sessions", "timezone"), REMOVE, "/spec/sessions", "timezone"),
        (("spec", "sessions", "hours", 1), "9:00-10:00", "/spec/sessions/hours/1", "write hours such as 09:00-10:15"),
        (("spec", "sessions", "hours", 1), "09:00-24:30", "/spec/sessions/hours/1", "write hours such as 09:00-10:15"),
        (("spec", "sessions", "hours", 1), "09:00-09:00", "/spec/sessions/hours/1", "a whole day is 00:00-24:00"),
        (("spec", "sessions", "hours", 1), "10:00-11:00", "/spec/sessions/hours/1", "overlaps hours before it"),
        (("spec", "sessions", "hours"), [], "/spec/sessions/hours", "length"),
        (("spec", "sessions", "days"), ["mon", "monday"], "/spec/sessions/days/1", "monday"),
        (("spec", "sessions", "days"), [], "/spec/sessions/days", "length"),
        (("spec", "sessions", "holidays"), ["2026-02-30"], "/spec/sessions/holidays/0", "date"),
        (("spec", "sessions", "holidays"), "XSHG", "/spec/sessions/holidays", "array"),
        (("spec", "alerts", "noSignal"), "soon", "/spec/alerts/noSignal", "write a duration such as 10m, or off"),
        (("spec", "alerts", "noSignal"), "0s", "/spec/alerts/noSignal", "between 1 s and 24 h"),
        (("spec", "alerts", "noSignal"), True, "/spec/alerts/noSignal", "write a duration such as 10m, or off"),
        (("spec", "alerts", "window"), "25h", "/spec/alerts/window", "between 1 s and 24 h"),
        (("spec", "alerts", "surge"), 300, "/spec/alerts/surge", "str"),
        (("spec", "alerts", "surge"), "300", "/spec/alerts/surge", "write an increase such as 300%, or off"),
        (("spec", "alerts", "surgeFloor"), 0, "/spec/alerts/surgeFloor", ">= 1"),
        (("spec", "alerts", "degraded"), 5, "/spec/alerts/degraded", "<= 1.0"),
        (("spec", "alerts", "degraded"), "none", "/spec/alerts/degraded", "none"),
        (("spec", "alerts", "degarded"), 0.1, "/spec/alerts", "degarded"),
    ],
)
def test_a_bad_document_is_refused_by_the_name_of_its_field(path, value, pointer, says):
    data = document()
    put(data, path, value)
    with pytest.raises(CallerError) as refused:
        compiled(data)
    assert refused.value.problem is Problem.INVALID_DOCUMENT
    assert refused.value.pointer == pointer
    assert refused.value.detail.startswith("rb.yaml: ")
    assert says in refused.value.detail


@pytest.mark.parametrize("data", [None, [], "text", 7, {}])
def test_what_is_no_document_at_all(data):
    with pytest.raises(CallerError, match="invalid_document"):
        parse_document(data, "rb.yaml")


durations = st.sampled_from(["1us", "20ms", "2.5s", "10m", "1h"])
documents = st.fixed_dictionaries(
    {
        "model": st.text(min_size=1, max_size=20).filter(str.isprintable),
        "instruments": st.lists(st.sampled_from(["rb*.SHFE", "ES.CME", "*"]), min_size=1, unique=True),
        "canary": st.integers(0, 100),
        "long": st.floats(0.5, 1).map(lambda value: round(value, 3)),
        "short": st.floats(0, 0.49).map(lambda value: round(value, 3)),
        "deadline": durations,
        "window": durations,
        "pin": st.dictionaries(st.sampled_from(["rb2410.SHFE", "ES.CME"]), st.sampled_from(["stable", "canary"])),
        "limits": st.sampled_from([{}, {"signals": "60/min"}, {"flips": "4/min", "signals": "1/s"}]),
        "ladder": st.sampled_from([None, [], [{"standby": "6"}], [{"flat": {"after": "30s"}}, {"skip": {}}]]),
    }
)


@given(documents, st.randoms())
def test_any_document_comes_back_with_the_same_revision(parts, random):
    data = document()
    spec = data["spec"]
    for name in ("model", "instruments", "deadline", "pin", "limits", "ladder"):
        spec[name] = parts[name]
    spec["dedupe"] = {"window": parts["window"]}
    spec["tracks"][0]["weight"], spec["tracks"][1]["weight"] = 100 - parts["canary"], parts["canary"]
    spec["mapping"] = {"long": {"enter": parts["long"]}, "short": {"enter": parts["short"]}}
    first = parse_document(data, "one")
    again = parse_document(msgspec.json.decode(canonical(first)), "two")
    assert again == first
    assert revision(again) == revision(first)
    through_yaml = parse_document(yaml.safe_load(yaml.safe_dump(msgspec.to_builtins(first))), "three")
    assert revision(through_yaml) == revision(first)
    shuffled = copy.deepcopy(data)
    keys = list(shuffled["spec"])
    random.shuffle(keys)
    shuffled["spec"] = {key: shuffled["spec"][key] for key in keys}
    assert revision(parse_document(shuffled, "four")) == revision(first)
    assert compile_route(again).revision == revision(first)


def test_another_document_has_another_revision():
    data = document()
    data["spec"]["dedupe"]["window"] = "6s"
    assert revision(parse_document(data, "x")) != revision(parse_document(document(), "x"))


def test_a_folder_of_files(tmp_path):
    (tmp_path / "a.yaml").write_text(TEXT + "---\n" + TEXT.replace("rb-trend}", "second}"))
    (tmp_path / "notes.txt").write_text("not a document")
    assert [(doc.metadata.name, place) for doc, place in asyncio.run(FileRouteStore(tmp_path).load())] == [
        ("rb-trend", "a.yaml, document 1"),
        ("second", "a.yaml, document 2"),
    ]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds no route"),
        ({"a.yaml": "spec: [\n"}, "a.yaml, line 2, column 1: not YAML"),
        ({"a.yaml": "kind: x\nkind: y\n"}, "a.yaml, line 2, column 1: not YAML: the key 'kind' is given twice"),
        ({"a.yaml": b"\xff\xfe\x00"}, "a.yaml cannot be read"),
        ({"a.yaml": TEXT, "b.yaml": TEXT}, "the route 'rb-trend' is defined in a.yaml already"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, files, says):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CallerError) as refused:
        asyncio.run(FileRouteStore(tmp_path).load())
    assert says in refused.value.detail


@pytest.mark.parametrize(
    ("text", "value"), [("100ms", 10**8), ("2.5s", 25 * 10**8), ("1us", 10**3), ("2h", 72 * 10**11)]
)
def test_durations(text, value):
    assert nanoseconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "5 s", "-5s", "5d", "1e3s", "s", "5s\n"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        nanoseconds(text)


@pytest.mark.parametrize("text", ["0/min", "60", "60/day", "-1/s", "1.5/s"])
def test_what_is_no_rate(text):
    with pytest.raises(ValueError, match="not a rate"):
        rate(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("!!map x", "expected a mapping node"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: !!float x", "could not convert"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("[" * 100_000, "not YAML"),
        ("- " * 100_000 + "x", "not YAML"),
        ("{a: " * 50_000, "not YAML"),
        ('"\\ud800"', "cannot be written"),
        ('"\\U00110000"', "not YAML"),
    ],
)
def test_yaml_that_its_library_stumbles_over_is_told_like_any_other(tmp_path, text, says):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(CallerError) as refused:
        asyncio.run(FileRouteStore(tmp_path).load())
    assert refused.value.problem is Problem.INVALID_DOCUMENT
    assert says in refused.value.detail


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/metadata/name", "rb\n"),
        ("/spec/deadline", "100ms\n"),
        ("/spec/model", "rb\x1b[2J"),
        ("/spec/tracks/0/endpoint/service", "a\r\nb"),
        ("/spec/tracks/0/weight", float("nan")),
        ("/spec/validFor", "999999999h"),
    ],
)
def test_values_that_the_journal_could_not_hold_are_refused(pointer, value):
    data = document()
    *path, last = [int(part) if part.isdigit() else part for part in pointer.split("/")[1:]]
    place = data
    for part in path:
        place = place[part]
    place[last] = value
    with pytest.raises(CallerError) as refused:
        parse_document(data, "rb.yaml")
    assert refused.value.pointer == pointer


def test_a_file_name_that_is_no_text_is_a_place_all_the_same(tmp_path):
    with open(bytes(tmp_path) + b"/\xffa\n.yaml", "w") as file:
        file.write(yaml.safe_dump(document()))
    ((_, place),) = asyncio.run(FileRouteStore(tmp_path).load())
    assert place == "\\udcffa\\n.yaml"


def test_a_namespace_says_where_services_are_and_is_no_part_of_the_revision():
    document = parse_document(yaml.safe_load(TEXT), "rb.yaml")
    resource = in_namespace(document, "trading")
    assert revision(resource) == revision(document)
    assert compile_route(document).tracks[Track.STABLE].target.endpoints[0].host == "rb-trend-stable"
    assert compile_route(resource).tracks[Track.STABLE].target.endpoints[0].host == "rb-trend-stable.trading.svc"
    assert parse_document(msgspec.json.decode(canonical(resource)), "the journal") == resource


@pytest.mark.parametrize("host", ["models.example.org", "10.0.0.7", "fd00::7"])
def test_a_host_is_a_host_in_a_namespace_too(host):
    data = yaml.safe_load(TEXT)
    data["spec"]["tracks"][0]["endpoint"]["service"] = host
    route = compile_route(in_namespace(parse_document(data, "rb.yaml"), "trading"))
    assert route.tracks[Track.STABLE].target.endpoints[0].host == host


def test_a_file_may_be_one_that_is_meant_for_a_cluster(tmp_path):
    data = yaml.safe_load(TEXT)
    data["metadata"] |= {"namespace": "trading", "labels": {"team": "a"}, "annotations": {"note": "b"}}
    (tmp_path / "rb.yaml").write_text(yaml.safe_dump(data))
    ((document, _),) = asyncio.run(FileRouteStore(tmp_path).load())
    assert document == parse_document(yaml.safe_load(TEXT), "rb.yaml")


def test_a_namespace_is_written_as_one():
    data = yaml.safe_load(TEXT)
    data["metadata"]["namespace"] = "Trading Desk"
    with pytest.raises(CallerError, match="a namespace's name") as raised:
        parse_document(data, "rb.yaml")
    assert raised.value.pointer == "/metadata/namespace"
