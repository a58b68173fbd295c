"""Bugs that other engines had at the crossing of preemption, prefix cache and chunks, each as a named test.

nano-vllm #144 (block-aligned full hit, preempted request taken for a decode), #207 #211 #213 #218 #233 (preempted, then hit);
tiny_vLLM (eviction of a request already scheduled in the step; output tokens not recomputed after a preemption).
"""
from __future__ import annotations

import pytest

from labkit.glassbox.invariants import Checker, InvariantError
from labkit.glassbox.plan import Plan
from tests.glassbox.harness import Loop, scheduler_of


def loop_of(**settings) -> Loop:
    defaults = dict(block_size=4, num_gpu_blocks_override=6, max_model_len=24, max_num_seqs=4, max_num_batched_tokens=24)
    return Loop(scheduler_of(**defaults | settings))


def test_a_block_aligned_prompt_that_is_cached_whole_still_computes_its_last_token():
    loop = loop_of()
    prompt = [1, 2, 3, 4, 5, 6, 7, 8]
    loop.add("first", prompt, max_tokens=1)
    loop.run()
    loop.add("second", prompt, max_tokens=1)
    plan = loop.step()
    assert plan.shared["second"] == [0]  # the first block of two: the second must be computed to know what comes next
    assert plan.num_scheduled_tokens["second"] == 4
    assert loop.finished["first"] == loop.finished["second"]


def test_a_preempted_request_finds_its_own_blocks_again_and_computes_only_the_rest():
    loop = loop_of(num_gpu_blocks_override=6)
    loop.add("old", [1] * 8, max_tokens=12)
    young = loop.add("young", [2] * 9, max_tokens=10)
    loop.step()
    while not young.num_preemptions:
        loop.step()
    assert young.block_table == [] and young.num_computed_tokens == 0 and young.num_output_tokens > 0
    tokens = young.num_tokens
    while not young.block_table:
        plan = loop.step()
    assert plan.shared.get("young"), "its first blocks were still in the cache"
    assert plan.num_scheduled_tokens["young"] == tokens - 4 * len(plan.shared["young"])
    loop.run()
    assert len(loop.finished["young"]) == 10


def test_a_preempted_request_computes_its_output_again_and_is_not_taken_for_a_decode():
    loop = loop_of(enable_prefix_caching=False)
    loop.add("old", [1] * 8, max_tokens=12)
    young = loop.add("young", [2] * 9, max_tokens=10)
    while not young.num_preemptions:
        loop.step()
    tokens = young.num_tokens
    assert tokens > 9
    while not young.block_table:
        plan = loop.step()
    assert plan.num_scheduled_tokens["young"] == tokens


def test_a_preempted_request_that_comes_back_in_chunks_samples_only_after_the_last_one():
    loop = loop_of(max_num_batched_tokens=5, max_num_seqs=2, enable_prefix_caching=False)
    loop.add("old", [1] * 8, max_tokens=12)
    young = loop.add("young", [2] * 9, max_tokens=10)
    while not young.num_preemptions:
        loop.step()
    outputs, chunks = young.num_output_tokens, []
    while young.num_output_tokens == outputs:
        plan = loop.step()
        if young in plan.preempted:  # again, in the middle of its chunks
            chunks.clear()
        elif "young" in plan.num_scheduled_tokens:
            chunks.append(plan.num_scheduled_tokens["young"])
    assert len(chunks) > 1 and sum(chunks) == 9 + outputs
    loop.run()
    assert len(loop.finished["young"]) == 10


def test_a_request_already_scheduled_in_this_step_is_never_evicted():
    loop = loop_of(num_gpu_blocks_override=6, max_num_seqs=3)
    for name in "abc":
        loop.add(name, [ord(name)] * 7, max_tokens=10)
    preempted = False
    while loop.scheduler.has_unfinished():
        plan = loop.step()  # the checker looks at every scheduled request's blocks
        preempted |= bool(plan.preempted)
        for request in plan.preempted:
            assert request.request_id not in plan.num_scheduled_tokens
    assert preempted


def test_admission_does_not_evict_the_cached_blocks_it_is_about_to_share():
    """All free blocks are cached ones: the hit must be taken out of the queue before new blocks are."""
    loop = loop_of(num_gpu_blocks_override=6)
    loop.add("first", list(range(20)), max_tokens=4)
    loop.run()
    loop.add("second", list(range(20)), max_tokens=4)
    plan = loop.step()
    assert not set(plan.shared["second"]) & set(plan.given["second"])
    loop.run()
    assert loop.finished["first"] == loop.finished["second"]


def test_requests_admitted_in_one_step_share_the_blocks_that_the_first_of_them_computes():
    loop = loop_of(num_gpu_blocks_override=12)
    for name in "abc":
        loop.add(name, [1, 2, 3, 4, 5, 6, 7, 8, 9], max_tokens=2)
    plan = loop.step()
    assert plan.shared == {"b": [0, 1], "c": [0, 1]}
    assert plan.num_scheduled_tokens == {"a": 9, "b": 1, "c": 1}
    loop.run()
    assert loop.finished["a"] == loop.finished["b"] == loop.finished["c"]


def test_equal_blocks_after_different_prefixes_are_not_shared():
    loop = loop_of(num_gpu_blocks_override=12)
    loop.add("first", [1, 1, 1, 1, 7, 7, 7, 7, 3], max_tokens=1)
    loop.run()
    loop.add("second", [2, 2, 2, 2, 7, 7, 7, 7, 3], max_tokens=1)
    assert "second" not in loop.step().shared


def test_the_tail_of_a_finished_table_is_evicted_before_its_head():
    loop = loop_of(num_gpu_blocks_override=6)
    loop.add("first", list(range(12)), max_tokens=1)
    loop.run()
    assert list(loop.scheduler.kv.pool.free_queue) == [3, 4, 5, 2, 1, 0]


@pytest.mark.parametrize(
    ("law", "fault"),
    [
        ("reference counts equal table occurrences", lambda s: s.kv.pool.share([s.running[0].block_table[0]])),
        ("reference counts equal table occurrences", lambda s: s.running[0].block_table.append(5)),
        ("free + used + cached = total", lambda s: s.kv.pool.free_queue.popitem()),
        ("computed tokens have slots", lambda s: setattr(s.running[0], "num_computed_tokens", 99)),
        ("waiting requests hold nothing", lambda s: setattr(s.running[0], "status", type(s.running[0].status)("waiting"))),
        ("a shared block holds the prefix", lambda s: s.running[0].block_hashes.__setitem__(0, "0" * 16)),
    ],
)
def test_the_checker_names_the_law_the_step_and_the_request(law, fault):
    loop = loop_of()
    loop.add("victim", [1, 2, 3, 4, 5], max_tokens=4)
    loop.step()
    fault(loop.scheduler)
    with pytest.raises(InvariantError) as caught:
        loop.checker.check(7)
    assert caught.value.law == law and caught.value.step == 7
    assert str(caught.value).startswith("step 7") and law in str(caught.value)
    if law != "free + used + cached = total":
        assert caught.value.request_id == "victim"


def test_the_checker_names_what_is_wrong_with_a_plan():
    def plan_of(loop, tokens):
        plan = Plan()
        plan.add(loop.scheduler.requests["victim"], tokens, [])
        return plan

    def law(loop, plan):
        with pytest.raises(InvariantError) as caught:
            Checker(loop.scheduler).check_plan(plan, 3)
        return caught.value.law

    loop = loop_of()
    loop.add("victim", [1, 2, 3, 4, 5], max_tokens=4)
    assert law(loop, Plan()) == "progress"
    assert law(loop, plan_of(loop, 5)) == "scheduled requests run"
    loop.step()
    assert law(loop, plan_of(loop, 2)) == "tokens to compute"
    assert law(loop, plan_of(loop, 25)) == "token budget"
    loop.scheduler.requests["victim"].token_ids += [0] * 8
    assert law(loop, plan_of(loop, 9)) == "no scheduled request without blocks"
