"""What each batching policy does that the others do not. Prompts are lists of one token; the clock ticks a second a step."""
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


class TestStatic:
    def test_a_batch_waits_until_it_is_full(self):
        loop = loop_of("static", batch_size=3, max_batch_delay=60_000)
        first = loop.add("a", [1] * 4)
        for name in "bc":
            loop.engine.step()
            assert not loop.plans[-1].requests and loop.engine.wait_until == first.arrival + 60
            loop.add(name, [1] * 4)
        assert scheduled(loop.step()) == {"a": 4, "b": 4, "c": 4}

    def test_a_batch_that_stays_small_starts_when_its_first_member_has_waited_long_enough(self):
        loop = loop_of("static", batch_size=3, max_batch_delay=2_500)
        request = loop.add("a", [1] * 4)
        loop.step()
        assert not loop.plans[-1].requests and loop.now == request.arrival + 2.5
        assert scheduled(loop.step()) == {"a": 4}

    def test_nobody_is_waited_for_once_nothing_more_will_come(self):
        loop = loop_of("static", batch_size=3)
        loop.add("a", [1] * 4)
        loop.scheduler.draining = True
        assert scheduled(loop.step()) == {"a": 4}

    def test_prompts_are_padded_to_the_longest_and_ended_requests_are_computed_on_until_the_batch_ends(self):
        loop = loop_of("static", batch_size=3)
        loop.add("a", [1] * 9, max_tokens=2)
        loop.add("b", [1] * 3, max_tokens=5)
        loop.add("c", [1] * 5, max_tokens=1)
        plan = loop.step()
        assert scheduled(plan) == {"a": 9, "b": 3, "c": 5} and plan.padding == {"b": 6, "c": 4}
        loop.add("late", [1] * 3)
        expected = [({"a": 1, "b": 1}, {"c": 1}), ({"b": 1}, {"a": 1, "c": 1}), ({"b": 1}, {"a": 1, "c": 1}), ({"b": 1}, {"a": 1, "c": 1})]
        for tokens, padding in expected:
            plan = loop.step()
            assert (scheduled(plan), plan.padding) == (tokens, padding)
        assert loop.scheduler.kv.pool.num_used == 0 and not loop.scheduler.held
        loop.scheduler.draining = True
        assert scheduled(loop.step()) == {"late": 3}

    def test_each_member_holds_the_batchs_worst_case_from_start_to_end(self):
        loop = loop_of("static", batch_size=2)
        loop.add("a", [1] * 9, max_tokens=2)
        loop.add("b", [1] * 3, max_tokens=10)
        plan = loop.step()
        assert {name: len(blocks) for name, blocks in plan.given.items()} == {"a": 5, "b": 5}  # 9 + 10 tokens in blocks of 4
        for _ in range(9):
            assert loop.scheduler.kv.pool.num_used == 10
            assert not loop.step().given
        assert loop.scheduler.kv.pool.num_used == 0

    def test_a_batch_is_cut_to_what_the_pool_has_room_for(self):
        loop = Loop(scheduler_of("static", {"batch_size": 4}, **ROOMY | {"num_gpu_blocks_override": 8}))
        for name in "abcd":
            loop.add(name, [1] * 8, max_tokens=4)  # 3 blocks each
        assert scheduled(loop.step()) == {"a": 8, "b": 8}

    def test_the_place_of_a_cancelled_member_stays_taken(self):
        loop = loop_of("static", batch_size=2)
        loop.add("a", [1] * 4, max_tokens=4)
        loop.add("b", [1] * 4, max_tokens=3)
        loop.step()
        loop.cancel("a")
        assert loop.step().padding == {"a": 1}
        loop.step()
        assert loop.scheduler.kv.pool.num_used == 0


class TestDynamic:
    def test_by_default_whoever_waits_starts_at_once_up_to_the_largest_batch(self):
        loop = loop_of("dynamic", max_batch_size=3)
        loop.add("a", [1] * 4)
        assert scheduled(loop.step()) == {"a": 4}
        for name in "bcdef":
            loop.add(name, [1] * 4, max_tokens=1)
        for _ in range(3):
            assert scheduled(loop.step()) == {"a": 1}  # a running batch is closed
        assert scheduled(loop.step()) == {"b": 4, "c": 4, "d": 4}
        assert scheduled(loop.step()) == {"e": 4, "f": 4}

    def test_a_batch_of_a_preferred_size_starts_at_once_and_the_largest_of_them_is_taken(self):
        loop = loop_of("dynamic", max_batch_size=8, preferred_batch_size=[2, 4], max_queue_delay_microseconds=10_000_000)
        for name in "abcde":
            loop.add(name, [1] * 4, max_tokens=1)
        assert scheduled(loop.step()) == {name: 4 for name in "abcd"}
        assert not loop.step().requests
        assert loop.now == pytest.approx(10.0, abs=1e-3)  # the oldest has waited long enough
        assert scheduled(loop.step()) == {"e": 4}

    def test_once_the_delay_is_over_everybody_goes_preferred_size_or_not(self):
        loop = loop_of("dynamic", max_batch_size=8, preferred_batch_size=[4], max_queue_delay_microseconds=1_500_000)
        for name in "abc":
            loop.add(name, [1] * 4, max_tokens=1)
        assert not loop.step().requests
        loop.add("d", [1] * 4, max_tokens=1)
        loop.add("e", [1] * 4, max_tokens=1)
        assert scheduled(loop.step()) == {name: 4 for name in "abcde"}

    def test_a_full_queue_turns_requests_away(self):
        loop = loop_of("dynamic", max_batch_size=1, max_queue_size=2)
        loop.add("a", [1] * 4)
        loop.step()
        loop.add("b", [1] * 4)
        loop.add("c", [1] * 4)
        with pytest.raises(Overloaded, match="max_queue_size 2") as caught:
            loop.add("d", [1] * 4)
        assert caught.value.refusal.retry_after == 1
        loop.run()
        assert set(loop.finished) == set("abc")

    def test_a_request_whose_time_in_the_queue_is_over_is_rejected_while_another_batch_runs(self):
        loop = loop_of("dynamic", max_batch_size=1, default_timeout_microseconds=2_500_000)
        loop.add("a", [1] * 4, max_tokens=8)
        loop.step()
        loop.add("b", [1] * 4)
        for _ in range(3):
            assert not loop.step().refused
        assert [request.request_id for request in loop.step().refused] == ["b"]
        loop.run()
        assert "time in the queue" in loop.refused["b"] and set(loop.finished) == {"a"}

    def test_or_it_is_put_behind_those_that_are_in_time(self):
        loop = loop_of("dynamic", max_batch_size=1, default_timeout_microseconds=2_500_000, timeout_action="DELAY")
        loop.add("a", [1] * 4, max_tokens=4)
        loop.step()
        loop.add("late", [1] * 4)
        loop.step()
        loop.step()
        loop.add("in time", [1] * 4)
        loop.step()
        assert scheduled(loop.step()) == {"in time": 4}
        loop.run()
        assert set(loop.finished) == {"a", "late", "in time"}

    def test_priority_levels_come_first_one_before_two_and_the_default_where_none_is_given(self):
        loop = loop_of("dynamic", max_batch_size=1, priority_levels=3, default_priority_level=2)
        for name, priority in {"third": 3, "unset": 0, "first": 1, "beyond": 9, "second": 2}.items():
            loop.add(name, [1] * 4, max_tokens=1, priority=priority)
        loop.run()
        assert list(loop.finished) == ["first", "unset", "beyond", "second", "third"]

    def test_a_level_may_have_a_queue_policy_of_its_own(self):
        policy = {2: {"max_queue_size": 1}}
        loop = loop_of("dynamic", max_batch_size=1, priority_levels=2, default_priority_level=1, priority_queue_policy=policy)
        loop.add("a", [1] * 4, priority=2)
        loop.add("b", [1] * 4, priority=1)
        loop.add("c", [1] * 4, priority=1)
        with pytest.raises(Overloaded):
            loop.add("d", [1] * 4, priority=2)


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
