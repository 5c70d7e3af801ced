"""The command ``signalyard shadow``."""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from signalyard.problems import Problem, ProblemDetails, error
from signalyard_router.journal.shadow import recorded
from signalyard_router.rules.tally import SIDES
from signalyard_router.rules.verdict import TOTAL, ComparisonReport, DifferenceReport, ShadowAnswer, WindowReport
from signalyard_router.world.real import RealDisk

_PATIENCE = 10.0
"""Seconds for the router's answer."""


@click.group()
def shadow() -> None:
    """Shadows and baselines: how second opinions compare with the live decisions."""


@shadow.command()
@click.option(
    "--url",
    default="http://127.0.0.1:8090",
    envvar="SIGNALYARD_URL",
    show_default=True,
    show_envvar=True,
    help="The router to ask.",
)
@click.option(
    "--journal",
    "folder",
    type=click.Path(path_type=Path),
    help="Instead: a journal's folder, for routes that record pairs. There is no coverage in it.",
)
@click.option("--route", help="This route alone.")
@click.option(
    "--window",
    type=click.Choice(["1m", "10m", "1h", TOTAL]),
    default=TOTAL,
    show_default=True,
    help="What the figures and the verdict are of.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON, all windows.")
@click.option("--check", is_flag=True, help="Exit with 1 unless there is a comparison and every verdict is pass.")
@click.pass_context
def report(
    ctx: click.Context, *, url: str, folder: Path | None, route: str | None, window: str, as_json: bool, check: bool
) -> None:
    """Compare shadows and baselines with the live decisions, and judge them by the route's thresholds.

    \b
    signalyard shadow report --route rb-trend
    signalyard shadow report --route rb-trend --window 1h --check
    """
    if folder is not None:
        if window != TOTAL:
            raise click.UsageError("a journal has no windows: leave --window out")
        answer = recorded(RealDisk(), str(folder), route)
    else:
        answer = _ask(url, route)
    if as_json:
        click.echo(msgspec.json.encode(answer).decode())
    elif not answer.comparisons:
        click.echo("there is nothing to compare with: no route has a shadow, and nothing was observed")
    else:
        for comparison in answer.comparisons:
            for line in _story(comparison, window):
                click.echo(line)
    if check and (
        not answer.comparisons
        or any(comparison.windows[window].verdict.result != "pass" for comparison in answer.comparisons)
    ):
        ctx.exit(1)


def _ask(url: str, route: str | None) -> ShadowAnswer:
    address = url.rstrip("/") + "/v1/shadow"
    if not address.startswith(("http://", "https://")):
        raise error(Problem.INVALID_SETTING, f"{url!r} is not an http or https URL", "/url")
    if route is not None:
        address += "?" + urllib.parse.urlencode({"route": route})
    try:
        # Without the environment's proxy: routers are asked where they are, most of all on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=_PATIENCE) as answer:
            return msgspec.json.decode(answer.read(), type=ShadowAnswer)
    except urllib.error.HTTPError as exc:
        with exc:
            body = exc.read()
        try:
            details = msgspec.json.decode(body, type=ProblemDetails)
        except msgspec.DecodeError:
            raise error(Problem.ROUTER_UNREACHABLE, f"{address} answered {exc.code}") from exc
        raise error(details.code, details.detail, details.pointer) from exc
    except (OSError, msgspec.DecodeError) as exc:
        raise error(Problem.ROUTER_UNREACHABLE, f"{address}: {exc}") from exc


def _story(comparison: ComparisonReport, window: str) -> Iterator[str]:
    figures = comparison.windows[window]
    verdict = figures.verdict
    serves = f", {comparison.digest}" if comparison.digest else ""
    yield f"{comparison.route}  {comparison.kind} {comparison.name}{serves}  ({window})"
    yield f"  verdict        {verdict.result.replace('_', ' ')}" + "".join(
        f": {text}" for text in ("; ".join(verdict.failed) or verdict.detail,) if text
    )
    missed = ", ".join(f"{reason} {count}" for reason, count in figures.excluded.items() if count)
    yield f"  coverage       {_percent(figures.coverage)} of {figures.selected}" + (f"; {missed}" if missed else "")
    yield f"  disagreement   {_percent(figures.disagreement)} of {figures.compared} pairs in which a side took a position"
    yield from _differences("score", figures.score)
    yield from _differences("confidence", figures.confidence)
    yield f"  signals        live {figures.signals['live']}, {comparison.name} {figures.signals['other']}"
    yield from _matrix(figures)


def _differences(name: str, difference: DifferenceReport) -> Iterator[str]:
    if difference.mean is not None and difference.mean_absolute is not None:
        spread = ", ".join(f"<={edge} {count}" for edge, count in difference.histogram.items() if count)
        yield f"  {name:14} mean {difference.mean:+.4g}, mean absolute {difference.mean_absolute:.4g} ({spread})"


def _matrix(figures: WindowReport) -> Iterator[str]:
    yield "  live \\ other " + "".join(f"{side:>10}" for side in SIDES)
    for live in SIDES:
        yield f"  {live:>12} " + "".join(f"{figures.matrix[live][other]:>10}" for other in SIDES)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.2f}%"
