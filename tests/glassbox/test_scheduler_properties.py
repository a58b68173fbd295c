"""Scheduler, pool and prefix cache under random workloads, without torch: the laws hold after every step and everybody is served."""
from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.glassbox.harness import Loop, next_token, scheduler_of

CONTEXT = 24


@st.composite
def workloads(draw):
    """Options, and a list of turns; each turn is the prompts that arrive (name, prompt, max_tokens) and the names to cancel."""
    block_size = draw(st.integers(1, 8))
    num_blocks = draw(st.integers(-(-CONTEXT // block_size), 3 * (-(-CONTEXT // block_size))))
    chunked = draw(st.booleans())
    max_num_seqs = draw(st.integers(1, 6))
    budget = draw(st.integers(max_num_seqs, 30)) if chunked else draw(st.integers(CONTEXT, 40))
    options = dict(
        block_size=block_size, num_gpu_blocks_override=num_blocks, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget,
        max_model_len=CONTEXT, enable_prefix_caching=draw(st.booleans()), enable_chunked_prefill=chunked,
    )  # fmt: skip
    stems = draw(st.lists(st.lists(st.integers(0, 4), min_size=0, max_size=16), min_size=1, max_size=3))
    turns, count = [], 0
    for _ in range(draw(st.integers(1, 12))):
        arrivals = []
        for _ in range(draw(st.integers(0, 3))):
            prompt = (draw(st.sampled_from(stems)) + draw(st.lists(st.integers(0, 4), min_size=1, max_size=8)))[: CONTEXT - 1]
            arrivals.append((f"r{count}", prompt, draw(st.integers(1, 10))))
            count += 1
        cancelled = [f"r{draw(st.integers(0, count - 1))}"] if count and draw(st.integers(0, 3)) == 0 else []
        turns.append((arrivals, cancelled))
    return options, turns


def expected_output(prompt: list[int], max_tokens: int) -> list[int]:
    """One request at a time, nothing shared."""
    token_ids = list(prompt)
    while len(token_ids) - len(prompt) < max_tokens and len(token_ids) < CONTEXT:
        token_ids.append(next_token(token_ids))
    return token_ids[len(prompt) :]


@settings(max_examples=300)
@given(workloads())
def test_every_law_holds_after_every_step_and_every_request_ends_as_if_it_were_alone(workload):
    options, turns = workload
    loop = Loop(scheduler_of(**options))
    asked: dict[str, tuple[list[int], int]] = {}
    cancelled: set[str] = set()
    for arrivals, cancels in turns:
        for name, prompt, max_tokens in arrivals:
            loop.add(name, prompt, max_tokens)
            asked[name] = prompt, max_tokens
        for name in cancels:
            if name in loop.scheduler.requests:
                loop.cancel(name)
                cancelled.add(name)
        if loop.scheduler.has_unfinished():
            loop.step()
    loop.run()
    assert set(loop.finished) == set(asked) - cancelled
    for name, output in loop.finished.items():
        assert output == expected_output(*asked[name])
    assert loop.scheduler.kv.pool.num_used == 0
    assert loop.scheduler.kv.pool.ref_count == [0] * options["num_gpu_blocks_override"]


@settings(max_examples=200)
@given(workloads())
def test_first_come_is_first_served_nobody_is_overtaken_at_the_door(workload):
    """Whoever waits arrived after everyone who runs, and running keeps the order of arrival: so the oldest always goes on."""
    options, turns = workload
    loop = Loop(scheduler_of(**options))
    for arrivals, _ in turns:
        for name, prompt, max_tokens in arrivals:
            loop.add(name, prompt, max_tokens)
        while loop.scheduler.has_unfinished():
            oldest = min(loop.scheduler.requests, key=lambda name: int(name[1:]))
            plan = loop.step()
            assert oldest in plan.num_scheduled_tokens
            queue = [int(request.request_id[1:]) for request in [*loop.scheduler.running, *loop.scheduler.waiting]]
            assert queue == sorted(queue)
            if len(loop.plans) % 3 == 0:
                break
    loop.run()


@settings(max_examples=200)
@given(workloads())
def test_a_step_that_preempts_admits_nobody_and_keeps_whom_it_scheduled(workload):
    options, turns = workload
    loop = Loop(scheduler_of(**options))
    for arrivals, _ in turns:
        for name, prompt, max_tokens in arrivals:
            loop.add(name, prompt, max_tokens)
        if loop.scheduler.has_unfinished():
            waiting = {request.request_id for request in loop.scheduler.waiting}
            plan = loop.step()
            if plan.preempted:
                assert not waiting & set(plan.num_scheduled_tokens)
            assert not {request.request_id for request in plan.preempted} & set(plan.num_scheduled_tokens)


@settings(max_examples=100)
@given(workloads())
def test_the_trace_of_a_run_tells_which_request_holds_which_block(workload):
    """Folding the emitted steps gives the engine's own block tables after every step."""
    from time import perf_counter

    from labkit.glassbox.tracing import Tracer, make_header
    from labkit.trace.state import PoolState

    options, turns = workload
    loop = Loop(scheduler_of(**options))

    class Fold:
        header = make_header(loop.scheduler.options, "none", "cpu")
        wants_snapshot = False

        def __init__(self) -> None:
            self.state = PoolState(self.header)

        def emit(self, event) -> None:
            self.state.apply(event)

    fold = Fold()
    tracer = Tracer(fold, loop.scheduler)
    for arrivals, _ in turns:
        for name, prompt, max_tokens in arrivals:
            tracer.arrive(loop.add(name, prompt, max_tokens))
        if not loop.scheduler.has_unfinished():
            continue
        before = {name: list(request.token_ids) for name, request in loop.scheduler.requests.items()}
        requests = dict(loop.scheduler.requests)
        plan = loop.step()
        sampled = {name: requests[name].token_ids[-1] for name in before if len(requests[name].token_ids) > len(before[name])}
        ended = {name: "length" for name in before if name not in loop.scheduler.requests}
        tracer.step(loop.step_number, perf_counter(), perf_counter(), plan, sampled, ended)
        assert {name: view.table for name, view in fold.state.requests.items()} == {
            name: request.block_table for name, request in loop.scheduler.requests.items()
        }
        assert {name: view.computed for name, view in fold.state.requests.items()} == {
            name: request.num_computed_tokens for name, request in loop.scheduler.requests.items()
        }
        assert fold.state.usage == loop.scheduler.kv.usage
        counts = fold.state.counts()
        pool, cache = loop.scheduler.kv.pool, loop.scheduler.kv.prefix_cache
        assert counts["cached"] == sum(cache.hash_of(block_id) is not None for block_id in pool.free_queue)


def test_the_scheduler_needs_no_torch():
    code = (
        "import sys, labkit.glassbox.policies.chunked, labkit.glassbox.invariants, labkit.glassbox.tracing, labkit.glassbox;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
