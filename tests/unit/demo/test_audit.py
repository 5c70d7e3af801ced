"""The audit finds what is wrong in journals that were doctored by hand, and nothing in one that is right."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from signalyard_demo.audit import Answered, Audit, Rules, audit

SECOND = 1_000_000_000
RULES = Rules(
    window=5 * SECOND,
    valid_for=5 * SECOND,
    deadline_us=100_000,
    long_enter=0.6,
    long_exit=0.52,
    short_enter=0.4,
    short_exit=0.48,
    min_confidence=0.55,
    signals=4,
    flips=2,
    tracks={"stable": "7", "canary": "8"},
    standbys=("6",),
)


class Story:
    """Writes records as a right journal would have them; a test then bends what it is about."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = [{"kind": "start", "v": 1, "t": 0, "epoch": 9}]

    def decision(self, seconds: float, **fields: Any) -> dict[str, Any]:
        time = int(seconds * SECOND)
        record = {
            "kind": "decision",
            "v": 1,
            "t": time,
            "proposal_id": f"p{len(self.records)}",
            "outcome": "abstained",
            "reason": "no_direction",
            "symbol": "X.Y",
            "ts_event": time,
            "ts_recv": 1,
            "route": "r",
            "score": 0.5,
            "confidence": 0.5,
            "version": "7",
            "track": "stable",
            "digest": "sha256:1",
            "elapsed_us": 700,
        } | fields
        self.records.append({name: value for name, value in record.items() if value is not None})
        return self.records[-1]

    def emitted(self, t: float, direction: str, number: int, **fields: Any) -> dict[str, Any]:
        score = {"long": 0.7, "short": 0.3}[direction]
        record = {
            "outcome": "emitted",
            "reason": None,
            "direction": direction,
            "score": score,
            "confidence": 0.6,
            "signal_id": f"s{len(self.records)}",
            "signal_seq": number,
            "prev_seq": number - 1 or None,
            "epoch": 9,
            "ts_expire": int(t * SECOND) + 5 * SECOND,
        }
        return self.decision(t, **(record | fields))

    def duplicate(self, t: float, direction: str, of: str, **fields: Any) -> dict[str, Any]:
        score = {"long": 0.7, "short": 0.3}[direction]
        record = {
            "outcome": "suppressed",
            "reason": "duplicate",
            "direction": direction,
            "held": direction,
            "score": score,
        }
        return self.decision(t, **(record | {"duplicate_of": of, "confidence": 0.6} | fields))

    def write(self, folder: Path, *, segments: int = 1) -> None:
        prev, lines = "0" * 64, []
        for seq, record in enumerate(self.records, 1):
            line = json.dumps({"seq": seq, **record, "prev": prev}, separators=(",", ":")).encode()
            prev = hashlib.sha256(line).hexdigest()
            lines.append(line + b"\n")
        cut = -(-len(lines) // segments)
        for index in range(segments):
            (folder / f"journal-{index + 1:08d}.jsonl").write_bytes(b"".join(lines[index * cut : (index + 1) * cut]))

    def answers(self) -> list[Answered]:
        names = ("symbol", "ts_event", "proposal_id", "outcome", "reason", "signal_id", "duplicate_of")
        return [
            Answered(**{name: record.get(name) for name in names}, sequence=record.get("sequence", 0))
            for record in self.records
            if record["kind"] == "decision"
        ]

    def audit(self, folder: Path) -> Audit:
        self.write(folder)
        return audit(folder, RULES, self.answers())


@pytest.fixture
def story() -> Story:
    """Two signals of one direction just a window apart with a duplicate between, a change of side, an abstention, a stand-in."""
    story = Story()
    first = story.emitted(1, "long", 1)
    story.duplicate(3, "long", first["signal_id"])
    story.emitted(6, "long", 2, held="long")
    story.emitted(7, "short", 3, held="long")
    story.decision(8, score=0.49, held="short")
    story.emitted(9, "long", 4, version="6", track="standby", failover=True)
    return story


def rules_of(result: Audit) -> set[str]:
    return set(result.by_rule())


def test_a_right_journal_is_clean(story: Story, tmp_path) -> None:
    story.write(tmp_path, segments=3)
    result = audit(tmp_path, RULES, story.answers())
    assert result.findings == []
    assert result.clean
    assert (result.segments, result.records, result.decisions, result.starts) == (3, 7, 6, 1)
    assert result.outcomes == {"emitted": 4, "suppressed": 1, "abstained": 1}
    assert result.answered_by == {"stable 7": 5, "standby 6": 1}
    assert (result.failover, result.degraded, result.late, result.worst_elapsed_us) == (1, 0, 0, 700)
    last = (tmp_path / "journal-00000003.jsonl").read_bytes().splitlines()[-1]
    assert result.head == hashlib.sha256(last).hexdigest()


def test_no_journal_at_all(tmp_path) -> None:
    assert rules_of(audit(tmp_path, RULES, [])) == {"chain"}


def test_a_changed_byte_breaks_the_chain(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    path = tmp_path / "journal-00000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"score":0.49', b'"score":0.47'))
    findings = audit(tmp_path, RULES, story.answers()).findings
    assert ("chain", 7) in {(finding.rule, finding.seq) for finding in findings}


def test_a_removed_line_breaks_the_chain(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    path = tmp_path / "journal-00000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[6:]))
    result = audit(tmp_path, RULES, story.answers())
    assert {"chain", "recorded"} <= rules_of(result)
    assert any("should be here" in finding.text for finding in result.findings)


def test_a_torn_line_is_found(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    path = tmp_path / "journal-00000001.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert any("torn" in finding.text for finding in audit(tmp_path, RULES, story.answers()).findings)


def test_a_line_that_is_no_record_is_found(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    path = tmp_path / "journal-00000001.jsonl"
    path.write_bytes(path.read_bytes() + b"[1]\n")
    assert any("not a record" in finding.text for finding in audit(tmp_path, RULES, story.answers()).findings)


def test_a_repeat_within_the_window_is_found(tmp_path) -> None:
    story = Story()
    story.emitted(1, "long", 1)
    story.emitted(5.999, "long", 2, held="long")
    assert rules_of(story.audit(tmp_path)) == {"duplicates"}


def test_a_duplicate_of_nothing_is_found(story: Story, tmp_path) -> None:
    story.duplicate(14.5, "long", "s6")
    assert rules_of(story.audit(tmp_path)) == {"duplicates"}


def test_a_duplicate_that_names_another_signal_is_found(story: Story, tmp_path) -> None:
    story.duplicate(10, "long", "s1")
    assert rules_of(story.audit(tmp_path)) == {"duplicates"}


def test_an_answer_without_a_record_is_found(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    extra = Answered("X.Y", 77, 0, "p-lost", "emitted", None, "s-lost", None)
    assert [finding.text for finding in audit(tmp_path, RULES, [*story.answers(), extra]).findings] == [
        "X.Y at 77: answered, and not in the journal"
    ]


def test_a_record_that_nobody_was_told_is_found(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    assert rules_of(audit(tmp_path, RULES, story.answers()[:-1])) == {"recorded"}


def test_an_answer_that_differs_from_its_record_is_found(story: Story, tmp_path) -> None:
    story.write(tmp_path)
    answers = story.answers()
    answers[0] = Answered("X.Y", SECOND, 0, "p1", "suppressed", "low_confidence", None, None)
    texts = [finding.text for finding in audit(tmp_path, RULES, answers).findings]
    assert len(texts) == 3
    assert texts[0] == "X.Y: outcome is emitted here and was answered as suppressed"


def test_a_proposal_settled_twice_is_found(story: Story, tmp_path) -> None:
    story.decision(10, proposal_id="p5", held="long", score=0.5)
    assert "idempotence" in rules_of(story.audit(tmp_path))


def test_an_older_snapshot_let_through_is_found(story: Story, tmp_path) -> None:
    story.decision(10, ts_event=8 * SECOND, held="long", score=0.5)
    assert rules_of(story.audit(tmp_path)) == {"order"}


def test_an_older_snapshot_refused_is_right(story: Story, tmp_path) -> None:
    fields = {"outcome": "suppressed", "reason": "out_of_order", "direction": "long"}
    story.decision(10, ts_event=8 * SECOND, **fields)
    assert story.audit(tmp_path).clean


def test_a_newer_snapshot_refused_as_older_is_found(story: Story, tmp_path) -> None:
    story.decision(10, outcome="suppressed", reason="out_of_order", direction="long")
    assert rules_of(story.audit(tmp_path)) == {"order"}


def test_time_that_steps_back_is_found(story: Story, tmp_path) -> None:
    story.decision(10, t=8 * SECOND, held="long", score=0.5)
    assert rules_of(story.audit(tmp_path)) == {"time"}


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"score": 0.59}, "mapping"),  # below enter, with nothing held
        ({"held": "long", "score": 0.55}, "hysteresis"),  # nothing was held
        ({"confidence": 0.54}, "confidence"),
        ({"confidence": None}, "confidence"),
        ({"reduces": True}, "exits"),
        ({"ts_expire": 7 * SECOND}, "expiry"),
        ({"signal_id": None}, "numbering"),
        ({"signal_seq": 2}, "numbering"),
        ({"prev_seq": 1, "signal_seq": 2}, "numbering"),
        ({"version": "8"}, "provenance"),
        ({"version": "6", "track": "standby"}, "provenance"),
        ({"failover": True}, "provenance"),
        ({"degraded": True}, "provenance"),
        ({"digest": None}, "provenance"),
    ],
)
def test_an_emission_against_the_rules_is_found(tmp_path, fields: dict[str, Any], rule: str) -> None:
    story = Story()
    story.emitted(1, "long", 1, **fields)
    assert rule in rules_of(story.audit(tmp_path))


def test_a_direction_that_the_score_does_not_mean_is_found(story: Story, tmp_path) -> None:
    story.decision(10, held="long", score=0.55)  # a held long lasts down to 0.52
    assert rules_of(story.audit(tmp_path)) == {"mapping"}


def test_an_exit_may_pass_with_little_confidence(tmp_path) -> None:
    story = Story()
    story.emitted(1, "long", 1, position=0.4)
    story.emitted(7, "long", 2, held="long", position=0.1, confidence=0.5, reduces=True)
    assert story.audit(tmp_path).clean


def test_an_instrument_that_changes_its_track_is_found(story: Story, tmp_path) -> None:
    story.decision(10, held="long", track="canary", version="8", score=0.5)
    assert rules_of(story.audit(tmp_path)) == {"split"}


def test_a_signal_number_used_twice_is_found(story: Story, tmp_path) -> None:
    story.emitted(75, "long", 5, held="long", signal_id="s1")
    assert rules_of(story.audit(tmp_path)) == {"numbering"}


def test_too_many_signals_are_found(story: Story, tmp_path) -> None:
    story.emitted(60, "long", 5, held="long")
    assert rules_of(story.audit(tmp_path)) == {"limits"}


def test_too_many_flips_are_found(story: Story, tmp_path) -> None:
    story.emitted(62, "short", 5, held="long")
    assert rules_of(story.audit(tmp_path)) == {"limits"}


def test_a_record_that_lacks_something_is_found(story: Story, tmp_path) -> None:
    story.emitted(75, "long", 5, held="long", signal_seq=None)
    story.decision(76, held="long", score=0.5, outcome=None)
    assert rules_of(story.audit(tmp_path)) == {"form"}


def test_late_decisions_are_counted(story: Story, tmp_path) -> None:
    story.decision(10, elapsed_us=100_001, held="long", score=0.5)
    result = story.audit(tmp_path)
    assert (result.late, result.worst_elapsed_us) == (1, 100_001)
    assert result.clean
