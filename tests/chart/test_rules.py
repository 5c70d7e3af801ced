"""The rule files in the charts: loaded whole, made this release's, changed by name."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import helm_python
import promql_parser
import pytest
import yaml
from rendered.charts import CHARTS, HELM, Rendered, changed, render, values_of
from rendered.schemas import validate

WORDS = {"model": ("MODEL", "NAMESPACE", "RUNBOOKS"), "router": ("ROUTER", "NAMESPACE", "RUNBOOKS")}
USES = {"model": "03-monitored", "router": "02-several-namespaces"}

FILE = """
groups:
  - name: one
    interval: 1m
    rules:
      - record: model:signals:rate
        expr: sum by (job) (rate(signals_total{job="MODEL",namespace="NAMESPACE"}[10m]))
      - alert: Silent
        expr: model:signals:rate{job="MODEL"} == 0 and on () (rate(x10m_total[10m]) > 10.5)
        for: 10m
        labels: {severity: warning, team: trading}
        annotations:
          summary: "{{ $labels.job }} is silent"
          runbook_url: RUNBOOKS/Silent.md
"""


def files(chart: str) -> list[Path]:
    return sorted((HELM / chart / "files" / "rules").glob("*.yaml"))


def rules(release: Rendered) -> dict[str, dict[str, Any]]:
    (found,) = release.of("PrometheusRule").values()
    return {rule.get("alert", rule.get("record")): rule for group in found["spec"]["groups"] for rule in group["rules"]}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """The model chart with a rule file of this test."""
    copied = tmp_path / "model"
    shutil.copytree(HELM / "model", copied)
    for path in (copied / "files" / "rules").iterdir():
        path.unlink()
    (copied / "files" / "rules" / "one.yaml").write_text(FILE)
    return copied


def with_rules(chart: Path, **change: Any) -> dict[str, dict[str, Any]]:
    values = changed(
        values_of("model", "01-first-install"),
        rules={"enabled": True, "runbooks": "https://runbooks.example.com", "change": change},
    )
    return rules(render(chart, values))


@pytest.mark.parametrize("chart_name", CHARTS)
def test_every_rule_that_ships_is_in_the_release_as_its_own(chart_name: str) -> None:
    shipped = [
        rule.get("alert", rule.get("record"))
        for path in files(chart_name)
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert shipped
    assert len(shipped) == len(set(shipped))
    found = rules(render(chart_name, values_of(chart_name, USES[chart_name])))
    assert sorted(found) == sorted(shipped)
    for rule in found.values():
        promql_parser.parse(rule["expr"])
        text = json.dumps(rule)
        assert [word for word in WORDS[chart_name] if re.search(rf"\b{word}\b", text)] == []


@pytest.mark.parametrize("chart_name", CHARTS)
def test_every_alert_can_be_shortened_by_values(chart_name: str) -> None:
    values = values_of(chart_name, USES[chart_name])
    alerts = [name for name, rule in rules(render(chart_name, values)).items() if "alert" in rule]
    shortened = changed(values, rules__change={name: {"for": "1s", "labels": {"severity": "page"}} for name in alerts})
    release = render(chart_name, shortened)
    assert {(each["for"], each["labels"]["severity"]) for each in rules(release).values() if "alert" in each} == {
        ("1s", "page")
    }
    validate(*release.of("PrometheusRule").values())


def test_words_of_the_files_become_this_releases(chart: Path) -> None:
    found = with_rules(chart)
    assert (
        found["model:signals:rate"]["expr"]
        == 'sum by (job) (rate(signals_total{job="rb-trend",namespace="trading"}[10m]))'
    )
    assert found["Silent"]["annotations"] == {
        "summary": "{{ $labels.job }} is silent",
        "runbook_url": "https://runbooks.example.com/Silent.md",
    }


def test_a_rule_is_changed_by_its_name_and_only_where_it_is_said(chart: Path) -> None:
    change = {
        "for": "0s",
        "keepFiringFor": "5m",
        "labels": {"severity": "page"},
        "replace": {"10m": "30s", "10.5": "2"},
    }
    found = with_rules(chart, Silent=change)
    silent = found["Silent"]
    # A longer word with the same beginning or end is another word.
    assert silent["expr"] == 'model:signals:rate{job="rb-trend"} == 0 and on () (rate(x10m_total[30s]) > 2)'
    assert (silent["for"], silent["keep_firing_for"]) == ("0s", "5m")
    assert silent["labels"] == {"severity": "page", "team": "trading"}
    assert "[10m]" in found["model:signals:rate"]["expr"]


def test_a_rule_can_be_left_out(chart: Path) -> None:
    assert list(with_rules(chart, Silent={"enabled": False})) == ["model:signals:rate"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Loud": {"for": "1s"}}, ["rules.change.Loud", "Silent", "model:signals:rate"]),
        ({"Silent": {"replace": {"11m": "1s"}}}, ["rules.change.Silent.replace", "11m", "x10m_total"]),
        ({"Silent": {"replace": {"10": "1"}}}, ["rules.change.Silent.replace"]),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(chart: Path, change: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        with_rules(chart, **change)
    assert [part for part in said if part not in str(refused.value)] == []


@pytest.mark.parametrize("chart_name", CHARTS)
def test_every_dashboard_is_a_config_map_for_grafanas_sidecar(chart_name: str) -> None:
    shipped = {path.name: path.read_text() for path in (HELM / chart_name / "files" / "dashboards").glob("*.json")}
    maps = render(chart_name, values_of(chart_name, USES[chart_name])).of("ConfigMap")
    boards = [each for each in maps.values() if each["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert len(boards) == len(shipped)
    held = {name: text for each in boards for name, text in each["data"].items()}
    assert {name: json.loads(text) for name, text in held.items()} == {n: json.loads(t) for n, t in shipped.items()}
