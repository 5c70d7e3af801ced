"""Every script on every page is one that a test runs."""

import pytest
from tests.pages import commands
from tests.pages.commands import fenced, pages, scripts

CLUSTER = {
    f"docs/{name}.md"
    for name in ("install", "tracks", "rollback", "kserve", "gitops", "security", "shipping", "kubernetes")
}
"""Run by tests/e2e/test_pages.py."""
LOCAL = {"README.md", "docs/bundles.md", "docs/frameworks.md", "docs/journal.md"}
"""Run by tests/parts/pages; the frameworks' by test_frameworks.py and tests/frameworks."""


def test_no_page_has_a_script_that_no_test_runs():
    need = {kind: {page for page in pages() if scripts(page, kind)} for kind in ("cluster", "local", "docker")}
    assert need == {"cluster": CLUSTER, "local": LOCAL, "docker": {"docs/install.md"}}


def test_what_is_read_off_a_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n```sh\na\n```\n\n    ```sh\n    no\n\n```yaml values\nb: 1\n```\n```sh local\nc \\\n  d\n```\n"
    )
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    assert [(one.place, one.needs, one.text) for one in scripts("page.md")] == [
        ("page.md:3", "cluster", "a\n"),
        ("page.md:13", "local", "c \\\n  d\n"),
    ]
    assert [one.text for one in scripts("page.md", "local")] == ["c \\\n  d\n"]
    assert fenced("page.md", "yaml") == ["b: 1\n"]


def test_a_word_that_means_nothing_is_refused(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("text\n\n```sh loacl\na\n```\n")
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"page\.md:3: 'sh loacl'; there are 'sh', 'sh local', 'sh docker'"):
        scripts("page.md")
