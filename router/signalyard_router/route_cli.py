"""``signalyard route``: levers from a terminal, over the admin port of a running router."""

import getpass
import hashlib
import http.client
import json
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from signalyard.problems import Problem, error
from signalyard_router.world.real import RealWorld

_TIMEOUT = 10.0


class _Admin:
    def __init__(self, url: str, token: str | None, authority: str | None) -> None:
        self._url = urlsplit(url)
        self._token = token
        self._authority = authority
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise error(Problem.INVALID_SETTING, f"{url!r} is not http://HOST:PORT or https://HOST:PORT", "/admin")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises ClickException with what the router said."""
        host, port = self._url.hostname or "", self._url.port or 8091
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            context = ssl.create_default_context(cafile=self._authority)
            connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise click.ClickException(f"the admin port {self._url.geturl()} did not answer: {exc}") from exc
        finally:
            connection.close()
        if answer.status != 200:
            place = f" at {told['pointer']}" if told.get("pointer") else ""
            raise click.ClickException(
                f"{told.get('code', answer.status)}{place}: {told.get('detail') or told.get('title')}"
            )
        return told


@click.group()
@click.option(
    "--admin",
    "url",
    envvar="SIGNALYARD_ADMIN",
    default="http://127.0.0.1:8091",
    show_default=True,
    show_envvar=True,
    help="The router's admin port.",
)
@click.option("--token", envvar="SIGNALYARD_TOKEN", show_envvar=True, help="Who you are, where the router asks for it.")
@click.option("--authority", type=click.Path(exists=True), help="Certificate authority of an https admin port, PEM.")
@click.pass_context
def route(ctx: click.Context, *, url: str, token: str | None, authority: str | None) -> None:
    """See routes and pull levers: halt, pause, weights, promotion, rollback.

    Every pull says who and why, is a record of the journal, and holds until it is let go: it survives a restart and a reload.
    """
    ctx.obj = (url, token, authority)


def _admin() -> _Admin:
    url, token, authority = click.get_current_context().obj
    return _Admin(url, token, authority)


_by = click.option(
    "--by", default=lambda: getpass.getuser(), help="Who pulls; a token's name beats it.  [default: you]"
)
_why = click.option("--why", required=True, help="Why; it stands in the journal.")


def _pull(**order: Any) -> None:
    lever = _admin().call("POST", "/admin/v1/pull", {name: value for name, value in order.items() if value is not None})
    click.echo(f"{lever['action']} recorded as {lever['id']}")


@route.command("list")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
def list_(*, as_json: bool) -> None:
    """The routes and groups in force, the levers that hold, and what is latched."""
    told = _admin().call("GET", "/admin/v1/routes")
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for item in told["routes"]:
        tracks = ", ".join(f"{track['track']} {track['version']} {track['weight']:g}%" for track in item["tracks"])
        override = f"  [{item['override']}]" if item["override"] else ""
        back = f"  rolled back to {item['rolled_back']}" if item.get("rolled_back") else ""
        click.echo(f"{item['route']}: {item['model']} on {', '.join(item['instruments'])}: {tracks}{override}{back}")
    for lever in told["levers"]:
        scope = " ".join(part for part in (lever.get("route"), lever.get("symbol")) if part) or "everything"
        what = lever.get("version") or ("" if lever.get("canary") is None else f"canary {lever['canary']:g}%")
        click.echo(f"lever {lever['id']}: {lever['action']} {what} on {scope}, by {lever['by']}: {lever['why']}")
    for name, plan in told["plans"].items():
        click.echo(
            f"plan of {name}: step {plan['step'] + 1}, {plan['state']}, canary {plan['canary'] / 100:g}%: {plan['why']}"
        )
    for group in told.get("groups", ()):
        absent = f"  missing: {', '.join(group['missing'])}" if group["missing"] else ""
        click.echo(f"group {group['group']}: {group['conflict']} among {', '.join(group['routes'])}{absent}")
    for name, symbol in told["latches"]:
        click.echo(f"latched: {name} {symbol or ''} by {'flips' if symbol else 'throttle'}")
    if told["documents_problem"]:
        click.echo(f"the documents are not in force: {told['documents_problem']}")


@route.command()
@click.argument("name")
def show(*, name: str) -> None:
    """One route as it is in force, as JSON."""
    for item in _admin().call("GET", "/admin/v1/routes")["routes"]:
        if item["route"] == name:
            click.echo(json.dumps(item, indent=2))
            return
    raise click.ClickException(f"there is no route named {name!r}")


@route.command("set-weight")
@click.argument("name")
@click.option("--canary", type=float, required=True, help="The canary's percentage; stable has the rest.")
@click.option("--for", "expires_in", help="End by itself after this long, such as 30m.")
@_by
@_why
def set_weight(*, name: str, canary: float, expires_in: str | None, by: str, why: str) -> None:
    """Give the canary another weight. Ends when the document's weights or versions change."""
    _pull(action="weight", route=name, canary=canary, expires_in=expires_in, by=by, why=why)


@route.command()
@click.argument("name")
@click.option("--to", "version", required=True, help="The version to go back to: any that the route holds.")
@_by
@_why
def rollback(*, name: str, version: str, by: str, why: str) -> None:
    """Let one version decide for every instrument, now."""
    _pull(action="rollback", route=name, version=version, by=by, why=why)


@route.command()
@click.argument("name")
@click.option("--version", required=True, help="The canary's version, which is to become stable.")
@_by
@_why
def promote(*, name: str, version: str, by: str, why: str) -> None:
    """Take the next step of a promotion; none is skipped, so that the way back stays loaded."""
    told = _admin().call("POST", "/admin/v1/promote", {"route": name, "version": version, "by": by, "why": why})
    click.echo(f"done: {', '.join(told['done'])}" + (f"; next: {told['next']}" if told["next"] else ""))
    click.echo(told["advice"])


@route.command()
@click.argument("name", required=False)
@click.option("--symbol", help="Only this instrument.")
@_by
@_why
def halt(*, name: str | None, symbol: str | None, by: str, why: str) -> None:
    """Let no signal out: of everything, of the route NAME, of one instrument. Ends only by a resume that names it."""
    _pull(action="halt", route=name, symbol=symbol, by=by, why=why)


@route.command()
@click.argument("name", required=False)
@click.option("--symbol", help="Only this instrument.")
@click.option("--for", "expires_in", help="End by itself after this long, such as 30m.")
@_by
@_why
def pause(*, name: str | None, symbol: str | None, expires_in: str | None, by: str, why: str) -> None:
    """Let only exits out."""
    _pull(action="pause", route=name, symbol=symbol, expires_in=expires_in, by=by, why=why)


@route.command()
@click.argument("lever")
@_by
@_why
def resume(*, lever: str, by: str, why: str) -> None:
    """End the halt or the pause LEVER, by its id as `route list` shows it."""
    _pull(action="resume", lever=lever, by=by, why=why)


@route.command()
@click.argument("lever")
@_by
@_why
def end(*, lever: str, by: str, why: str) -> None:
    """End the weight or the rollback LEVER: the document holds again."""
    _pull(action="end", lever=lever, by=by, why=why)


@route.command()
@click.argument("name")
@_by
@_why
def replan(*, name: str, by: str, why: str) -> None:
    """Begin the route's plan anew, after it stepped back, was interrupted or came to its end."""
    _pull(action="replan", route=name, by=by, why=why)


@route.command()
@click.argument("name")
@click.option("--latch", type=click.Choice(["throttle", "flips"]), required=True, help="Which latch.")
@click.option("--symbol", help="The instrument, for flips.")
@_by
@_why
def reset(*, name: str, latch: str, symbol: str | None, by: str, why: str) -> None:
    """Free a latch."""
    _pull(action="reset", route=name, latch=latch, symbol=symbol, by=by, why=why)


@route.command()
@click.argument("name")
def token(*, name: str) -> None:
    """Make a token for the person NAME, and the line for the router's file of tokens."""
    secret = RealWorld().random_bytes(32).hex()
    click.echo(f"token, to be kept secret: {secret}")
    click.echo(f"line for --admin-tokens:  {name} sha256:{hashlib.sha256(secret.encode()).hexdigest()}")


@route.command("curve-key")
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file for the secret key; it must not be there."
)
def curve_key(*, name: str, out: Path) -> None:
    """Make a key of ZeroMQ's CURVE for NAME, a client or a router, and the line by which others know it."""
    try:
        from signalyard.curve import new_pair
    except ImportError as exc:
        text = f"CURVE needs the extra zeromq: pip install 'signalyard[zeromq]' ({exc.name} is not installed)"
        raise error(Problem.INVALID_SETTING, text, "/out") from exc
    pair = new_pair()
    try:
        # for nobody else's eyes from the first moment on
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{pair.secret}\n")
    except OSError as exc:
        raise error(Problem.INVALID_SETTING, f"the key cannot be written: {exc}", "/out") from exc
    click.echo(f"public key:                 {pair.public}")
    click.echo(f"line for --zeromq-clients:  {name} {pair.public}")
