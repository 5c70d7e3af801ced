"""How the router lives in a cluster."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class KubeSettings:
    """The settings of the way to the API server. Times are seconds."""

    namespaces: tuple[str, ...] = ()
    """Whose SignalRoutes are taken. Default: the pod's own namespace, or that of the kubeconfig's context."""

    kubeconfig: Path | None = None
    """How to reach the API server from outside. Default: as a pod does, by its service account."""

    lease: str = "signalyard-router"
    """The Lease, in the router's own namespace, whose holder writes conditions; each installation has one of its own."""

    identity: str = ""
    """The name under which the lease is held. Default: the host's name, which in a cluster is the pod's."""

    call_seconds: float = 5.0
    """How long a call may take, whatever it is. Default: 5."""

    start_seconds: float = 5.0
    """How long a start waits for the first list before it goes on with what the journal holds. Default: 5."""

    page: int = 100
    """How many objects a list asks for at once; no page holds up a decision for long. Default: 100."""

    watch_seconds: float = 60.0
    """How long a watch runs before it is begun again. A connection on which nothing gets through, and nobody says so, is found
    out a little later than that. Default: 60."""

    backoff_seconds: float = 0.2
    """The pause after a failure; each further one doubles it, half of it is chance. Default: 0.2."""

    backoff_max_seconds: float = 5.0
    """The longest pause. Default: 5, so that an API server that is back is soon found."""

    answer_bytes: int = 64 * 1024 * 1024
    """The largest answer, and the largest event, that is read. Default: 64 MiB."""

    status_seconds: float = 1.0
    """The pause between two looks at what is to be told. Default: 1."""

    status_pause_seconds: float = 0.02
    """The pause between two writes, so that hundreds of routes are no burst on the API server. Default: 0.02."""

    status_counts_seconds: float = 30.0
    """How long counts wait that changed alone; conditions do not wait. Default: 30."""

    lease_seconds: float = 15.0
    """How long a holder may be silent before another one takes over. Default: 15."""

    lease_renew_seconds: float = 5.0
    """The pause between two renewals. Default: 5."""

    lease_deadline_seconds: float = 10.0
    """How long after its last renewal a holder goes on writing. Less than `lease_seconds`: two never write at once. Default: 10."""
