"""Races: the same requests and the same pool for everybody, on the clock that was asked for, whatever a policy does."""
import gc
import json
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

import labkit as lab
from labkit.glassbox.options import OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import POLICIES
from labkit.glassbox.policies.chunked import ChunkedScheduler
from labkit.glassbox.scheduler import Scheduler
from labkit.race import Item, StepCost, Workload, WorkloadError
from labkit.trace import Step

RAGGED = Workload.make(12, 30, prompt_tokens=(10, 200), output_tokens=(2, 40), seed=5)


def steps(run) -> list[Step]:
    return [event for event in run.events if isinstance(event, Step)]


def test_every_policy_serves_every_request_to_its_last_token_at_the_same_arrivals(cost):
    result = lab.race(list(POLICIES), RAGGED, clock=cost, show=False)
    assert list(result.runs) == list(POLICIES) and result.complete and not result.broken
    for name, run in result.runs.items():
        arrived = {rid: arrival for step in steps(run) for rid, arrival in step.arrived.items()}
        assert [arrived[f"r{n}"].t for n in range(12)] == pytest.approx([item.arrival for item in RAGGED.items]), name
        tokens = {rid: sum(len(step.sampled.get(rid, ())) for step in steps(run)) for rid in arrived}
        assert tokens == {f"r{n}": item.max_tokens for n, item in enumerate(RAGGED.items)}, name
        assert result.measures[name]["finished"] == 12 and run.header.configuration["num_blocks"] == 100


def test_the_cost_clock_moves_by_what_each_step_costs_and_the_badge_says_stand_in(cost):
    run = lab.race("chunked", RAGGED, clock=cost, show=False, max_num_batched_tokens=64).runs["chunked"]
    assert (run.header.badge, run.header.name) == ("stand-in", "step-cost clock")
    for step in steps(run):
        if step.scheduled:
            chunks = [n for n in step.scheduled.values() if n > 1]
            assert step.ms == pytest.approx(2 + 0.1 * sum(chunks) + 0.1 * (len(step.scheduled) - len(chunks)))
    for before, after in pairwise(steps(run)):
        assert after.t - after.ms / 1e3 >= before.t - 1e-9


def test_one_request_takes_the_time_that_can_be_added_up_by_hand(cost):
    alone = Workload((Item(1.0, tuple(range(50)), 11),))
    result = lab.race(["chunked", "static"], alone, clock=cost, show=False)
    for score in result.measures.values():
        assert score["ttft"] == pytest.approx((2 + 5.0) / 1e3)  # static too: nothing more will come, so it does not wait
        assert score["tpot"] == pytest.approx(2.1e-3) == score["pause"]
        assert score["makespan"] == pytest.approx(1.0 + (7 + 10 * 2.1) / 1e3)
        assert score["throughput"] == pytest.approx(11 / (score["makespan"] - 1.0))


def test_static_waits_and_pads_and_chunked_does_not(cost):
    result = lab.race(["static", "chunked"], RAGGED, clock=cost, show=False)
    static, chunked = result.measures["static"], result.measures["chunked"]
    assert static["padding"] > 0.1 and chunked["padding"] == 0
    assert static["ttft"] > chunked["ttft"] and static["makespan"] > chunked["makespan"]
    assert result.leaders("ttft") == ["chunked"]


def test_whole_prompts_make_longer_pauses_than_small_chunks(cost):
    long = Workload.make(10, 40, prompt_tokens=(300, 500), output_tokens=30, seed=2)
    policies = {"whole": "continuous", "small chunks": ("chunked", {"max_num_batched_tokens": 64})}
    result = lab.race(policies, long, clock=cost, show=False, num_blocks=400)
    assert result.measures["whole"]["pause"] > 3 * result.measures["small chunks"]["pause"]
    assert result.measures["whole"]["ttft"] < result.measures["small chunks"]["ttft"]


def test_a_small_pool_preempts_where_blocks_come_on_demand_and_queues_where_they_are_reserved(cost):
    growing = Workload.make(8, prompt_tokens=20, output_tokens=100, seed=1)
    result = lab.race(["tgi", "chunked"], growing, clock=cost, show=False, num_blocks=24)
    assert result.measures["chunked"]["preemptions"] > 0 == result.measures["tgi"]["preemptions"]
    assert all(result.served_all(name) for name in result.runs)


def test_refused_requests_are_counted_and_nobody_is_best_who_refused(cost):
    policies = {"strict": ("tgi", {"max_concurrent_requests": 2}), "chunked": "chunked"}
    result = lab.race(policies, Workload.make(10, prompt_tokens=100, output_tokens=20), clock=cost, show=False)
    assert result.measures["strict"]["refused"] == 8 and result.measures["strict"]["finished"] == 2
    assert result.measures["strict"]["makespan"] < result.measures["chunked"]["makespan"] and result.leaders("makespan") == ["chunked"]
    assert "strict: 8 of 10 requests got no whole answer" in str(result.table())


class Forgetful(Scheduler):
    """Never schedules anything."""

    def schedule(self, now: float) -> Plan:
        return Plan()


class Greedy(ChunkedScheduler):
    """Admits with all tokens of the prompt, whatever the budget."""

    def schedule(self, now: float) -> Plan:
        plan = super().schedule(now)
        while self.waiting and self.admit(plan, self.waiting[0], self.waiting[0].num_tokens):
            pass
        return plan


class Blockless(Scheduler):
    """Puts requests into the plan without asking for blocks."""

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        for request in [*self.waiting]:
            self.waiting.remove(request)
            self.running.append(request)
            request.status = request.status.RUNNING
        for request in self.running:
            plan.add(request, request.num_uncomputed_tokens, [])
        return plan


class Clumsy(ChunkedScheduler):
    """Breaks at its fifth step."""

    def schedule(self, now: float) -> Plan:
        self.count = getattr(self, "count", 0) + 1
        return super().schedule(now) if self.count < 5 else self.nothing_of_this_name


@pytest.mark.parametrize(("policy", "prompt", "law", "whom"), [
    (Forgetful, 200, "progress", "r0"), (Greedy, 200, "token budget", "r2"), (Blockless, 40, "no scheduled request without blocks", "r0")])
def test_a_policy_that_breaks_a_law_is_out_with_the_law_the_step_and_whom_and_the_others_finish(policy, prompt, law, whom, cost):
    many = Workload.make(6, prompt_tokens=prompt, output_tokens=5)
    result = lab.race([policy, "chunked"], many, clock=cost, show=False, max_num_batched_tokens=256)
    broken = result.broken[policy.__name__]
    assert (broken.law, broken.request_id) == (law, whom) and broken.step >= 1
    assert list(result.broken) == [policy.__name__] and result.served_all("chunked")
    assert f"{policy.__name__} is out: step {broken.step}" in str(result.table())


def test_a_policy_with_a_plain_mistake_is_out_with_its_error_and_what_it_did_before_is_kept(cost):
    result = lab.race([Clumsy, "chunked"], RAGGED, clock=cost, show=False)
    assert isinstance(result.broken["Clumsy"], AttributeError) and "nothing_of_this_name" in str(result.table())
    assert len([step for step in steps(result.runs["Clumsy"]) if step.scheduled]) == 4
    assert result.served_all("chunked")


def test_a_policy_that_keeps_the_laws_races_under_its_own_name_with_its_docstring_as_rule(cost):
    class LastComeFirst(ChunkedScheduler):
        """Whoever came last is served first."""

        def enqueue(self, request, first):
            self.waiting.appendleft(request)

    result = lab.race([LastComeFirst, "chunked"], RAGGED, clock=cost, show=False)
    assert result.served_all("LastComeFirst") and result.titles["LastComeFirst"] == "Whoever came last is served first."


def test_an_interrupt_gives_back_what_there_is(cost):
    class Stopped(ChunkedScheduler):
        def schedule(self, now: float) -> Plan:
            if now > 0.2:
                raise KeyboardInterrupt
            return super().schedule(now)

    result = lab.race(["static", Stopped], RAGGED, clock=cost, show=False)
    assert not result.complete and not result.broken
    assert 0 < result.measures["Stopped"]["finished"] < 12 and result.measures["Stopped"]["makespan"] is None
    assert "Interrupted" in str(result.table()) and result.plot().png().startswith(b"\x89PNG")


@pytest.mark.parametrize(("policies", "said"), [
    (["statik"], "no policy 'statik'; choose static, dynamic"), ([("static", {"size": 3})], "no parameter 'size'"), ([], "at least one"),
    (["chunked", "chunked"], "races twice")])
def test_policies_that_do_not_exist_are_refused_by_name(policies, said, cost):
    with pytest.raises(OptionsError, match=said):
        lab.race(policies, RAGGED, clock=cost, show=False)


def test_a_workload_that_can_never_fit_is_refused_before_anything_starts(cost):
    long = Workload((Item(0, tuple(range(200)), 30),))
    with pytest.raises(WorkloadError, match="15 blocks of 16, and the pool has 10"):
        lab.race("chunked", long, clock=cost, show=False, num_blocks=10)
    with pytest.raises(WorkloadError, match="whole could never serve request 1: .*--max-num-batched-tokens 100"):
        lab.race({"whole": ("continuous", {"max_num_batched_tokens": 100})}, long, clock=cost, show=False)
    with pytest.raises(ValueError, match="clock is 'fast'"):
        lab.race("chunked", RAGGED, clock="fast", show=False)


def test_the_same_policy_with_other_parameters_is_another_contestant(cost):
    result = lab.race([("static", {"batch_size": 2}), ("static", {"batch_size": 6})], RAGGED, clock=cost, show=False)
    assert list(result.runs) == ["static, batch_size 2", "static, batch_size 6"]
    assert result.measures["static, batch_size 2"] != result.measures["static, batch_size 6"]


def test_a_result_is_json_with_where_it_comes_from(cost, tmp_path):
    result = lab.race(["chunked", Forgetful], RAGGED, clock=cost, show=False)
    told = json.loads(result.save(tmp_path / "race.json").read_text())
    assert told["workload"]["hash"] == RAGGED.hash and told["clock"]["step"] == 2.0 and told["badge"] == "stand-in"
    assert told["measures"]["chunked"] == result.measures["chunked"] and "progress" in told["broken"]["Forgetful"]
    assert told["configuration"]["chunked"]["policy"] == "chunked"


def test_two_policies_race_in_real_time_with_the_real_model():
    brief = Workload.make(4, 40, prompt_tokens=(8, 40), output_tokens=(2, 6), seed=1)
    result = lab.race(["static", "chunked"], brief, show=False, num_blocks=40)
    assert result.badge == "live" and not result.broken
    for run in result.runs.values():
        assert run.header.badge == "live" and {len(step.sampled.get("r0", ())) for step in steps(run)} <= {0, 1}
        arrived = {rid: arrival.t for step in steps(run) for rid, arrival in step.arrived.items()}
        assert [arrived[f"r{n}"] for n in range(4)] == pytest.approx([item.arrival for item in brief.items], abs=1e-6)
        assert all(step.t >= arrival for step in steps(run) for arrival in [arrived[rid] for rid in step.scheduled])
    tokens = [{rid: [token for step in steps(run) for token in step.sampled.get(rid, ())] for rid in ("r0", "r1", "r2", "r3")}
              for run in result.runs.values()]
    assert tokens[0] == tokens[1]  # padding and batching do not change an answer


def test_a_race_in_real_time_does_not_stop_to_look_through_what_the_notebook_holds():
    class Watched(ChunkedScheduler):
        frozen = 0

        def schedule(self, now):
            Watched.frozen = max(Watched.frozen, gc.get_freeze_count())
            return super().schedule(now)

    held, threads = [[] for _ in range(100_000)], torch.get_num_threads()
    lab.race({"watched": Watched}, Workload.make(2, 30, prompt_tokens=(10, 20), output_tokens=(2, 4), seed=5), show=False)
    assert Watched.frozen > len(held)
    assert gc.get_freeze_count() == 0 and torch.get_num_threads() == threads, "everything is as it was"


def test_calibration_measures_the_real_engine():
    cost = lab.race.calibrate(seconds=0.3)
    assert cost.steps >= 60 and cost.step + cost.prefill_token + cost.decode_sequence > 0 and cost.of["model"] == "tiny"


def test_a_race_on_the_step_cost_clock_needs_no_torch(cost):
    code = ("import sys, labkit as lab\nfrom labkit.race import StepCost, Workload\n"
            "lab.race(['static', 'chunked'], Workload.make(3), clock=StepCost(1, 0, 0, 0, 0), show=False)\nprint('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_view_follows_the_race_and_holds_all_of_it_at_the_end(cost):
    result = lab.race(["static", "chunked"], RAGGED, clock=cost)
    shown = result.view.measures
    assert {name: found.finished for name, found in shown.items()} == {"static": 12, "chunked": 12}
    assert result.view.status == "ended"
    result.view.close()


def test_pictures_say_who_raced(cost):
    result = lab.race(["static", "chunked"], RAGGED, clock=cost, show=False)
    for picture in (result.plot(), result.ledger()):
        assert picture.png().startswith(b"\x89PNG") and "static" in picture.alt and "stand-in" in picture.alt


def test_a_step_cost_is_made_of_five_terms():
    assert StepCost(1, 2, 3, 4, 5).predict((1, 10, 100, 1000, 10000)) == 1 + 20 + 300 + 4000 + 50000
