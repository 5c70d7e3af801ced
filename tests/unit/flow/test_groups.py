"""Two routes on one instrument in a group, through the whole router: one speaks, and everybody is told why the other did not."""

import asyncio
import copy

from tests.unit.flow.test_router import NAME, Desk, document

from signalyard import Outcome, Reason
from signalyard_router.rules.documents import parse_any


def named(name, **mapping):
    made = copy.deepcopy(document())
    made["metadata"]["name"] = name
    made["spec"]["mapping"] = mapping
    return made


ABOVE = {"long": {"enter": 0.6}}
BELOW = {"short": {"enter": 0.9}}
"""Says short where the other says long."""
GROUP = {
    "apiVersion": "signalyard.io/v1alpha1",
    "kind": "SignalGroup",
    "metadata": {"name": "pair"},
    "spec": {"routes": ["rb-a", "rb-b", "rb-c"]},
}


def test_one_snapshot_on_both_routes_is_one_signal(tmp_path):
    async def run():
        desk = Desk(tmp_path, named("rb-a", **ABOVE), named("rb-b", **BELOW))
        desk.documents.append((parse_any(GROUP, "test"), "test"))
        await desk.open()
        first, second = await desk.router.predict(desk.snapshot(0.7))
        assert (first.route, first.outcome) == ("rb-a", Outcome.EMITTED)
        assert (second.route, second.outcome, second.reason) == ("rb-b", Outcome.SUPPRESSED, Reason.CONFLICT)
        assert desk.count("suppressed", "conflict", "rb-b") == 1
        assert [(record.get("group"), record.get("against")) for record in desk.records()] == [
            (None, None),
            ("pair", "rb-a"),
        ]
        (standing,) = desk.router.status().groups
        assert (standing.group, standing.conflict, standing.missing) == ("pair", "priority", ("rb-c",))
        assert [opinion.route for opinion in desk.router.state(NAME).opinions] == ["rb-a"]
        await desk.journal.close()

    asyncio.run(run())
