"""The command ``signalyard top``."""

import sys
import time

import click
from rich.console import Console
from rich.live import Live

from signalyard_top.frame import away, frame
from signalyard_top.rates import Past
from signalyard_top.source import AwayError, Source

_EVERY = 1.0


@click.command()
@click.option(
    "--url",
    default="http://127.0.0.1:8090",
    envvar="SIGNALYARD_URL",
    show_default=True,
    show_envvar=True,
    help="The router's base URL.",
)
@click.option("--once", is_flag=True, help="Print one frame and exit: 0, or 1 where there is no router.")
def top(*, url: str, once: bool) -> None:
    """Watch a router: routes, rates, outcomes, latencies, tracks, alerts, journal.

    Refreshed each second, from /v1/status and /metrics; Ctrl-C ends it. While the router is away it goes on trying.
    """
    try:
        source = Source(url)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--url") from exc
    console = Console(highlight=False)
    past = Past()
    if once:
        try:
            console.print(frame(source.url, past.add(source.read())))
        except AwayError as exc:
            click.echo(f"signalyard: router away: {exc}", err=True)
            sys.exit(1)
        return
    answered: float | None = None
    try:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                begun = time.monotonic()
                try:
                    reading = source.read()
                    answered = reading.at
                    shown = frame(source.url, past.add(reading))
                except AwayError as exc:
                    shown = away(source.url, str(exc), begun - answered if answered is not None else None)
                live.update(shown, refresh=True)
                time.sleep(max(0.0, _EVERY - (time.monotonic() - begun)))
    except KeyboardInterrupt:
        return
