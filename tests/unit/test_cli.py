"""The one command, before it loads any of its sub-commands."""

from signalyard.cli import _EXTRAS, _SUMMARIES, _registered


def test_every_command_is_summed_up_and_says_what_it_needs() -> None:
    assert set(_registered()) == set(_SUMMARIES)
    assert set(_registered()) - set(_EXTRAS) == {"schema", "top"}  # which need nothing, and an extra of their own name
