"""``python -m cluster``: the cluster by hand."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from cluster import programs
from cluster.api import Api
from cluster.commands import CommandError
from cluster.local import LocalCluster, down
from cluster.places import Places


def main() -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="end what is left of an earlier one, and start")
    commands.add_parser("down", help="end it; nothing is left but the cache and the logs")
    commands.add_parser("kubeconfig", help="print where the admin's is")
    commands.add_parser("status", help="what runs")
    commands.add_parser(
        "api", help="etcd and an API server on loopback, until interrupted: enough for custom resources"
    )
    build = commands.add_parser("build", help="build the programs")
    build.add_argument("only", nargs="*", help="programs by name; all if none is named")
    load = commands.add_parser("load", help="give the node images")
    load.add_argument("archives", nargs="+", type=Path)
    run = commands.add_parser("run", help="run a command where it reaches API server, services and pods")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    places = Places.of_project()
    try:
        return _run(given, places)
    except CommandError as exc:
        print(f"cluster: {exc}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace, places: Places) -> int:
    match given.command:
        case "up":
            print(LocalCluster.up(places, tied=False).kubeconfig)
        case "down":
            down(places)
        case "build":
            known = (*programs.CLUSTER, *programs.MONITORING, *programs.KSERVE)
            programs.build(tuple(one for one in known if not given.only or one.name in given.only), places)
        case "api":
            with (
                tempfile.TemporaryDirectory(prefix="signalyard-api-") as folder,
                Api.start(places, Path(folder)) as api,
            ):
                print(api.kubeconfig, flush=True)
                api.wait()
        case _:
            cluster = LocalCluster.running(places)
            if cluster is None:
                raise CommandError("no cluster of this project is up: say python -m cluster up")
            return _use(given, cluster)
    return 0


def _use(given: argparse.Namespace, cluster: LocalCluster) -> int:
    match given.command:
        case "kubeconfig":
            print(cluster.kubeconfig)
        case "load":
            for archive in given.archives:
                cluster.load(archive)
        case "status":
            print(cluster.run("kubectl", "get", "nodes,pods", "--all-namespaces", "-o", "wide"), end="")
        case "run":
            command = cluster.client(given.arguments)
            os.execvpe(command[0], command, cluster.environment())
    return 0


if __name__ == "__main__":
    sys.exit(main())
