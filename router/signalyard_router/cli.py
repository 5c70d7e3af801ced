"""The router's commands."""

import asyncio
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec

from signalyard._redis.url import shown
from signalyard.problems import Problem, error
from signalyard_router.adapters.archive.opening import open_archive
from signalyard_router.journal.explain import explain as tell
from signalyard_router.journal.query import Position, find, follow, last, newest, route_in_force
from signalyard_router.journal.settings import JournalSettings, SharingSettings
from signalyard_router.journal.verify import verify as verify_chain
from signalyard_router.journal_cli import archive_option, query, replay
from signalyard_router.journal_cli import journal_option as _journal_option
from signalyard_router.rules.record import (
    SIGNALS,
    CallRecord,
    DecisionRecord,
    GroupRecord,
    LeverRecord,
    PlanRecord,
    Record,
    RouteRecord,
    ShadowRecord,
    StartRecord,
)
from signalyard_router.rules.units import MILLISECOND, nanoseconds
from signalyard_router.world.real import RealDisk

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _DurationType(click.ParamType[int]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return nanoseconds(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class _NamesType(click.ParamType[tuple[str, ...]]):
    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        for name in names:
            if not _NAMESPACE.fullmatch(name):
                self.fail(f"{name!r} is not a namespace's name", param, ctx)
        return names


class _Words(click.ParamType[tuple[str, ...]]):
    name = "words"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        for word in words:
            if word not in self._known:
                self.fail(f"{word!r} is none of {', '.join(self._known)}", param, ctx)
        return words


_DURATION = _DurationType()
_NAMES = _NamesType()
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _each_once(lists: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))


def _option(name: str, env: str, **more: Any) -> Callable[[_Command], _Command]:
    return click.option(name, envvar=f"SIGNALYARD_{env}", show_envvar=True, show_default=True, **more)


@click.command()
@_option(
    "--routes",
    "ROUTES",
    type=click.Path(path_type=Path),
    default=Path("routes"),
    help="Folder of SignalRoute documents.",
)
@_option(
    "--routes-from",
    "ROUTES_FROM",
    type=click.Choice(["folder", "kubernetes"]),
    default="folder",
    help="Whether routes are documents in that folder, or SignalRoutes of a cluster.",
)
@_option(
    "--namespace",
    "NAMESPACES",
    type=_NAMES,
    multiple=True,
    help="In a cluster: whose SignalRoutes are taken; repeated, or a list with commas. The pod's own, if not given.",
)
@click.option(
    "--kubeconfig",
    envvar="KUBECONFIG",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="How to reach the API server from outside the cluster; by the pod's service account, if not given.",
)
@_option(
    "--lease",
    "LEASE",
    default="signalyard-router",
    help="In a cluster: the Lease whose holder writes the SignalRoutes' conditions.",
)
@_option("--journal", "JOURNAL", type=click.Path(path_type=Path), default=Path("journal"), help="The journal's folder.")
@_option("--host", "HOST", default="127.0.0.1", help="Address to listen on.")
@_option(
    "--port", "HTTP_PORT", type=click.IntRange(0, 65535), default=8090, help="Port to listen on; 0 takes a free one."
)
@_option(
    "--grpc-port",
    "GRPC_PORT",
    type=click.IntRange(0, 65535),
    default=None,
    help="Port to serve gRPC on, at the address of --host; 0 takes a free one. None, no gRPC. Needs the extra grpc.",
)
@_option(
    "--grpc-certificate",
    "GRPC_CERTIFICATE",
    type=click.Path(path_type=Path),
    default=None,
    help="Certificate chain of the gRPC port, PEM; without it the port speaks plain text.",
)
@_option("--grpc-key", "GRPC_KEY", type=click.Path(path_type=Path), default=None, help="Its key, PEM.")
@_option(
    "--clock",
    "CLOCK",
    type=click.Choice(["wall", "event"]),
    default="wall",
    help="What drives windows, ages and limits; event is for replay.",
)
@_option(
    "--durability",
    "DURABILITY",
    type=click.Choice(["os", "fsync"]),
    default="os",
    help="When a decision counts as recorded: in the operating system's hands, or on the medium.",
)
@_option(
    "--segment-bytes",
    "SEGMENT_BYTES",
    type=click.IntRange(1),
    default=256 * 1024 * 1024,
    help="Size at which the journal goes on in another segment.",
)
@_option(
    "--segment-age", "SEGMENT_AGE", type=_DURATION, default="1h", help="Age at which it does; 0s: never for its age."
)
@_option("--keep-bytes", "KEEP_BYTES", type=click.IntRange(1), help="Drop the oldest segments beyond this size in all.")
@_option("--keep-age", "KEEP_AGE", type=_DURATION, help="Drop segments whose newest record is older.")
@_option(
    "--archive",
    "ARCHIVE",
    help="Where complete segments are copied, before they are dropped: s3://, gs://, az:// or file:///.",
)
@_option(
    "--keep-inputs/--no-keep-inputs",
    "KEEP_INPUTS",
    default=False,
    help="Keep the inputs of calls that are passed through in the journal, whole, and not their sha256 alone.",
)
@_option(
    "--journal-redis",
    "JOURNAL_REDIS",
    default="",
    help="Redis that replicas share their journal on: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or unix:///PATH[?db=DATABASE]. "
    "Needs the extra redis.",
)
@_option(
    "--journal-redis-prefix",
    "JOURNAL_REDIS_PREFIX",
    default="signalyard",
    help="What its keys begin with; replicas with the same one share a journal.",
)
@_option("--replica", "REPLICA", default="", help="This replica's name in the journal. The host's, if not given.")
@_option("--max-body", "MAX_BODY", type=click.IntRange(1), default=4 * 1024 * 1024, help="Largest request body, bytes.")
@_option("--max-rows", "MAX_ROWS", type=click.IntRange(1), default=1_000, help="Most snapshots in one request.")
@_option(
    "--max-rows-in-flight",
    "MAX_ROWS_IN_FLIGHT",
    type=click.IntRange(1),
    default=4_096,
    help="Snapshots decided at once; beyond it requests are refused.",
)
@_option(
    "--max-wait-share",
    "MAX_WAIT_SHARE",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    help="Share of its deadline that a request may have waited for its turn; beyond it, it is refused.",
)
@_option(
    "--max-request-rate",
    "MAX_REQUEST_RATE",
    type=click.FloatRange(0),
    default=0.0,
    help="Requests a second from one client address, on average; 0 is no cap.",
)
@_option(
    "--max-request-burst",
    "MAX_REQUEST_BURST",
    type=click.IntRange(0),
    default=0,
    help="Requests at once from one client address; 0 is a second's worth.",
)
@_option("--max-connections", "MAX_CONNECTIONS", type=click.IntRange(1), default=4_096, help="Most open connections.")
@_option(
    "--admin-host",
    "ADMIN_HOST",
    default="127.0.0.1",
    help="Address of the admin port; any but loopback needs tokens and TLS.",
)
@_option(
    "--admin-port",
    "ADMIN_PORT",
    type=click.IntRange(0, 65535),
    default=8091,
    help="Port on which levers are pulled; 0 takes a free one.",
)
@_option(
    "--admin-tokens",
    "ADMIN_TOKENS",
    type=click.Path(path_type=Path),
    default=None,
    help="File with lines of: NAME sha256:HEX.",
)
@_option(
    "--admin-certificate",
    "ADMIN_CERTIFICATE",
    type=click.Path(path_type=Path),
    default=None,
    help="Certificate chain of the admin port, PEM.",
)
@_option("--admin-key", "ADMIN_KEY", type=click.Path(path_type=Path), default=None, help="Its key, PEM.")
@_option(
    "--zeromq-requests",
    "ZEROMQ_REQUESTS",
    default="",
    help="ZeroMQ address for requests, such as tcp://127.0.0.1:8092. Needs the extra zeromq.",
)
@_option(
    "--zeromq-signals",
    "ZEROMQ_SIGNALS",
    default="",
    help="ZeroMQ address that signals are published on, such as tcp://127.0.0.1:8093.",
)
@_option(
    "--zeromq-snapshots",
    "ZEROMQ_SNAPSHOTS",
    multiple=True,
    help="ZeroMQ address of a publisher of snapshots, with --zeromq-key as ADDRESS#PUBLIC-KEY; may be repeated.",
)
@_option(
    "--zeromq-key",
    "ZEROMQ_KEY",
    type=click.Path(path_type=Path),
    default=None,
    help="File with the router's secret key, of signalyard route curve-key: ZeroMQ is encrypted, and both sides are known.",
)
@_option(
    "--zeromq-clients",
    "ZEROMQ_CLIENTS",
    type=click.Path(path_type=Path),
    default=None,
    help="File with lines of: NAME PUBLIC-KEY, taken anew when it changes. With --zeromq-key nobody else connects.",
)
@_option(
    "--zeromq-plain",
    "ZEROMQ_PLAIN",
    is_flag=True,
    help="Let ZeroMQ leave the machine in plain text, where the network keeps others out.",
)
@_option(
    "--awake",
    "AWAKE",
    type=_DURATION,
    default="500us",
    help="For how long the event loop asks for the answer of a model server, or of the shared journal, instead of sleeping.",
)
@_option(
    "--busy-poll",
    "BUSY_POLL",
    type=_DURATION,
    default="0s",
    help="For how long after each request the event loop does not sleep; it takes a core of its own, and answers sooner.",
)
@_option("--drain", "DRAIN", type=_DURATION, default="10s", help="How long a shutdown waits for requests in flight.")
@_option(
    "--log-level",
    "LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="What is logged to standard error.",
)
@_option(
    "--log-format",
    "LOG_FORMAT",
    type=click.Choice(["text", "json"]),
    default="text",
    help="One line an event either way: key=value for people, an object for machines.",
)
@_option(
    "--trace-endpoint",
    "TRACE_ENDPOINT",
    default="",
    help="OTLP/HTTP address of a collector of traces; none, no traces. Needs the extra otel.",
)
@_option(
    "--trace-share",
    "TRACE_SHARE",
    type=click.FloatRange(0, 1),
    default=0.01,
    help="Share of requests that are traced; where the caller is traced, it decides.",
)
@_option(
    "--redis",
    "REDIS",
    default="",
    help="Redis or Valkey for the wires below: redis://, rediss:// or unix://. Needs the extra redis.",
)
@_option(
    "--redis-prefix", "REDIS_PREFIX", default="signalyard", help="What the names of all keys and channels begin with."
)
@_option(
    "--redis-in",
    "REDIS_IN",
    type=_Words(("stream", "pubsub")),
    default="",
    help="How snapshots come over Redis: stream, pubsub, or both with a comma.",
)
@_option(
    "--redis-out",
    "REDIS_OUT",
    type=_Words(("stream", "pubsub")),
    default="",
    help="How signals leave over Redis: stream, pubsub, or both with a comma.",
)
@_option(
    "--redis-encoding",
    "REDIS_ENCODING",
    type=click.Choice(["json", "classic", "nautilus-json", "nautilus-msgpack"]),
    default="json",
    help="How they are written: whole, by the classic protocol, or as NautilusTrader's external streams.",
)
@_option(
    "--redis-group", "REDIS_GROUP", default="signalyard", help="The consumer group of routers that share the stream."
)
@_option(
    "--redis-consumer",
    "REDIS_CONSUMER",
    default=platform.node(),
    help="This router's name in the group, the machine's if not given; one that keeps it has its unfinished entries back at once.",
)
@click.option("--print-config", is_flag=True, help="Show each value and where it comes from, and exit.")
@click.option("--check", is_flag=True, help="Check the documents, and exit: 0 if they are good.")
@click.pass_context
def router(
    ctx: click.Context,
    *,
    routes: Path,
    routes_from: Literal["folder", "kubernetes"],
    namespace: tuple[tuple[str, ...], ...],
    kubeconfig: Path | None,
    lease: str,
    journal: Path,
    host: str,
    port: int,
    grpc_port: int | None,
    grpc_certificate: Path | None,
    grpc_key: Path | None,
    clock: str,
    durability: str,
    segment_bytes: int,
    segment_age: int,
    keep_bytes: int | None,
    keep_age: int | None,
    archive: str | None,
    keep_inputs: bool,
    journal_redis: str,
    journal_redis_prefix: str,
    replica: str,
    max_body: int,
    max_rows: int,
    max_rows_in_flight: int,
    max_wait_share: float,
    max_request_rate: float,
    max_request_burst: int,
    max_connections: int,
    admin_host: str,
    admin_port: int,
    admin_tokens: Path | None,
    admin_certificate: Path | None,
    admin_key: Path | None,
    zeromq_requests: str,
    zeromq_signals: str,
    zeromq_snapshots: tuple[str, ...],
    zeromq_key: Path | None,
    zeromq_clients: Path | None,
    zeromq_plain: bool,
    awake: int,
    busy_poll: int,
    drain: int,
    log_level: str,
    log_format: Literal["text", "json"],
    trace_endpoint: str,
    trace_share: float,
    redis: str,
    redis_prefix: str,
    redis_in: tuple[str, ...],
    redis_out: tuple[str, ...],
    redis_encoding: str,
    redis_group: str,
    redis_consumer: str,
    print_config: bool,
    check: bool,
) -> None:
    """Run the signal router.

    It reads the route documents, learns the model servers' schemas, and answers POST /v1/predict. GET / lists what else it
    answers. SIGTERM drains it.

    \b
    signalyard router --routes routes/ --journal /var/lib/signalyard
    signalyard router --routes routes/ --check
    """
    if print_config:
        for name, value in ctx.params.items():
            if name not in ("print_config", "check"):
                source = ctx.get_parameter_source(name)
                if name == "namespace":
                    value = ",".join(_each_once(value))
                elif name in ("redis", "journal_redis"):
                    value = shown(value) if value else ""
                elif isinstance(value, tuple):
                    value = ",".join(value)
                click.echo(f"{name.replace('_', '-'):20} {value!s:24} {source.name.lower() if source else 'default'}")
        return
    # Imported late: reading a journal needs no server.
    from signalyard_router import logs, main
    from signalyard_router.adapters.files.store import FileRouteStore
    from signalyard_router.adapters.grpc.settings import GrpcSettings
    from signalyard_router.adapters.http.settings import HttpSettings
    from signalyard_router.adapters.kube.settings import KubeSettings
    from signalyard_router.adapters.oip.settings import OipSettings
    from signalyard_router.adapters.otel.settings import OtelSettings
    from signalyard_router.adapters.redis.log.settings import RedisLogSettings
    from signalyard_router.adapters.redis.settings import Encoding, Incoming, Outgoing, RedisSettings
    from signalyard_router.adapters.zeromq.settings import ZeromqSettings
    from signalyard_router.rules.documents import revision
    from signalyard_router.settings import RouterSettings

    if check:
        for document, place in asyncio.run(FileRouteStore(routes).load()):
            click.echo(f"{place}: {document.metadata.name}, revision {revision(document)}, good")
        return
    logs.configure(log_format, log_level)
    settings = main.ProcessSettings(
        routes=routes,
        routes_from=routes_from,
        kube=KubeSettings(namespaces=_each_once(namespace), kubeconfig=kubeconfig, lease=lease),
        busy_poll=busy_poll,
        drain_seconds=drain / 1e9,
        router=RouterSettings(max_rows_in_flight=max_rows_in_flight, max_wait_share=max_wait_share),
        archive=archive,
        keep_inputs=keep_inputs,
        sharing=SharingSettings(replica=replica or platform.node()),
        log=RedisLogSettings(url=journal_redis, prefix=journal_redis_prefix, awake_seconds=awake / 1e9),
        oip=OipSettings(awake_seconds=awake / 1e9),
        journal=JournalSettings(
            folder=str(journal),
            clock=clock,  # type: ignore[arg-type]
            durability=durability,  # type: ignore[arg-type]
            segment_bytes=segment_bytes,
            segment_age=segment_age or None,
            keep_bytes=keep_bytes,
            keep_age=keep_age,
        ),
        admin=main.AdminSettings(
            host=admin_host, port=admin_port, tokens=admin_tokens, certificate=admin_certificate, key=admin_key
        ),
        http=HttpSettings(
            host=host,
            port=port,
            max_body_bytes=max_body,
            max_rows=max_rows,
            max_connections=max_connections,
            requests_per_second=max_request_rate,
            requests_burst=max_request_burst,
        ),
        grpc=GrpcSettings(
            host=host,
            port=grpc_port,
            certificate=grpc_certificate,
            key=grpc_key,
            max_message_bytes=max_body,
            max_rows=max_rows,
        ),
        zeromq=ZeromqSettings(
            requests=zeromq_requests,
            signals=zeromq_signals,
            snapshots=zeromq_snapshots,
            key=zeromq_key,
            clients=zeromq_clients,
            plain=zeromq_plain,
            max_body_bytes=max_body,
            max_rows=max_rows,
        ),
        otel=OtelSettings(endpoint=trace_endpoint, share=trace_share),
        redis=RedisSettings(
            url=redis,
            prefix=redis_prefix,
            incoming=frozenset(map(Incoming, redis_in)),
            outgoing=frozenset(map(Outgoing, redis_out)),
            encoding=Encoding(redis_encoding),
            group=redis_group,
            consumer=redis_consumer,
            max_body_bytes=max_body,
            max_rows=max_rows,
        ),
    )
    import uvloop

    uvloop.run(main.serve(settings))


@click.group()
def journal() -> None:
    """Read, verify, query and replay a router's journal, also while the router writes it."""


@journal.command()
@_journal_option
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="How many of the newest records.",
)
@click.option(
    "-f", "--follow", "following", is_flag=True, help="Go on with what is written from now on, until interrupted."
)
@click.option("--json", "as_json", is_flag=True, help="Records as JSON, one a line.")
def tail(*, folder: Path, count: int, following: bool, as_json: bool) -> None:
    """Show the newest records."""
    disk = RealDisk()
    records, position = last(disk, str(folder), count)
    for record in records:
        click.echo(_line(record, as_json))
    if following:
        try:
            asyncio.run(_follow(disk, str(folder), position, as_json))
        except KeyboardInterrupt:
            return


@journal.command()
@_journal_option
@click.argument("name")
def show(*, folder: Path, name: str) -> None:
    """Show one record whole: NAME is a signal_id, a proposal_id or a record's seq."""
    record = find(RealDisk(), str(folder), name)
    click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())


@journal.command()
@_journal_option
@archive_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a journal.")
def verify(*, folder: Path, archive_url: str | None, as_json: bool) -> None:
    """Verify the whole chain. Exit code 1 and the line's place at the first break.

    Where the oldest segments are no longer in the folder, the archive gives them, or the chain is verified from the oldest record that is
    there, which is said.
    """
    total = sum(path.stat().st_size for path in folder.glob("journal-*.jsonl"))
    hidden = as_json or not sys.stderr.isatty() or total < 100_000_000
    with click.progressbar(length=total, label="verifying", file=sys.stderr, hidden=hidden) as bar:
        found = asyncio.run(verify_chain(RealDisk(), str(folder), open_archive(archive_url), bar.update))
    for verified in found:
        if as_json:
            click.echo(msgspec.json.encode(verified).decode())
            continue
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(verified.kinds.items()))
        count = verified.seq - verified.since + 1 if verified.seq else 0
        place = f"{verified.archived} of them from the archive, " if verified.archived else ""
        click.echo(f"{folder}: {count} records ({kinds}), {place}chain verified, last digest {verified.digest}")
        if verified.since > 1:
            click.echo(f"it holds from record {verified.since} on: what came before is not here")
        if verified.torn_bytes:
            click.echo(
                f"{verified.torn_bytes} bytes of an unfinished last line follow; a router cuts them off when it starts"
            )
        for note in verified.notes:
            click.echo(note)


journal.add_command(query)
journal.add_command(replay)


@click.command()
@_journal_option
@click.argument("name", required=False)
@click.option("--symbol", help="Instead of NAME: the newest decision on this instrument.")
@click.option("--at", type=int, help="With --symbol: the decision on the snapshot of this ts_event.")
def explain(*, folder: Path, name: str | None, symbol: str | None, at: int | None) -> None:
    """Explain one decision, step by step: its input, rules, budget and result.

    NAME is a signal_id, a proposal_id or a record's seq. "Why did I get no signal?" is answered by

    \b
    signalyard explain --symbol rb2410.SHFE --at 1718923456000000000
    """
    if (name is None) == (symbol is None):
        raise click.UsageError("give either NAME or --symbol")
    disk = RealDisk()
    record = find(disk, str(folder), name) if name else newest(disk, str(folder), symbol or "", at)
    if not isinstance(record, DecisionRecord):
        raise error(Problem.NOT_FOUND, f"record {record.seq} is no decision: show it with 'signalyard journal show'")
    for line in tell(record, route_in_force(disk, str(folder), record)):
        click.echo(line)


async def _follow(disk: RealDisk, folder: str, position: Position, as_json: bool) -> None:
    while True:
        for record in follow(disk, folder, position):
            click.echo(_line(record, as_json))
        await asyncio.sleep(200 * MILLISECOND / 1e9)


def _line(record: Record, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(record).decode()
    head = f"{record.seq:>8} {record.t} "
    match record:
        case DecisionRecord():
            what: str | None = record.direction if record.outcome in SIGNALS else record.reason
            if record.problem is not None:
                what = record.problem.code
            by = f"{record.track or record.model}:{record.version}" if record.version else "-"
            return f"{head}decision {record.symbol} {record.route or '-'} {record.outcome} {what or ''} {by} {record.proposal_id}"
        case RouteRecord():
            return f"{head}route    {record.name} revision {record.revision} generation {record.generation} from {record.place}"
        case GroupRecord(document=None):
            return f"{head}group    {record.name} taken away"
        case GroupRecord():
            return f"{head}group    {record.name} revision {record.revision} from {record.place}"
        case PlanRecord():
            return (
                f"{head}plan     {record.plan} of {record.route}: step {record.step + 1}, {record.state}, "
                f"canary {record.canary / 100:g}%: {record.why}"
            )
        case LeverRecord():
            scope = " ".join(part for part in (record.route, record.symbol) if part) or "everything"
            what = (
                record.lever
                or record.version
                or record.latch
                or ("" if record.canary is None else f"{record.canary:g}")
            )
            return f"{head}lever    {record.id} {record.action} {what} on {scope} by {record.by}: {record.why}"
        case StartRecord():
            return f"{head}start    epoch {record.epoch}, {record.software}, clock {record.clock}, durability {record.durability}"
        case CallRecord():
            by = f"{record.track or record.model}:{record.version}" if record.version else "-"
            what = record.problem.code if record.problem is not None else "answered"
            return f"{head}call     {record.id} {record.asked} {record.route} {what} {by} {record.symbol or '-'} {record.input}"
        case ShadowRecord():
            said = f"live {record.live or 'none'}, {record.name} {record.direction or 'none'}"
            return f"{head}shadow   {record.symbol} {record.route} {said} {record.proposal_id}"
