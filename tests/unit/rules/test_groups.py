"""Groups: what a member may say while others of its group have something open, or said something else."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalyard.problems import CallerError
from signalyard.words import Direction, Outcome, Reason
from signalyard_router.rules.documents import parse_group
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.groups import compile_group, refuse_shared_routes
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import DecisionRecord, GroupRecord, LeverRecord, RouteRecord, record_of
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import MINUTE, SECOND, Rate

T0 = 100 * MINUTE
WINDOW = 5 * SECOND
ROUTES = ("a", "b", "c")


def document(routes=("a", "b"), name="g", namespace="", **spec):
    """A group's document; the first route has the highest priority."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalGroup",
        "metadata": metadata,
        "spec": {"routes": list(routes)} | spec,
    }


class Desk:
    """A gate with three routes, and what a desk asks of it in turn."""

    def __init__(self, group=None, paper=(), namespaces=None):
        self.gate = Gate()
        self.records = []
        self.now = T0
        for name in ROUTES:
            self.route(name, paper=name in paper, namespace=(namespaces or {}).get(name, ""))
        if group is not None:
            self.group(group)

    def route(self, name, *, paper=False, namespace="", away=False, generation=1):
        spec = {"mode": "paper" if paper else "live"}
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        self.gate.accept(
            RouteRecord(
                v=1,
                seq=1,
                t=self.now,
                name=name,
                revision="r",
                generation=generation,
                place="",
                document=None if away else {"metadata": metadata, "spec": spec},
                prev="",
            )
        )

    def group(self, data, name="g"):
        self.gate.group(GroupRecord(v=1, seq=1, t=self.now, name=name, revision="", place="", document=data, prev=""))

    def reset(self, route, latch, symbol=None):
        self.gate.pull(
            LeverRecord(
                v=1, seq=1, t=self.now, id="l-1", action="reset", by="me", why="so", route=route, latch=latch,
                symbol=symbol, prev="",
            )
        )  # fmt: skip

    def say(self, route, what, after=SECOND, *, size=None, paper=False, symbol="A.X", generation=1, **rules):
        """What becomes of a route's next proposal: the outcome or the reason, and against whom."""
        self.now += after
        number = len(self.records) + 1
        direction = Direction(what) if what in ("long", "short", "flat") else None
        proposal = Proposal(
            proposal_id=f"{number:032x}",
            symbol=symbol,
            ts_event=number,
            ts_recv=0,
            received=0,
            route=route,
            generation=generation,
            direction=direction,
            abstain=None if direction else Reason(what),
            position=None if size is None or direction is None else direction.sign * size,
            rules=GateRules(window=WINDOW, valid_for=SECOND, paper=paper, **rules),
        )
        settlement = self.gate.admit(proposal, self.now, late=False)
        record = record_of(proposal, settlement, seq=number, t=self.now, epoch=1, elapsed=0)
        self.gate.apply(record)
        self.records.append(record)
        told = record.reason or record.outcome
        return f"{told} {record.against}".strip()


# The cases of the page on groups


@pytest.mark.parametrize(
    ("conflict", "steps"),
    [
        # A lower route against what a higher one has open.
        ("priority", [("a", "long", "emitted"), ("b", "short", "conflict a"), ("b", "flat", "conflict a")]),
        ("priority", [("a", "long", "emitted"), ("a", "flat", "emitted"), ("b", "short", "emitted")]),
        # A higher one against a lower one: it takes over, and the lower one's exit passes all the same.
        ("priority", [("b", "long", "emitted"), ("a", "short", "emitted"), ("b", "flat", "emitted")]),
        # ... and so does the lower one's change to the side of the higher one, although that repeats it.
        ("priority", [("b", "long", "emitted"), ("a", "short", "emitted"), ("b", "short", "emitted")]),
        # What the lower one has open and the higher one stands behind stays open.
        (
            "priority",
            [
                ("b", "long", "emitted"),
                ("a", "long", "emitted", WINDOW),
                ("b", "short", "conflict a"),
                ("b", "flat", "emitted"),
                ("a", "short", "emitted"),
            ],
        ),
        # No window is left behind by a conflict.
        (
            "priority",
            [
                ("a", "long", "emitted"),
                ("b", "short", "conflict a"),
                ("a", "flat", "emitted"),
                ("b", "short", "emitted"),
            ],
        ),
        # An opening needs that nobody says something else.
        ("agree", [("a", "long", "emitted"), ("b", "short", "conflict a"), ("a", "long", "conflict b", WINDOW - SECOND)]),
        ("agree", [("a", "flat", "emitted"), ("b", "long", "conflict a"), ("b", "long", "emitted", WINDOW)]),
        ("agree", [("a", "no_direction", "no_direction"), ("b", "long", "emitted")]),
        # A model that could not be asked may have said anything.
        ("agree", [("a", "long", "emitted"), ("a", "no_answer", "no_answer"), ("c", "flat", "emitted"), ("b", "short", "conflict a")]),
        ("agree", [("a", "no_answer", "no_answer"), ("b", "long", "conflict a"), ("b", "flat", "emitted")]),
        ("agree", [("a", "no_answer", "no_answer"), ("a", "no_direction", "no_direction"), ("b", "long", "emitted")]),
        # A change of side goes out unless somebody says the side that is open.
        ("agree", [("b", "long", "emitted"), ("a", "flat", "emitted"), ("b", "short", "emitted")]),
        ("agree", [("b", "long", "emitted"), ("a", "no_answer", "no_answer"), ("b", "short", "emitted")]),
        ("agree", [("b", "long", "emitted"), ("a", "long", "duplicate"), ("b", "short", "conflict a"), ("b", "flat", "emitted")]),
        # Independent: the window is shared, and nothing else.
        ("independent", [("a", "long", "emitted"), ("b", "short", "emitted"), ("c", "long", "duplicate")]),
        ("independent", [("a", "long", "emitted"), ("b", "long", "duplicate"), ("b", "long", "emitted", WINDOW)]),
        # A signal of another direction closes the window only from the same route.
        ("independent", [("a", "long", "emitted"), ("b", "short", "emitted"), ("a", "long", "duplicate")]),
        ("independent", [("a", "long", "emitted"), ("a", "short", "emitted"), ("b", "long", "emitted")]),
        # A change of side, and an exit, repeat nobody.
        ("independent", [("b", "long", "emitted"), ("a", "short", "emitted"), ("b", "short", "emitted")]),
        ("independent", [("b", "long", "emitted"), ("a", "flat", "emitted"), ("b", "flat", "emitted")]),
        ("independent", [("a", "flat", "emitted"), ("b", "flat", "duplicate")]),
    ],
)  # fmt: skip
def test_cases(conflict, steps):
    desk = Desk(document(ROUTES, conflict=conflict))
    told = [desk.say(route, what, *pause) for route, what, _, *pause in steps]
    assert told == [expected for _, _, expected, *_ in steps]


def test_a_repetition_names_the_newest_signal_that_it_repeats():
    desk = Desk(document(ROUTES, conflict="independent"))
    desk.say("a", "long")
    desk.say("b", "long")
    record = desk.records[-1]
    assert (record.group, record.duplicate_of, record.reduces) == ("g", desk.records[0].signal_id, False)
    desk.group(document(ROUTES, conflict="independent", dedupe={"window": "2s"}))
    assert desk.say("b", "long", 2 * SECOND) == "emitted"
    desk.group(document(ROUTES, conflict="independent", dedupe={"window": "1m"}))
    assert desk.say("c", "long") == "duplicate"
    assert desk.records[-1].duplicate_of == desk.records[2].signal_id
    assert desk.say("a", "long") == "duplicate"
    assert desk.records[-1].duplicate_of == desk.records[0].signal_id, "its own comes first"


def test_an_exit_passes_with_filter_exits_too():
    desk = Desk(document(ROUTES))
    desk.say("b", "long", filter_exits=True)
    desk.say("a", "short")
    assert desk.say("b", "flat", filter_exits=True) == "emitted"


def test_a_smaller_position_is_an_exit():
    desk = Desk(document(ROUTES))
    desk.say("b", "long", size=1.0)
    desk.say("a", "short")
    assert desk.say("b", "long", WINDOW, size=1.5) == "conflict a"
    assert desk.say("b", "long", size=0.5) == "emitted"


def test_a_member_comes_goes_and_changes_its_mode():
    desk = Desk(document(("a", "b", "later")))
    (standing,) = desk.gate.standing()
    assert (standing.routes, standing.missing) == (("a", "b", "later"), ("later",))
    assert desk.say("later", "long") == "emitted"  # its group's member it is only when it is in force
    desk.route("later")
    assert desk.gate.standing()[0].missing == ()
    assert desk.say("a", "long", WINDOW) == "emitted"
    assert desk.say("later", "short") == "conflict a"
    desk.route("a", paper=True, generation=2)
    assert desk.say("later", "short") == "emitted"
    desk.route("a", generation=3)
    assert desk.say("later", "long", generation=1) == "emitted", "what the desk was last told by a holds again"
    assert desk.say("b", "short") == "conflict a"
    desk.route("a", away=True, generation=4)
    assert desk.say("b", "short") == "emitted"


def test_paper_and_live_members_do_not_meet():
    desk = Desk(document(ROUTES), paper=("a", "c"))
    assert desk.say("a", "long", paper=True) == "paper"
    assert desk.say("b", "short") == "emitted"
    assert desk.say("c", "short", paper=True) == "conflict a"


def test_a_route_of_another_namespace_is_no_member():
    desk = Desk(document(ROUTES, namespace="desk"), namespaces={"a": "other", "b": "desk", "c": "desk"})
    assert desk.gate.standing()[0].missing == ("a",)
    desk.say("a", "long")
    assert desk.say("b", "short") == "emitted"
    assert desk.say("c", "long") == "conflict b"


def test_shared_signals_latch_all_but_exits_until_a_reset_of_any_member():
    desk = Desk(document(ROUTES, conflict="independent", limits={"signals": "2/min"}))
    assert [desk.say("a", "long"), desk.say("b", "short")] == ["emitted", "emitted"]
    assert desk.say("c", "long", symbol="B.X") == "rate_limited"
    assert (desk.records[-1].group, desk.gate.latches()) == ("g", [("a", None), ("b", None), ("c", None)])
    assert desk.say("a", "flat") == "emitted"
    assert desk.say("a", "flat", 2 * MINUTE, filter_exits=True) == "rate_limited"
    desk.reset("b", "throttle")
    assert desk.gate.latches() == []
    assert desk.say("c", "long", symbol="B.X") == "emitted"


def test_shared_flips_latch_an_instrument_until_a_reset_of_any_member():
    desk = Desk(document(ROUTES, conflict="independent", limits={"flips": "1/min"}))
    assert [desk.say("a", "long"), desk.say("b", "short"), desk.say("a", "flat")] == ["emitted"] * 3
    assert desk.say("c", "long") == "flip_latched"
    assert desk.gate.latches() == [("a", "A.X"), ("b", "A.X"), ("c", "A.X")]
    assert desk.say("c", "long", 2 * MINUTE) == "flip_latched"
    assert desk.say("c", "long", symbol="B.X") == "emitted"
    assert desk.say("c", "short") == "emitted", "the side that was signalled last may be said again"
    assert desk.say("b", "flat") == "emitted"
    desk.reset("a", "flips", "A.X")
    assert desk.gate.latches() == []
    assert desk.say("a", "long") == "emitted"


def test_a_routes_own_limits_hold_in_a_group_too():
    desk = Desk(document(ROUTES, conflict="independent"))
    assert desk.say("a", "long", signals=Rate(1, MINUTE)) == "emitted"
    assert desk.say("a", "short", signals=Rate(1, MINUTE)) == "rate_limited"
    assert (desk.records[-1].group, desk.gate.latches()) == ("", [("a", None)])


def test_a_group_that_goes_binds_nobody():
    desk = Desk(document(ROUTES))
    desk.say("a", "long")
    desk.group(None)
    assert desk.gate.standing() == []
    assert desk.say("b", "short") == "emitted"


# Documents


def test_a_document_that_says_nothing_else_is_five_seconds_by_priority():
    group = compile_group(parse_group(document(), "g.yaml"))
    assert (group.conflict, group.window, group.freshness, group.signals, group.flips) == (
        "priority", WINDOW, WINDOW, None, None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"routes": ["a"]}, "/spec/routes", "length >= 2"),
        ({"routes": ["a", "a"]}, "/spec/routes/1", "named twice"),
        ({"routes": ["a", "B"]}, "/spec/routes/1", "lower-case"),
        ({"conflict": "loudest"}, "/spec/conflict", "loudest"),
        ({"freshness": "0s"}, "/spec/freshness", "more than zero"),
        ({"dedupe": {"window": "soon"}}, "/spec/dedupe/window", "duration"),
        ({"limits": {"signals": "1000000/s"}}, "/spec/limits/signals", "at most"),
        ({"limits": {"flips": "5000/h"}}, "/spec/limits/flips", "at most"),
        ({"window": "5s"}, "/spec", "window"),
    ],
)
def test_a_wrong_document_is_refused_and_the_field_is_named(change, pointer, says):
    data = document()
    data["spec"] |= change
    with pytest.raises(CallerError) as caught:
        compile_group(parse_group(data, "g.yaml"), "g.yaml")
    assert caught.value.details.pointer == pointer
    assert says in str(caught.value)


def test_a_route_is_in_one_group_at_most():
    one = parse_group(document(("a", "b")), "one.yaml")
    two = parse_group(document(("c", "b"), name="h"), "two.yaml")
    with pytest.raises(CallerError, match=r"two\.yaml: the route 'b' is in the group 'g' already"):
        refuse_shared_routes([(one, "one.yaml"), (two, "two.yaml")])


# Against a model that keeps the whole history


class Plain:
    """The page on groups said again, slowly: every question is answered by looking through all that happened."""

    def __init__(self, spec):
        self.order = spec["routes"]
        self.conflict = spec["conflict"]
        self.window, self.freshness = 5 * SECOND, 20 * SECOND
        self.history = []

    def expect(self, record):
        """(reason, duplicate_of, against) that a record should have; it is a direction's, and without limits."""
        same = [old for old in self.history if old.symbol == record.symbol]
        signals = [old for old in same if old.outcome is Outcome.EMITTED]
        mine = [old for old in signals if old.route == record.route]
        last = {route: [old for old in signals if old.route == route][-1:] for route in self.order}
        direction = record.direction
        if mine and mine[-1].direction is direction and record.t - mine[-1].t < self.window:
            return Reason.DUPLICATE, mine[-1].signal_id, ""
        is_open = bool(mine) and mine[-1].direction is not Direction.FLAT
        if is_open and direction is Direction.FLAT:
            return None, None, ""
        turns = is_open and mine[-1].direction is not direction
        if not turns:
            repeated = [
                old
                for route in self.order
                if route != record.route
                for old in last[route]
                if old.direction is direction and record.t - old.t < self.window
            ]
            if repeated:
                return Reason.DUPLICATE, max(repeated, key=lambda old: old.t).signal_id, ""
        for route in self.order:
            if self.conflict == "independent" or (self.conflict == "priority" and route == record.route):
                break
            if route != record.route and self.objects(route, record, same, last[route], turns):
                return Reason.CONFLICT, None, route
        return None, None, ""

    def objects(self, route, record, same, last, turns):
        """Whether a member has something against a signal of another one."""
        if self.conflict == "priority":
            return bool(last) and last[0].direction not in (record.direction, Direction.FLAT)
        if record.direction is Direction.FLAT:
            return False
        said = [old for old in same if old.route == route]
        words = [old for old in said if old.reason is not Reason.NO_ANSWER][-1:]
        word = words[0].direction if words and record.t - words[0].t < self.freshness else None
        silent = bool(said) and said[-1].reason is Reason.NO_ANSWER and record.t - said[-1].t < self.freshness
        if turns:
            return not silent and word is not None and word is not record.direction and word is not Direction.FLAT
        return silent or (word is not None and word is not record.direction)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["priority", "agree", "independent"]),
    st.permutations(ROUTES),
    st.lists(
        st.tuples(
            st.sampled_from(ROUTES),
            st.sampled_from(["long", "long", "short", "short", "flat", "no_direction", "no_answer"]),
            st.sampled_from([1, SECOND, SECOND, WINDOW - 1, WINDOW, 19 * SECOND, 20 * SECOND]),
            st.sampled_from(["A.X", "A.X", "B.X"]),
        ),
        max_size=50,
    ),
)
def test_the_gate_does_what_the_page_says(conflict, order, steps):
    spec = {"conflict": conflict, "freshness": "20s"}
    desk, plain = Desk(document(order, **spec)), Plain({"routes": order, "conflict": conflict})
    for route, what, pause, symbol in steps:
        desk.say(route, what, pause, symbol=symbol)
        record = desk.records[-1]
        if record.direction is not None:
            expected = plain.expect(record)
            assert (record.reason, record.duplicate_of, record.against) == expected
            assert record.group == ("g" if record.reason else "")
        plain.history.append(record)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["priority", "agree", "independent"]),
    st.lists(
        st.tuples(
            st.sampled_from(ROUTES),
            st.sampled_from(["long", "short", "flat", "no_answer"]),
            st.sampled_from([1, SECOND, WINDOW, 60 * SECOND]),
        ),
        max_size=50,
    ),
)
def test_nothing_stays_open_that_nobody_stands_behind(conflict, steps):
    """The principle: a group holds back no exit, and a change of side only where a member says the side that is open."""
    desk = Desk(document(ROUTES, conflict=conflict))
    open_sides = {}
    for route, what, pause in steps:
        desk.say(route, what, pause)
        record = desk.records[-1]
        side = open_sides.get(route)
        if record.outcome is Outcome.EMITTED:
            open_sides[route] = None if what == "flat" else what
        elif side is not None and what in ("long", "short", "flat") and what != side:
            assert record.reason is Reason.CONFLICT
            assert what != "flat"
            said = [old for old in desk.records if old.route == record.against and old.direction is not None]
            assert open_sides.get(record.against) == side or said[-1].direction == side
        if conflict == "priority" and record.outcome is Outcome.EMITTED and side is None:
            above = ROUTES[: ROUTES.index(route)]
            assert all(open_sides.get(other) in (None, what) for other in above), "an opening against a higher route"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(ROUTES), st.sampled_from(["long", "short", "flat"]), st.sampled_from([1, WINDOW])),
        max_size=30,
    )
)
def test_a_group_of_none_changes_no_byte(steps):
    """Routes of no group are decided as they always were, whatever groups there are beside them."""
    alone, beside = Desk(), Desk(document(("x", "y"), limits={"signals": "1/h", "flips": "1/h"}))
    for (route, what, pause), desk in itertools.product(steps, (alone, beside)):
        desk.say(route, what, pause)
    encoded = [[msgspec.json.encode(record) for record in desk.records] for desk in (alone, beside)]
    assert encoded[0] == encoded[1]
    assert not any(b'"group"' in line or b'"against"' in line for line in encoded[0])


def test_records_carry_what_explains_them_and_read_back():
    desk = Desk(document(ROUTES))
    desk.say("a", "long")
    desk.say("b", "short")
    line = msgspec.json.encode(desk.records[-1])
    assert b'"group":"g","against":"a"' in line
    assert msgspec.json.decode(line, type=DecisionRecord) == desk.records[-1]
