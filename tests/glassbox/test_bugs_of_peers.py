"""Bugs that other engines had at the crossing of preemption, prefix cache and chunks, each as a named test.

nano-vllm #144 (block-aligned full hit, preempted request taken for a decode), #207 #211 #213 #218 #233 (preempted, then hit);
tiny_vLLM (eviction of a request already scheduled in the step; output tokens not recomputed after a preemption).
At the end each bug is put back by hand, and random workloads find it.
"""
from __future__ import annotations

import random

import pytest

from labkit.bench.laws import Trial, make_case
from labkit.glassbox.invariants import InvariantError
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies.chunked import ChunkedScheduler
from tests.glassbox.harness import Loop, scheduler_of


def loop_of(**settings) -> Loop:
    return Loop(scheduler_of(**settings))


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



class CountsTokensBeforeTheHit(ChunkedScheduler):
    """nano-vllm #207, #211, #233: a preempted request's tokens are counted first, then blocks that the cache still has are added."""

    def admit(self, plan, request, num_tokens, shared=(), num_reserved_tokens=0):
        if request.num_preemptions:
            num_tokens += len(shared) * self.options.block_size
        return super().admit(plan, request, num_tokens, shared, num_reserved_tokens)


class TakesTheWholePromptFromTheCache(ChunkedScheduler):
    """nano-vllm #144: a prompt of full blocks that are all cached leaves nothing to compute, and so nothing to sample from."""

    def __init__(self, options, **parameters):
        super().__init__(options, **parameters)
        find = self.kv.find_cached_blocks

        def find_all(request):
            find(request)
            return self.kv.prefix_cache.find(request.block_hashes)

        self.kv.find_cached_blocks = find_all


class SamplesAfterTheFirstChunk(Plan):
    """A request whose prompt is computed counts as decoding."""

    @property
    def sampling(self):
        return [
            request
            for request in self.requests
            if request.num_computed_tokens + self.num_scheduled_tokens[request.request_id] >= request.num_prompt_tokens
        ]


class TakesAPreemptedRequestForADecode(ChunkedScheduler):
    """nano-vllm #144, tiny_vLLM: a preempted request comes back in chunks, and is sampled from before its own output is computed again."""

    def schedule(self, now):
        plan = super().schedule(now)
        return SamplesAfterTheFirstChunk(
            plan.requests, plan.num_scheduled_tokens, plan.given, plan.shared, plan.preempted, wait_until=plan.wait_until
        )


class ForgetsTheOutputOfAPreemptedRequest(ChunkedScheduler):
    """tiny_vLLM: after a preemption only the prompt is computed again, the output so far is believed to be in the cache."""

    def advance(self, plan):
        super().advance(plan)
        for request in plan.requests:
            if request.num_preemptions and request.num_prompt_tokens <= request.num_computed_tokens < request.num_tokens - 1:
                if self.kv.allocate(request, request.num_uncomputed_tokens) is not None:
                    request.num_computed_tokens = request.num_tokens - 1


class EvictsWhomItHasScheduled(ChunkedScheduler):
    """tiny_vLLM: admission makes room by preempting the last running request, which is in the plan already."""

    def admit(self, plan, request, num_tokens, shared=(), num_reserved_tokens=0):
        while not super().admit(plan, request, num_tokens, shared, num_reserved_tokens):
            if not self.running or self.running[-1].num_preemptions:
                return False
            self.preempt(plan, self.running[-1])
            self.waiting.rotate(-1)
        return True


MUTANTS = {
    CountsTokensBeforeTheHit: "tokens to compute",
    TakesTheWholePromptFromTheCache: "tokens to compute",
    TakesAPreemptedRequestForADecode: "tokens as if it were alone",
    ForgetsTheOutputOfAPreemptedRequest: "tokens as if it were alone",
    EvictsWhomItHasScheduled: "scheduled requests run",
}


def verdicts(policy: type[ChunkedScheduler], seeds: range = range(200)) -> dict[str, InvariantError]:
    """Laws that random workloads see broken, each with the first case of it."""
    found: dict[str, InvariantError] = {}
    for seed in seeds:
        case = make_case(random.Random(seed).randint, "chunked")
        options = case.scheduler().options
        try:
            Trial(case, policy(options, **case.parameters)).run()
        except InvariantError as error:
            found.setdefault(error.law, error)
    return found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_bug_put_back_by_hand_is_caught_by_a_law_or_by_the_tokens(mutant):
    found = verdicts(mutant)
    assert MUTANTS[mutant] in found, found
    error = found[MUTANTS[mutant]]
    assert error.request_id in str(error) and error.step > 0


def test_the_same_workloads_find_nothing_in_the_policy_itself():
    assert verdicts(ChunkedScheduler) == {}
