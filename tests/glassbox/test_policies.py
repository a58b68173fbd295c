"""What each iteration-level policy does that the others do not. Prompts are lists of one token; the clock ticks a second a step."""
from __future__ import annotations

import pytest

from labkit.glassbox.plan import Plan
from labkit.glassbox.refusal import Overloaded, Unservable
from tests.glassbox.harness import Loop, scheduler_of

ROOMY = dict(num_gpu_blocks_override=64, max_model_len=32, max_num_seqs=8, max_num_batched_tokens=64)


def loop_of(policy: str, **parameters) -> Loop:
    return Loop(scheduler_of(policy, parameters, **ROOMY))


def scheduled(plan: Plan) -> dict[str, int]:
    return plan.num_scheduled_tokens


class TestTGI:
    def test_requests_beyond_the_limit_are_turned_away_and_those_in_flight_are_untouched(self):
        loop = loop_of("tgi", max_concurrent_requests=2)
        loop.add("a", [1] * 4)
        loop.add("b", [2] * 4)
        with pytest.raises(Overloaded, match="overloaded") as caught:
            loop.add("c", [1] * 4)
        assert caught.value.refusal.retry_after == 1
        loop.run()
        assert loop.finished == {"a": loop.alone([1] * 4, 4), "b": loop.alone([2] * 4, 4)}
        loop.add("c", [1] * 4)

    def test_what_can_never_fit_is_refused_with_the_arithmetic(self):
        with pytest.raises(Unservable, match="9 prompt tokens and up to 8 new ones make 17, and --max-batch-total-tokens is 16"):
            loop_of("tgi", max_batch_total_tokens=16).add("a", [1] * 9, max_tokens=8)
        with pytest.raises(Unservable, match="the prompt has 9 tokens, and without prefill chunking .* --max-batch-prefill-tokens 8"):
            loop_of("tgi", max_batch_prefill_tokens=8, prefill_chunking=False).add("a", [1] * 9)
        loop_of("tgi", max_batch_prefill_tokens=8).add("a", [1] * 9)

    def test_the_worst_case_is_reserved_up_front_so_that_nobody_is_ever_preempted(self):
        loop = Loop(scheduler_of("tgi", {}, **ROOMY | {"num_gpu_blocks_override": 8}))
        loop.add("a", [1] * 4, max_tokens=13)  # 16 slots: the last token is never computed
        loop.add("b", [2] * 4, max_tokens=14)  # 17
        plan = loop.step()
        assert {name: len(blocks) for name, blocks in plan.given.items()} == {"a": 4}
        loop.run()
        assert loop.scheduler.num_preemptions == 0 and set(loop.finished) == {"a", "b"}
        assert all("a" not in plan.given for plan in loop.plans[1:])

    def test_max_batch_total_tokens_bounds_prompt_and_output_of_all_that_run(self):
        loop = loop_of("tgi", max_batch_total_tokens=20)
        for name in "abc":
            loop.add(name, [ord(name)] * 4, max_tokens=6)
        assert scheduled(loop.step()) == {"a": 4, "b": 4}

    def test_with_chunking_decodes_and_prompts_share_the_prefill_budget_and_the_last_prompt_is_cut(self):
        loop = loop_of("tgi", max_batch_prefill_tokens=8)
        loop.add("a", [1] * 3)
        assert scheduled(loop.step()) == {"a": 3}
        loop.add("b", [2] * 5)
        loop.add("c", [3] * 5)
        assert scheduled(loop.step()) == {"a": 1, "b": 5, "c": 2}
        assert scheduled(loop.step()) == {"a": 1, "b": 1, "c": 3}

    def test_without_chunking_running_requests_wait_while_new_ones_prefill(self):
        loop = loop_of("tgi", prefill_chunking=False, waiting_served_ratio=0.0)
        loop.add("a", [1] * 3)
        loop.step()
        loop.add("b", [2] * 5)
        assert scheduled(loop.step()) == {"b": 5}
        loop.add("c", [3] * 5)
        assert scheduled(loop.step()) == {"a": 1, "b": 1}  # a prefill is followed by a decode
        assert scheduled(loop.step()) == {"c": 5}

    def test_without_chunking_new_requests_wait_for_enough_others_or_for_long_enough(self):
        loop = loop_of("tgi", prefill_chunking=False, waiting_served_ratio=0.6, max_waiting_tokens=5)
        for name in "abcd":
            loop.add(name, [1] * 3, max_tokens=20)
        loop.step()  # the prefill counts as the first of the waiting tokens
        loop.add("e", [1] * 3)
        for _ in range(4):
            assert scheduled(loop.step()) == {name: 1 for name in "abcd"}  # one is less than 0.6 of four
        assert scheduled(loop.step()) == {"e": 3}
        loop.step()
        for name in "fgh":
            loop.add(name, [1] * 3)
        assert scheduled(loop.step()) == {"f": 3, "g": 3, "h": 3}  # three are 0.6 of five

    def test_without_chunking_max_batch_size_limits_those_that_run(self):
        loop = loop_of("tgi", prefill_chunking=False, max_batch_size=2)
        for name in "abc":
            loop.add(name, [1] * 3)
        assert scheduled(loop.step()) == {"a": 3, "b": 3}

    def test_prefixes_are_shared_with_chunking_only(self):
        for chunking, hits in ((True, [0, 1]), (False, None)):
            loop = loop_of("tgi", prefill_chunking=chunking)
            loop.add("a", [1] * 9)
            loop.add("b", [1] * 9)
            assert loop.step().shared.get("b") == hits


class TestContinuous:
    def test_a_whole_prompt_joins_the_decodes_in_the_iteration_after_it_arrives(self):
        loop = loop_of("continuous")
        loop.add("a", [1] * 3)
        loop.step()
        loop.add("b", [2] * 20)
        assert scheduled(loop.step()) == {"a": 1, "b": 20}

    def test_a_place_is_free_in_the_iteration_after_its_request_has_ended(self):
        loop = Loop(scheduler_of("continuous", {"max_num_seqs": 2}, **ROOMY))
        loop.add("a", [1] * 3, max_tokens=2)
        loop.add("b", [1] * 3, max_tokens=9)
        loop.add("c", [1] * 3, max_tokens=9)
        loop.step()
        assert scheduled(loop.step()) == {"a": 1, "b": 1}
        assert scheduled(loop.step()) == {"b": 1, "c": 3}

    def test_slots_for_all_tokens_a_request_may_ever_have_are_reserved_as_orca_does(self):
        loop = Loop(scheduler_of("continuous", {}, **ROOMY | {"num_gpu_blocks_override": 8}))
        loop.add("a", [1] * 4, max_tokens=13)
        loop.add("b", [1] * 4, max_tokens=13)
        assert {name: len(blocks) for name, blocks in loop.step().given.items()} == {"a": 5}

    def test_a_prompt_that_is_longer_than_a_step_is_refused_with_the_arithmetic(self):
        loop = Loop(scheduler_of("continuous", {"max_num_batched_tokens": 10}, **ROOMY))
        with pytest.raises(Unservable, match="the prompt has 11 tokens, .* at most --max-num-batched-tokens 10"):
            loop.add("a", [1] * 11)


class TestChunked:
    def test_decodes_and_prefill_chunks_share_the_budget(self):
        loop = Loop(scheduler_of("chunked", {"max_num_batched_tokens": 8}, **ROOMY))
        loop.add("a", [1] * 3, max_tokens=9)
        loop.step()
        loop.add("b", [2] * 12)
        assert scheduled(loop.step()) == {"a": 1, "b": 7}
        assert scheduled(loop.step()) == {"a": 1, "b": 5}

    def test_a_long_prompt_gets_no_more_than_the_threshold_in_a_step(self):
        loop = loop_of("chunked", long_prefill_token_threshold=5)
        loop.add("long", [1] * 12)
        loop.add("short", [2] * 4)
        assert scheduled(loop.step()) == {"long": 5, "short": 4}
        assert scheduled(loop.step()) == {"long": 5, "short": 1}
        assert scheduled(loop.step()) == {"long": 2, "short": 1}

    def test_under_priority_the_lower_number_is_admitted_first(self):
        loop = Loop(scheduler_of("chunked", {"scheduling_policy": "priority", "max_num_seqs": 1}, **ROOMY))
        for name, priority in {"a": 2, "b": 0, "c": 1, "d": 0}.items():
            loop.add(name, [1] * 4, priority=priority)
        loop.run()
        assert list(loop.finished) == ["b", "d", "c", "a"]

    def test_under_priority_the_least_urgent_loses_its_blocks_whenever_it_came(self):
        loop = Loop(scheduler_of("chunked", {"scheduling_policy": "priority"}, enable_prefix_caching=False))
        unimportant = loop.add("unimportant", [1] * 8, max_tokens=12, priority=1)
        important = loop.add("important", [2] * 9, max_tokens=10, priority=0)
        loop.run()
        assert unimportant.num_preemptions > 0 and important.num_preemptions == 0
        assert loop.finished == {"important": loop.alone([2] * 9, 10), "unimportant": loop.alone([1] * 8, 12)}

    def test_under_fcfs_the_last_to_come_pays(self):
        loop = Loop(scheduler_of("chunked", enable_prefix_caching=False))
        old = loop.add("old", [1] * 8, max_tokens=12, priority=1)
        young = loop.add("young", [2] * 9, max_tokens=10, priority=0)
        loop.run()
        assert young.num_preemptions > 0 and old.num_preemptions == 0

    def test_a_prompt_is_admitted_when_the_pool_has_room_for_all_of_it_unless_told_otherwise(self):
        for reserve, admitted in ((True, {"a": 8}), (False, {"a": 8, "b": 4})):
            parameters = {"scheduler_reserve_full_isl": reserve, "max_num_batched_tokens": 12}
            loop = Loop(scheduler_of("chunked", parameters, num_gpu_blocks_override=6, enable_prefix_caching=False))
            loop.add("a", [1] * 8)
            loop.add("b", [2] * 17)  # 5 blocks, and 4 are left
            assert scheduled(loop.step()) == admitted
            loop.run()
            assert loop.finished == {"a": loop.alone([1] * 8, 4), "b": loop.alone([2] * 17, 4)}
