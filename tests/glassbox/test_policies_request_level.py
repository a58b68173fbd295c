"""What static and dynamic batching do, request by request. Prompts are lists of one token; the clock ticks a second a step."""
from __future__ import annotations

import pytest

from labkit.glassbox.options import OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.refusal import Overloaded
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

    def test_a_queue_policy_with_a_name_that_there_is_not_is_refused(self):
        with pytest.raises(OptionsError, match="priority_queue_policy has no 'allow_timeout_override'; it has max_queue_size"):
            loop_of("dynamic", priority_levels=2, default_priority_level=1, priority_queue_policy={2: {"allow_timeout_override": True}})
