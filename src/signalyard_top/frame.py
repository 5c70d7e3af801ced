"""One frame: what a desk looks at, in eighty columns."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from signalyard_top.rates import Change

_STYLES = {"firing": "bold red", "pending": "yellow", "ok": "green"}
_OUTCOMES = ("emitted", "suppressed", "abstained", "rejected", "unknown")
_CANARY_AND_CO = ("stable", "canary", "shadow", "standby")


def frame(url: str, change: Change) -> RenderableType:
    """The router at ``url``, from its newest reading and what changed."""
    parts: list[RenderableType] = [_head(url, change), Text()]
    for route in change.now.status["routes"]:
        parts.append(_route(route, change))
    parts.append(_alerts(change.now.status))
    return Group(*parts)


def away(url: str, why: str, seconds: float | None) -> RenderableType:
    """There is no router."""
    text = Text.assemble(("router away", "bold red"), f"  {why}", overflow="fold")
    more = f"{url}: trying again each second"
    if seconds is not None:
        more += f"; it last answered {seconds:.0f} s ago"
    return Group(text, Text(more, style="dim"))


def _head(url: str, change: Change) -> RenderableType:
    status = change.now.status
    line = Text(overflow="fold")
    line.append(url, style="bold")
    line.append("  ")
    line.append(*(("ready", "green") if status.get("ready") else ("not ready", "bold red")))
    clock = datetime.fromtimestamp(status.get("now", 0) / 1e9, UTC)
    line.append(f"  {status.get('clock')} clock {clock:%Y-%m-%d %H:%M:%S} UTC")
    for reason in status.get("unready", []):
        line.append(f"\n  {reason}", style="red")
    line.append("\njournal ")
    line.append(*(("available", "green") if status.get("journal_available") else ("away", "bold red")))
    line.append(f"  epoch {status.get('epoch')}")
    records = change.now.total("signalyard_journal_sequence")
    line.append(f"  record {records:,.0f}")
    line.append(f"  commit p99 {_ms(change.quantile(0.99, 'signalyard_journal_commit_seconds'))}")
    line.append(f"  in flight {status.get('rows_in_flight', 0)}")
    line.append("\n")
    over = f"over the last {change.seconds:.0f} s" if change.before is not None else "since the router's start"
    line.append(f"counts and latencies {over}", style="dim")
    return line


def _route(route: dict[str, Any], change: Change) -> RenderableType:
    name = str(route["route"])
    parts: list[RenderableType] = []
    title = Text(overflow="fold")
    title.append(name, style="bold cyan")
    title.append(f"  model {route['model']}  revision {route['revision'][:8]}")
    session = route.get("session")
    if session is not None:
        title.append("  ")
        title.append(*(("open", "green") if session["open"] else ("closed", "yellow")))
        if session.get("until"):
            left = max(0, session["until"] - change.now.status.get("now", 0)) // 1_000_000_000
            title.append(f", {'closes' if session['open'] else 'opens'} in {_span(left)}")
    parts.append(title)
    parts.append(_traffic(name, change))
    parts.append(_tracks(route))
    parts.append(Text())
    return Group(*parts)


def _traffic(name: str, change: Change) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("rate/s", justify="right")
    for outcome in _OUTCOMES:
        table.add_column(outcome, justify="right")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    rate = change.rate("signalyard_decisions_total", route=name)
    counts = [change.count("signalyard_decisions_total", route=name, outcome=outcome) for outcome in _OUTCOMES]
    table.add_row(
        "-" if rate is None else _short(rate),
        *(Text(_short(count), style="" if count else "dim") for count in counts),
        _ms(change.quantile(0.5, "signalyard_decision_seconds", route=name)),
        _ms(change.quantile(0.99, "signalyard_decision_seconds", route=name)),
    )
    return table


def _tracks(route: dict[str, Any]) -> RenderableType:
    """Each track's version, weight, and the instruments that it decides for."""
    shares: dict[str, int] = {}
    for track in route.get("assignment", {}).values():
        shares[track] = shares.get(track, 0) + 1
    instruments = sum(shares.values())
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, show_header=False)
    tracks = route.get("tracks", [])
    order = {track: place for place, track in enumerate(_CANARY_AND_CO)}
    for track in sorted(tracks, key=lambda each: order.get(each["track"], len(order))):
        decides = shares.get(track["track"], 0)
        assigned = f"{decides} of {instruments} instruments" if track["weight"] or decides else ""
        weight = f"{track['weight']:g}%" if track["weight"] else ""
        table.add_row(f"  {track['track']}", f"v{track['version']}", weight, _endpoints(track), assigned)
    return table


def _endpoints(track: dict[str, Any]) -> Text:
    endpoints = track.get("endpoints", [])
    ready = sum(1 for endpoint in endpoints if endpoint["ready"])
    text = Text("ready" if len(endpoints) == ready == 1 else f"{ready} of {len(endpoints)} ready")
    text.stylize("green" if ready == len(endpoints) else "yellow" if ready else "red")
    if track.get("drift"):
        text.append(f", serves v{track.get('serving')}", style="bold red")
    return text


def _alerts(status: dict[str, Any]) -> RenderableType:
    alerts = status.get("alerts", [])
    shown = [alert for alert in alerts if alert["state"] != "ok"]
    if not shown:
        return Text(f"alerts: none of {len(alerts)}", style="green")
    parts: list[RenderableType] = [Text("alerts", style="bold")]
    for alert in sorted(shown, key=lambda each: (each["state"] != "firing", each["route"], each["alert"])):
        lasting = max(0, status.get("now", 0) - alert["since"]) // 1_000_000_000
        line = Text(f"{alert['state']:8}", style=_STYLES.get(alert["state"], ""), overflow="fold")
        line.append(f"{alert['route']} {alert['alert']} for {_span(lasting)}", style="not bold default")
        parts.append(line)
        if alert.get("message"):
            parts.append(Padding(Text(alert["message"], style="dim", overflow="fold"), (0, 0, 0, 8)))
    return Group(*parts)


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _short(number: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e4)):
        if number >= size:
            return f"{number / (1e6 if unit == 'M' else 1e3):.1f}{unit}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
