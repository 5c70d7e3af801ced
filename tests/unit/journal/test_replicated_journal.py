"""Several replicas on one log, in virtual time: what one decides binds the others, and what is lost is held for."""

import asyncio

from tests.unit.journal.replicas import replicas, run, signal


def outcomes(decisions):
    return sorted(f"{decision.outcome}" for decision in decisions)


def test_of_two_replicas_that_race_on_one_key_exactly_one_emits():
    async def scenario(sim):
        server, one, two = await replicas(sim, "one", "two")
        for number in range(500):
            symbol = f"I{number}.X"
            answers = await asyncio.gather(
                one.commit(signal(2 * number, symbol=symbol)), two.commit(signal(2 * number + 1, symbol=symbol))
            )
            decisions = [decision for answer in answers for decision in answer]
            assert outcomes(decisions) == ["emitted", "suppressed"], decisions
            (emitted,) = [decision for decision in decisions if decision.signal]
            (other,) = [decision for decision in decisions if not decision.signal]
            assert other.reason in ("duplicate", "out_of_order")
            assert other.duplicate_of == (emitted.signal.signal_id if other.reason == "duplicate" else None)
        assert len(server.signals) == 500
        assert one.value("signalyard_log_conflicts_total") + two.value("signalyard_log_conflicts_total") > 100
        await one.close()
        await two.close()

    run(scenario)
