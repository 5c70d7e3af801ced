"""The table of scenarios, and what is kept of it."""

import json
from collections import Counter

from traffic.account import Account
from traffic.summary import Entry, Summary


def test_table_and_file(tmp_path):
    account = Account(requests=1200, failures=2, slowest_us=8123, duplicates=("a",), outcomes=Counter(emitted=7))
    summary = Summary(
        [Entry("install", 12.4, True, account), Entry("uninstall", 3.0, False)], {"router memory": "61 MiB"}
    )
    assert summary.table().splitlines() == [
        "scenario            requests  failures  duplicates  lost  late  slowest  time",
        "------------------  --------  --------  ----------  ----  ----  -------  ----",
        "install             1200      2         1           0     0     8.1 ms   12 s",
        "uninstall (FAILED)  -         -         -           -     -     -        3 s",
        "router memory: 61 MiB",
    ]
    summary.write(tmp_path / "made" / "summary.json")
    first = json.loads((tmp_path / "made" / "summary.json").read_text())["scenarios"][0]
    assert first["account"]["outcomes"] == {"emitted": 7}
    assert first["account"]["duplicates"] == ["a"]


def test_two_processes_make_one_table(tmp_path):
    account = Account(requests=5, lost=("p-1",), marks=Counter(drift=2))
    other = Summary([Entry("02-trial", 2.0, True, account)], {"MiB in use": {"router-0/router": 30}})
    summary = Summary([Entry("10-bundles", 3.0, True), Entry("03-undo", 1.0, True)], {"gap": "2.4 s"})
    summary.add(other.written())
    assert summary.scenarios[-1] == other.scenarios[0]
    assert summary.notes == {"gap": "2.4 s", **other.notes}
    assert [line.split()[0] for line in summary.table().splitlines()[2:5]] == ["02-trial", "03-undo", "10-bundles"]
