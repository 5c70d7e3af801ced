"""The sub-command ``crds``: the CustomResourceDefinitions that a cluster needs."""

import sys
from pathlib import Path

import click

from signalyard_router.adapters.kube.crd import KINDS, text


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a file for each kind to DIR, and print nothing.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file in DIR is not what would be written.")
def crds(*, out: Path | None, check: bool) -> None:
    """Print the CustomResourceDefinitions of SignalRoutes and SignalGroups.

    \b
    signalyard crds | kubectl apply --server-side -f -
    """
    if check and out is None:
        raise click.UsageError("--check needs --out DIR, the folder to compare with")
    if out is None:
        click.echo("---\n".join(map(text, KINDS)), nl=False)
        return
    for kind in KINDS:
        path = out / kind.file
        if not check:
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(text(kind), encoding="utf-8")
            continue
        try:
            there = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise click.ClickException(f"{path} cannot be read: {exc}") from exc
        if there != text(kind):
            click.echo(f"{path} is not current: write it again with make generate", err=True)
            sys.exit(1)
