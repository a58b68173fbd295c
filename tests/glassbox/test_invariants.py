"""The checker names the law, the step and the request: for a broken pool, and for each way in which a policy can be wrong."""
from __future__ import annotations

import math

import pytest

from labkit.glassbox.invariants import InvariantError
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies.chunked import ChunkedScheduler
from labkit.glassbox.request import RequestStatus
from labkit.glassbox.scheduler import Scheduler
from tests.glassbox.harness import Loop, scheduler_of


@pytest.mark.parametrize(
    ("law", "fault"),
    [
        ("reference counts equal table occurrences", lambda s: s.kv.pool.share([s.running[0].block_table[0]])),
        ("reference counts equal table occurrences", lambda s: s.running[0].block_table.append(5)),
        ("free + used + cached = total", lambda s: s.kv.pool.free_queue.popitem()),
        ("computed tokens have slots", lambda s: setattr(s.running[0], "num_computed_tokens", 99)),
        ("waiting requests hold nothing", lambda s: setattr(s.running[0], "status", RequestStatus.WAITING)),
        ("a shared block holds the prefix", lambda s: s.running[0].block_hashes.__setitem__(0, "0" * 16)),
    ],
)
def test_a_broken_pool_is_named_with_law_step_and_request(law, fault):
    loop = Loop(scheduler_of())
    loop.add("victim", [1, 2, 3, 4, 5], max_tokens=4)
    loop.step()
    fault(loop.scheduler)
    with pytest.raises(InvariantError) as caught:
        loop.checker.check(7)
    assert caught.value.law == law and caught.value.step == 7
    assert str(caught.value).startswith("step 7") and law in str(caught.value)
    if law != "free + used + cached = total":
        assert caught.value.request_id == "victim"


class Greedy(Scheduler):
    """What the bad policies below begin with: everybody in, whole prompts, then decodes. Right as long as the pool lasts."""

    def schedule(self, now):
        plan = Plan()
        for request in self.running:
            self.extend(plan, request, 1)
        for request in list(self.waiting):
            self.admit(plan, request, request.num_tokens)
        return plan


class GivesNoBlocks(Greedy):
    def admit(self, plan, request, num_tokens):
        self.waiting.remove(request)
        self.running.append(request)
        request.status = RequestStatus.RUNNING
        plan.add(request, num_tokens, [])


class LosesARequest(Greedy):
    def schedule(self, now):
        if self.running and self.waiting:
            self.waiting.popleft()
        return super().schedule(now)


class QueuesTwice(Greedy):
    def schedule(self, now):
        plan = super().schedule(now)
        self.waiting.append(self.running[-1])
        return plan


class TriesForEver(Greedy):
    def schedule(self, now):
        plan = Plan()
        while self.waiting:
            self.admit(plan, self.waiting[0], self.waiting[0].num_tokens)
        return plan


class NeverSchedules(Greedy):
    def schedule(self, now):
        return Plan()


class WaitsThoughNothingWillCome(Greedy):
    def schedule(self, now):
        self.draining = True
        return Plan(wait_until=math.inf)


class WaitsForThePast(Greedy):
    def schedule(self, now):
        return Plan(wait_until=now)


class ForgetsWhoRuns(Greedy):
    def schedule(self, now):
        return Plan(wait_until=math.inf) if self.running else super().schedule(now)


class SchedulesTwice(Greedy):
    def schedule(self, now):
        plan = super().schedule(now)
        plan.requests.append(plan.requests[0])
        return plan


class SchedulesMoreThanThereIs(Greedy):
    def admit(self, plan, request, num_tokens):
        return super().admit(plan, request, num_tokens + 1)


class SchedulesWhoWaits(Greedy):
    def schedule(self, now):
        plan = Plan()
        plan.add(self.waiting[0], 1, [])
        return plan


class PadsBeyondItsSlots(Greedy):
    def schedule(self, now):
        plan = super().schedule(now)
        plan.pad(plan.requests[0], 40 - plan.requests[0].num_tokens)
        return plan


class PadsNobody(Greedy):
    def schedule(self, now):
        plan = super().schedule(now)
        plan.padding["nobody"] = 3
        return plan


class ReservesTooLittle(Greedy):
    def admit(self, plan, request, num_tokens):
        return super().admit(plan, request, num_tokens, num_reserved_tokens=num_tokens + 1)


class SharesAWrongBlock(Greedy):
    """Two requests write into one block."""

    def admit(self, plan, request, num_tokens):
        admitted = super().admit(plan, request, num_tokens)
        if len(self.running) > 1:
            self.kv.pool.free([request.block_table.pop()])
            self.kv.pool.share([self.running[0].block_table[-1]])
            request.block_table.append(self.running[0].block_table[-1])
        return admitted


class EvictsWhomItScheduled(Greedy):
    def schedule(self, now):
        plan = super().schedule(now)
        self.preempt(plan, self.running[0])
        return plan


class LastComeFirstServed(ChunkedScheduler):
    """Admits the latest arrival: the first in the queue waits for as long as others come."""

    def schedule(self, now):
        self.waiting.reverse()
        plan = super().schedule(now)
        self.waiting.reverse()
        return plan


class OnlyTheYoungestDecodes(Greedy):
    def schedule(self, now):
        plan = Plan()
        if self.waiting:
            self.admit(plan, self.waiting[0], self.waiting[0].num_tokens)
        else:
            self.extend(plan, self.running[-1], 1)
        return plan


@pytest.mark.parametrize(
    ("policy", "law", "step", "whom"),
    [
        (GivesNoBlocks, "no scheduled request without blocks", 1, "a"),
        (NeverSchedules, "progress", 1, "a"),
        (QueuesTwice, "a request is in one queue until it ends", 1, "b"),
        (WaitsThoughNothingWillCome, "progress", 1, "a"),
        (WaitsForThePast, "progress", 1, "a"),
        (ForgetsWhoRuns, "progress", 2, "a"),
        (SchedulesTwice, "scheduled once", 1, "a"),
        (SchedulesMoreThanThereIs, "tokens to compute", 1, "a"),
        (SchedulesWhoWaits, "scheduled requests run", 1, "a"),
        (PadsBeyondItsSlots, "padding in its own slots", 1, "a"),
        (PadsNobody, "padding is somebody's", 1, "nobody"),
        (ReservesTooLittle, "the reservation is the worst case", 3, "a"),
        (SharesAWrongBlock, "one writer per block", 1, "b"),
        (EvictsWhomItScheduled, "scheduled requests run", 1, "a"),
    ],
)
def test_a_policy_that_breaks_a_law_is_stopped_with_law_step_and_request(policy, law, step, whom):
    loop = Loop(scheduler_of(policy, max_num_batched_tokens=64, num_gpu_blocks_override=12, enable_prefix_caching=False))
    loop.add("a", [1, 2, 3, 4, 5], max_tokens=12)
    loop.add("b", [1, 2, 3], max_tokens=12)
    with pytest.raises(InvariantError) as caught:
        loop.run()
    assert (caught.value.law, caught.value.step, caught.value.request_id) == (law, step, whom)
    assert str(caught.value).startswith(f"step {step}, request {whom}: {law}: ")


def test_a_step_over_the_token_budget_names_the_first_request_beyond_it():
    loop = Loop(scheduler_of(Greedy, max_num_batched_tokens=10, num_gpu_blocks_override=12))
    for name in "abc":
        loop.add(name, [1, 2, 3, 4, 5])
    with pytest.raises(InvariantError, match="step 1, request c: token budget: 15 tokens with this request, the step's limit is 10"):
        loop.step()


def test_padding_counts_against_the_token_budget():
    loop = Loop(scheduler_of(PadsBeyondItsSlots, max_num_batched_tokens=30))
    loop.add("a", [1, 2, 3, 4, 5])
    with pytest.raises(InvariantError, match="token budget: 40 tokens"):
        loop.step()


def test_too_many_at_once_name_the_first_without_a_seat():
    loop = Loop(scheduler_of(Greedy, max_num_seqs=2))
    for name in "abc":
        loop.add(name, [1, 2, 3])
    with pytest.raises(InvariantError, match="step 1, request c: sequence budget: 3 running, the limit is 2"):
        loop.step()


def test_the_first_in_the_queue_that_is_never_admitted_is_named_as_starving():
    loop = Loop(scheduler_of(LastComeFirstServed, max_num_seqs=1))
    loop.add("patient", [1, 2, 3])
    loop.add("other", [1, 2, 3])
    with pytest.raises(InvariantError, match=r"request patient: starvation: its turn for \d+ steps, and never scheduled"):
        for number in range(1000):
            loop.add(f"other{number}", [1, 2, 3], max_tokens=2)
            loop.step()


def test_a_running_request_that_is_never_scheduled_again_is_named_as_starving():
    loop = Loop(scheduler_of(OnlyTheYoungestDecodes, max_num_seqs=4, num_gpu_blocks_override=24))
    loop.add("old", [1, 2, 3], max_tokens=20)
    with pytest.raises(InvariantError, match="request old: starvation"):
        for number in range(1000):
            if len(loop.scheduler.running) < 2:
                loop.add(f"young{number}", [1, 2, 3], max_tokens=20)
            loop.step()


@pytest.mark.parametrize("policy", [NeverSchedules, WaitsThoughNothingWillCome])
def test_without_the_checker_a_policy_that_never_schedules_still_does_not_hang(policy):
    loop = Loop(scheduler_of(policy))
    loop.engine.checker = None
    loop.add("a", [1, 2, 3])
    with pytest.raises(InvariantError, match="step 1: progress"):
        loop.step()


def test_a_request_that_a_policy_loses_is_named_and_does_not_stand_in_the_error_s_way():
    loop = Loop(scheduler_of(LosesARequest))
    loop.add("kept", [1, 2, 3], max_tokens=9)
    loop.step()
    loop.add("lost", [1, 2, 3], max_tokens=9)
    with pytest.raises(InvariantError, match="request lost: a request is in one queue until it ends: stands 0 times"):
        loop.step()
    assert loop.engine.abort("lost").finish_reason == "abort"


def test_a_policy_that_does_not_heed_that_there_are_no_blocks_is_stopped():
    loop = Loop(scheduler_of(TriesForEver, num_gpu_blocks_override=6))
    for name in "abcd":
        loop.add(name, [1] * 8, max_tokens=4)
    with pytest.raises(RuntimeError, match="found no blocks and returned False"):
        loop.step()
