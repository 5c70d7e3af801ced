"""Which cluster the tests run on."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cluster.commands import CommandError
from cluster.contract import Cluster
from cluster.foreign import GivenCluster, KindCluster, docker_answers
from cluster.local import LocalCluster, down
from cluster.places import Places


def ours() -> bool:
    """Whether :func:`cluster` will be a node of our own, whose programs may be killed."""
    return not os.environ.get("KUBECONFIG") and not docker_answers()


@contextlib.contextmanager
def cluster(places: Places) -> Iterator[Cluster]:
    """That of KUBECONFIG; else kind where a Docker engine answers; else a node of our own. Raises CommandError.

    What was made is taken away afterwards. E2E_KEEP=1 keeps a node of our own, and takes one that was kept.
    """
    if given := os.environ.get("KUBECONFIG"):
        theirs = GivenCluster(Path(given))
        try:
            yield theirs
        finally:
            theirs.end()
    elif docker_answers():
        kind = KindCluster.up(places.kubeconfig)
        try:
            yield kind
        finally:
            kind.down()
    else:
        keep = os.environ.get("E2E_KEEP") == "1"
        node = (LocalCluster.running(places) if keep else None) or LocalCluster.up(places, tied=not keep)
        try:
            yield node
        finally:
            if not keep:
                down(places)


def joined(places: Places) -> Cluster:
    """The node that another process of this run has chosen. Raises CommandError."""
    found = LocalCluster.running(places)
    if found is None:
        raise CommandError("the run's node is gone: see the logs of its programs")
    return found
