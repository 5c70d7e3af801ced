"""The one command, ``signalyard``. Its sub-commands register by entry point, so that it imports neither half."""

import sys
from importlib.metadata import EntryPoint, entry_points

import click

from signalyard._release import release
from signalyard.problems import SignalyardError

_GROUP = "signalyard.commands"
_SUMMARIES = {
    "bundle": "Pack, sign, verify, inspect, push and pull model bundles.",
    "serve": "Serve the bundles of a folder by the Open Inference Protocol.",
    "router": "Run the signal router.",
    "journal": "Read, verify, query and replay a router's journal.",
    "explain": "Explain one decision, step by step, from the journal.",
    "route": "See routes and pull levers: halt, pause, weights, promotion, rollback.",
    "shadow": "How shadows and baselines compare with the live decisions.",
    "crds": "Print the CustomResourceDefinitions that a cluster needs.",
    "schema": "Print the JSON Schema of what travels on the wires.",
    "top": "Watch a router, live in the terminal.",
    "demo": "Real ticks through bundle, model server and router to journalled decisions.",
}
_EXTRAS = {
    "bundle": "serve,lightgbm,sklearn",
    "serve": "serve,lightgbm,sklearn",
    "router": "router",
    "journal": "router",
    "explain": "router",
    "route": "router",
    "shadow": "router",
    "crds": "router",
    "demo": "demo",
}


class _LazyGroup(click.Group):
    """Loads a sub-command's module only when that sub-command is called, and answers its errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_registered())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _registered().get(cmd_name)
        if entry is None:
            return None
        try:
            command = entry.load()
        except ModuleNotFoundError as exc:
            if (exc.name or "").startswith("signalyard"):
                raise
            extra = _EXTRAS.get(cmd_name, cmd_name)
            raise click.ClickException(
                f"'{cmd_name}' needs the package {exc.name!r}: install signalyard[{extra}]"
            ) from exc
        if not isinstance(command, click.Command):
            raise click.ClickException(f"the entry point {entry.value} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SignalyardError as exc:
            click.echo(f"signalyard: {exc}", err=True)
            sys.exit(1)


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=_GROUP)}


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(release(), prog_name="signalyard")
def main() -> None:
    """Serve quantitative-trading models and turn their outputs into signals that a desk can dare to act on."""
