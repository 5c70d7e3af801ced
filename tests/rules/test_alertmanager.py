"""The example for Alertmanager: taken by its own checker, and each alert ends with the people, or the silence, that it should."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "manifests" / "alertmanager.yaml"
CONFIG = yaml.safe_load(EXAMPLE.read_text())
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')

ALERTS = {
    rule["alert"]: rule["labels"]
    for file in ROOT.glob("helm/*/files/rules/*.yaml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def alert(name, **labels):
    """An alert as it arrives, of the route rb in the namespace desk unless said otherwise."""
    own = {label: value.replace("MODEL", "rb") for label, value in ALERTS[name].items()}
    return {"alertname": name, "namespace": "desk", "route": "rb"} | own | labels


def matches(matchers, labels):
    for text in matchers:
        name, operator, value = MATCHER.fullmatch(text).groups()
        held = labels.get(name, "")
        found = re.fullmatch(value, held) is not None if "~" in operator else held == value
        if found is operator.startswith("!"):
            return False
    return True


def silenced(target, source):
    """Whether an alert is not told while another fires, as Alertmanager judges it."""
    return target != source and any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(name, "") == target.get(name, "") for name in rule["equal"])
        for rule in CONFIG["inhibit_rules"]
    )


def test_alertmanager_takes_it(amtool):
    done = subprocess.run([amtool, "check-config", EXAMPLE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "receivers"),
    [
        ("SignalyardRouterMissing", "pager"),
        ("SignalyardModelNotReady", "pager"),
        ("SignalyardNoSignalFeedSilent", "pager,desk"),
        ("SignalyardSignalSurge", "pager,desk"),
        ("SignalyardLowConfidence", "desk"),
        ("SignalyardHalted", "desk"),
        ("SignalyardVersionDrift", "log"),
        ("SignalyardErrorBudgetBurn3d", "log"),
        ("SignalyardNoSignalHalted", "log"),
    ],
)
def test_who_is_told(amtool, name, receivers):
    labels = [f"{label}={value}" for label, value in alert(name).items()]
    command = [amtool, "config", "routes", "test", f"--config.file={EXAMPLE}", f"--verify.receivers={receivers}"]
    done = subprocess.run([*command, *labels], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_that_is_named_is_one_that_there_is():
    for rule in CONFIG["inhibit_rules"]:
        for text in (*rule["source_matchers"], *rule["target_matchers"]):
            label, operator, value = MATCHER.fullmatch(text).groups()
            if label != "alertname":
                continue
            for pattern in re.split(r"\|(?![^(]*\))", value):
                assert any(re.fullmatch(pattern, name) for name in ALERTS), pattern
            assert operator in ("=", "=~", "!=")


SYMPTOMS = [
    "SignalyardNoSignalModelSilent",
    "SignalyardDegraded",
    "SignalyardDeadlineMissed",
    "SignalyardLatencyHigh",
    "SignalyardErrorBudgetBurn1h",
]


@pytest.mark.parametrize("source", ["SignalyardModelMissing", "SignalyardModelNotReady", "SignalyardTrackNotReady"])
@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_model_that_is_down_silences_its_symptoms(source, symptom):
    assert silenced(alert(symptom), alert(source))
    assert not silenced(alert(symptom, route="cu"), alert(source))
    assert not silenced(alert(symptom, namespace="other"), alert(source))
    assert not silenced(alert(source), alert(symptom))


def test_a_model_that_is_down_says_nothing_of_the_feed():
    for name in ("SignalyardNoSignalFeedSilent", "SignalyardHalted", "SignalyardSignalSurge", "SignalyardVersionDrift"):
        assert not silenced(alert(name), alert("SignalyardModelMissing"))


@pytest.mark.parametrize("name", [name for name in ALERTS if name.startswith("SignalyardNoSignal")])
def test_a_halt_silences_what_it_explains(name):
    assert silenced(alert(name), alert("SignalyardHalted", scope="route"))
    assert not silenced(alert(name), alert("SignalyardHalted", scope="instrument"))
    assert not silenced(alert(name, route="cu"), alert("SignalyardHalted", scope="route"))


def test_a_router_that_is_missing_silences_the_rest_of_its_alerts():
    source = {**alert("SignalyardRouterMissing"), "route": ""}
    for name, labels in ALERTS.items():
        if name != "SignalyardRouterMissing":
            assert silenced(alert(name), source) is (labels["component"] == "router"), name
    assert not silenced(source, source)
    assert not silenced(alert("SignalyardHalted", namespace="other"), source)


def test_nothing_silences_itself_or_goes_in_a_circle():
    every = [alert(name) | {"scope": "route"} for name in ALERTS]
    by = {
        target["alertname"]: {source["alertname"] for source in every if silenced(target, source)} for target in every
    }
    for name, sources in by.items():
        seen, found = set(), set(sources)
        while found:
            seen |= found
            found = set().union(*(by[source] for source in found)) - seen
        assert name not in seen
