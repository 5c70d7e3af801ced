"""The report says what failed, and passes only when nothing did."""

import dataclasses
import json
from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from signalyard_demo.audit import Answered, Audit, Finding
from signalyard_demo.data import generated_ticks
from signalyard_demo.replay import CALM, FROZEN, Tally
from signalyard_demo.report import Report, Screen, conclude, quantiles
from signalyard_demo.train import Study, train

ANSWER = Answered("X.Y", 1, 0, "p1", "abstained", "no_direction", None, None)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return train(generated_ticks(30_000), tmp_path_factory.mktemp("models"))


def a_good_tally() -> Tally:
    tally = Tally(total=1, kills=1, repeated=1, repeated_equal=1)
    tally.answers.append(ANSWER)
    tally.latencies = {CALM: [0.001], FROZEN: [0.05]}
    return tally


def a_good_audit() -> Audit:
    return Audit(records=3, decisions=1, failover=1, outcomes=Counter(abstained=1), worst_elapsed_us=900)


def report(study: Study, tally: Tally, audit: Audit) -> Report:
    return conclude(study, ["X.Y"], ("a", "b"), tally, audit, 100.0)


def test_a_good_run_passes_and_says_that_its_data_was_made_up(study: Study) -> None:
    good = report(study, a_good_tally(), a_good_audit())
    assert good.passed
    assert json.loads(json.dumps(good.plain()))["passed"] is True
    out = StringIO()
    Screen(Console(file=out, width=100)).report(good)
    assert "GENERATED DATA" in out.getvalue()
    assert "nothing lost" in out.getvalue()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"total": 2}, "2 snapshots, 1 decisions"),
        ({"repeated_equal": 0}, "another decision than before"),
        ({"latencies": {CALM: [0.121], FROZEN: []}}, "past the deadline"),
        ({"kills": 0}, "was to be killed"),
    ],
)
def test_what_went_wrong_in_the_replay_is_said(study: Study, change, text: str) -> None:
    bad = report(study, dataclasses.replace(a_good_tally(), **change), a_good_audit())
    assert not bad.passed
    assert text in bad.failures[0]


def test_what_the_audit_found_is_said(study: Study) -> None:
    audit = a_good_audit()
    audit.failover = 0
    audit.findings.append(Finding("chain", 2, "prev is not the hash of the line before"))
    bad = report(study, a_good_tally(), audit)
    assert bad.failures == [
        "the frozen model server went unnoticed: the standby never answered",
        "journal, chain: 1 findings",
    ]
    out = StringIO()
    Screen(Console(file=out, width=100)).report(bad)
    assert "record 2, chain: prev is not the hash" in out.getvalue()
    assert "FAILED" in out.getvalue()


def test_quantiles_are_values_that_occurred() -> None:
    found = quantiles([value / 1e3 for value in range(1, 101)])
    assert (found.calls, found.p50, found.p99, found.worst) == (100, 51.0, 100.0, 100.0)
    assert quantiles([]).calls == 0
