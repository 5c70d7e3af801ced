"""The rules that ship: right for Prometheus, told in full, and each alert seen silent, firing and recovered."""

import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from expressions import parsed

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("helm/*/files/rules/*.yaml"))
CASES = sorted((Path(__file__).parent / "promtool").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
JOBS = {"router": "ROUTER", "model": "MODEL"}
RECORD = re.compile(r"[a-z]+(_[a-z]+)*:signalyard_[a-z_]+:[a-z0-9_]+")


def groups(file):
    return yaml.safe_load(file.read_text())["groups"]


def rules(kind):
    return [
        pytest.param(file, rule, id=rule[kind])
        for file in FILES
        for group in groups(file)
        for rule in group["rules"]
        if kind in rule
    ]


ALERTS, RECORDS = rules("alert"), rules("record")


def minutes(duration):
    assert duration.endswith("m")
    return int(duration[:-1])


def test_prometheus_takes_them(promtool):
    done = subprocess.run([promtool, "check", "rules", *FILES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_do_what_they_say(promtool):
    done = subprocess.run([promtool, "test", "rules", *CASES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(CASES)


def test_every_alert_is_seen_silent_firing_and_recovered():
    seen = defaultdict(set)
    for file in CASES:
        for test in yaml.safe_load(file.read_text())["tests"]:
            looks = defaultdict(list)
            for look in test["alert_rule_test"]:
                looks[look["alertname"]].append((minutes(look["eval_time"]), bool(look["exp_alerts"])))
            for alert, found in looks.items():
                firing = [time for time, fires in found if fires]
                if not firing:
                    continue
                seen[alert].add("firing")
                quiet = [time for time, fires in found if not fires]
                seen[alert] |= {"silent" for time in quiet if time < min(firing)}
                seen[alert] |= {"recovered" for time in quiet if time > max(firing)}
    lacking = {
        name: {"silent", "firing", "recovered"} - seen[name]
        for name in (rule.id for rule in ALERTS)
        if seen[name] != {"silent", "firing", "recovered"}
    }
    assert not lacking
    assert set(seen) == {rule.id for rule in ALERTS}


def test_names_are_unique():
    names = [rule.id for rule in (*ALERTS, *RECORDS)]
    assert len(names) == len(set(names))
    named = [group["name"] for file in FILES for group in groups(file)]
    assert len(named) == len(set(named))


@pytest.mark.parametrize(("file", "alert"), ALERTS)
def test_an_alert_says_what_it_is(file, alert):
    assert re.fullmatch(r"Signalyard[A-Z][A-Za-z0-9]+", alert["alert"])
    labels, notes = alert["labels"], alert["annotations"]
    assert labels["severity"] in {"critical", "warning", "info"}
    assert labels["team"] in {"trading", "platform"}
    assert labels["component"] == file.parts[-4]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert len(notes["summary"]) <= 80
    assert "{{" not in notes["summary"]  # one line for a pager, the same for every route
    base, page = notes["runbook_url"].split("/")
    assert base == "RUNBOOKS"  # the chart's word
    assert alert["alert"].startswith(page.removesuffix(".md"))
    assert (RUNBOOKS / page).is_file()


@pytest.mark.parametrize(("file", "record"), RECORDS)
def test_a_record_is_named_level_metric_operation(file, record):
    assert RECORD.fullmatch(record["record"])
    levels = record["record"].split(":")[0].split("_")
    (by,) = {tuple(re.split(r", ", found)) for found in re.findall(r"by \(([a-z, ]+)\)", record["expr"])}
    assert {"namespace", "job", *levels} == set(by) - {"le"}


@pytest.mark.parametrize(("file", "rule"), [*ALERTS, *RECORDS])
def test_a_rule_sees_its_own_release_alone(file, rule):
    selectors, _ = parsed(rule["expr"])
    assert selectors
    for selector in selectors:
        assert {("job", JOBS[file.parts[-4]]), ("namespace", "NAMESPACE")} <= selector.equal, selector


def test_the_runbooks_are_those_of_the_alerts():
    pages = {rule.values[1]["annotations"]["runbook_url"].removeprefix("RUNBOOKS/") for rule in ALERTS}
    assert {page.name for page in RUNBOOKS.glob("*.md")} == pages | {"index.md"}
    index = (RUNBOOKS / "index.md").read_text()
    for rule in ALERTS:
        assert f"`{rule.id}`" in index
    for page in pages:
        headings = [line for line in (RUNBOOKS / page).read_text().splitlines() if line.startswith("## ")]
        assert headings == ["## What it means", "## How to look", "## What to do", "## When it clears"], page
