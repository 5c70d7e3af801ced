"""The command ``signalyard demo``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from signalyard.problems import SignalyardError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout.")
@click.option(
    "--snapshots", type=click.IntRange(min=30), default=None, help="How many to replay.  [default: 3000, or 300]"
)
@click.option("--small", is_flag=True, help="Generated trades, labelled as such; no network; a few seconds.")
@click.option(
    "--wire",
    type=click.Choice(["rest", "zeromq", "redis", "grpc", "all"]),
    default="rest",
    show_default=True,
    help="How snapshots reach the router; all: the same ones over each wire, without faults, compared.",
)
@click.option("--keep", is_flag=True, help="Leave the servers up afterwards, until Ctrl-C.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".state/demo"),
    show_default=True,
    help="Work folder; made anew each time.",
)
@click.option(
    "--router-bin", type=click.Path(path_type=Path), help="The router's `signalyard`.  [default: .venv/router's]"
)
@click.option(
    "--runtimes-bin", type=click.Path(path_type=Path), help="The servers' `signalyard`.  [default: .venv/runtimes']"
)
def demo(
    *,
    as_json: bool,
    snapshots: int | None,
    small: bool,
    wire: str,
    keep: bool,
    folder: Path,
    router_bin: Path | None,
    runtimes_bin: Path | None,
) -> None:
    """Real ticks through bundle, model server and router to journalled decisions.

    Trains three versions of a small model on the first part of 500,000 real E-mini S&P 500 trades, serves them, and replays
    the held-out rest on event time. On the way the stable model server is frozen and the router killed. Exits with 0 only if
    every snapshot got exactly one decision, in time, by the rules, with its record in a journal whose chain holds; with --wire all,
    only if every wire got the same decisions.
    """
    console = Console(stderr=as_json, highlight=False)
    console.print("loading the training libraries")
    # Imported late: they take seconds, and --help should not.
    from signalyard_demo.data import DataError
    from signalyard_demo.processes import InterruptError, ProcessError, tail
    from signalyard_demo.replay import ReplayError
    from signalyard_demo.report import Report, Screen
    from signalyard_demo.run import Options, SetupError, run, run_all_wires

    screen = Screen(console)
    options = Options(
        folder=folder.resolve(),
        cache=Path(".cache/signalyard").resolve(),
        router=router_bin or _program("router"),
        runtimes=runtimes_bin or _program("runtimes"),
        snapshots=snapshots or (5_000 if wire == "all" and not small else 0),
        small=small,
        keep=keep,
        wire="rest" if wire == "all" else wire,
    )

    reports: list[Report] = []

    def finished(report: Report) -> None:
        reports.append(report)
        if as_json:
            click.echo(json.dumps(report.plain()))
        else:
            screen.report(report)

    def fail(text: object, log: Path | None) -> NoReturn:
        shown = f"\n--- the end of {log} ---\n{said}" if log is not None and (said := tail(log)) else ""
        click.echo(f"signalyard demo: {text}{shown}", err=True)
        sys.exit(1)

    try:
        if wire == "all":
            compared = run_all_wires(options, screen)
            if as_json:
                click.echo(json.dumps([asdict(one) for one in compared]))
            for one in compared:
                outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(one.outcomes.items()))
                screen.say(f"{one.wire}: {outcomes}; {one.differences} unlike {compared[0].wire}'s {one.first}")
            sys.exit(1 if any(one.differences for one in compared) else 0)
        run(options, screen, finished)
    except InterruptError:
        click.echo("signalyard demo: ended; nothing is left running", err=True)
        if not reports:
            sys.exit(130)
    except ProcessError as exc:
        fail(exc, exc.log)
    except (ReplayError, SignalyardError) as exc:
        fail(exc, options.folder / "logs" / "router.log")
    except (DataError, SetupError) as exc:
        fail(exc, None)
    sys.exit(0 if reports[0].passed else 1)


def _program(environment: str) -> Path:
    """The `signalyard` of an environment beside this one, as the Makefile makes them; else this environment's own."""
    beside = Path(sys.prefix).parent / environment / "bin" / "signalyard"
    return beside if beside.exists() else Path(sys.prefix) / "bin" / "signalyard"
