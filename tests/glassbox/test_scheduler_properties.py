"""Policies, pool and prefix cache under random workloads, without a model: the laws hold after every step and everybody is served."""
from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.bench.laws import Trial, make_case
from labkit.glassbox.policies import POLICIES
from labkit.glassbox.tracing import make_header
from labkit.trace.state import PoolState


@st.composite
def cases(draw, policy: str):
    return make_case(lambda low, high: draw(st.integers(low, high)), policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_law_holds_after_every_step_and_every_request_ends_as_if_it_were_alone(policy):
    """`Trial` raises for any law, for tokens that differ from those of the request on its own, and for one that never ends."""

    @settings(max_examples=120, deadline=None)
    @given(cases(policy))
    def check(case):
        outcome = Trial(case).run()
        assert outcome.tokens.keys() | outcome.cancelled | outcome.refused == {asked.name for turn, _ in case.turns for asked in turn}

    check()


@settings(max_examples=150, deadline=None)
@given(cases("chunked"))
def test_a_step_that_preempts_admits_nobody_and_keeps_whom_it_scheduled(case):
    trial = Trial(case)
    schedule = trial.scheduler.schedule

    def watch(now):
        waiting = {request.request_id for request in trial.scheduler.waiting}
        plan = schedule(now)
        preempted = {request.request_id for request in plan.preempted}
        assert not preempted & set(plan.num_scheduled_tokens)
        if preempted:
            assert not waiting & set(plan.num_scheduled_tokens)
        return plan

    trial.scheduler.schedule = watch
    trial.run()


@settings(max_examples=150, deadline=None)
@given(cases("chunked"))
def test_first_come_is_first_served_and_the_oldest_always_goes_on(case):
    """Whoever waits arrived after everyone who runs, and running keeps the order of arrival."""
    case.parameters["scheduling_policy"] = "fcfs"
    trial = Trial(case)
    schedule = trial.scheduler.schedule

    def watch(now):
        oldest = min(trial.scheduler.requests.values(), key=lambda request: request.arrival, default=None)
        plan = schedule(now)
        queue = [request.arrival for request in [*trial.scheduler.running, *trial.scheduler.waiting]]
        assert queue == sorted(queue)
        assert oldest is None or oldest.request_id in plan.num_scheduled_tokens
        return plan

    trial.scheduler.schedule = watch
    trial.run()


class Fold:
    """A recorder that folds what it is told."""

    wants_snapshot = False

    def __init__(self, options) -> None:
        self.header = make_header(options, "none", "cpu")
        self.state = PoolState(self.header)

    def emit(self, event) -> None:
        self.state.apply(event)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_trace_of_a_run_tells_which_request_holds_which_block(policy):
    """Folding the emitted steps gives the engine's own block tables after every step, those of held requests included."""

    @settings(max_examples=40, deadline=None)
    @given(cases(policy))
    def check(case):
        scheduler = case.scheduler()
        fold = Fold(scheduler.options)
        trial = Trial(case, scheduler, recorder=fold)
        step = trial.engine.step

        def compare():
            outputs = step()
            everybody = {request.request_id: request for request in [*scheduler.requests.values(), *scheduler.held]}
            assert {name: view.table for name, view in fold.state.requests.items()} == {
                name: request.block_table for name, request in everybody.items()
            }
            assert {name: view.held for name, view in fold.state.requests.items()} == {
                name: name not in scheduler.requests for name in everybody
            }
            assert {name: fold.state.requests[name].computed for name in scheduler.requests} == {
                name: request.num_computed_tokens for name, request in scheduler.requests.items()
            }
            assert fold.state.usage == scheduler.kv.usage
            pool, cache = scheduler.kv.pool, scheduler.kv.prefix_cache
            assert fold.state.counts()["cached"] == sum(cache.hash_of(block_id) is not None for block_id in pool.free_queue)
            return outputs

        trial.engine.step = compare
        trial.run()

    check()


def test_policies_and_the_engine_itself_need_no_torch():
    code = (
        "import sys, labkit.glassbox.policies, labkit.glassbox.engine, labkit.glassbox.slot_runner, labkit.glassbox.tracing;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
