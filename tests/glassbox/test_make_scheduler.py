"""Policies by name, by class and by import path; their parameters from Python and from a command line."""
from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from labkit.glassbox.options import OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import POLICIES, make_scheduler
from labkit.glassbox.policies.parameters import parameters_of
from labkit.glassbox.scheduler import Scheduler
from labkit.glassbox.server import check, parser
from tests.glassbox.harness import Loop, scheduler_of

ROOMY = dict(num_gpu_blocks_override=64, max_model_len=32, max_num_seqs=8, max_num_batched_tokens=64)


def test_there_is_a_policy_for_each_name_and_every_parameter_has_a_default():
    assert list(POLICIES) == ["static", "dynamic", "tgi", "continuous", "chunked"]
    for name in POLICIES:
        loop = Loop(scheduler_of(name, **ROOMY))
        loop.scheduler.draining = True
        loop.add("a", [1] * 4)
        loop.run()
        assert loop.finished["a"] == loop.alone([1] * 4, 4)


@pytest.mark.parametrize(
    ("policy", "parameters", "message"),
    [
        ("fastest", {}, "there is no policy 'fastest'; choose static, dynamic, tgi, continuous, chunked, or give a class"),
        ("static", {"size": 3}, "policy 'static' has no parameter 'size'; it has batch_size, max_batch_delay"),
        ("static", {"max_num_seqs": 3}, "policy 'static' has no parameter 'max_num_seqs'; it has batch_size, max_batch_delay"),
        ("no.such.module:Policy", {}, "policy 'no.such.module:Policy' cannot be imported: No module named"),
        ("labkit.glassbox.plan:Plan", {}, "there is no policy <class"),
        ("static", {"batch_size": 0}, "--batch-size must be 1 or more"),
        ("dynamic", {"preferred_batch_size": [2, 9], "max_batch_size": 8}, "preferred_batch_size must be from 1 to max_batch_size 8"),
        ("dynamic", {"timeout_action": "WAIT"}, "timeout_action must be REJECT or DELAY, got 'WAIT'"),
        ("dynamic", {"priority_levels": 2}, "default_priority_level must be from 1 to priority_levels 2, got 0"),
        ("tgi", {"max_concurrent_requests": 0}, "max_concurrent_requests and max_batch_size must be at least 1"),
        ("chunked", {"scheduling_policy": "lottery"}, "--scheduling-policy must be fcfs or priority, got 'lottery'"),
        ("chunked", {"max_num_batched_tokens": 3}, "--max-num-batched-tokens 3 is less than --max-num-seqs 8"),
        ("chunked", {"long_prefill_token_threshold": 4, "enable_chunked_prefill": False}, "it needs --enable-chunked-prefill"),
    ],
)
def test_names_and_values_that_cannot_work_are_refused_with_what_can(policy, parameters, message):
    with pytest.raises(OptionsError, match=message):
        scheduler_of(policy, parameters, **ROOMY)


class OneAtATime(Scheduler):
    """A policy as a learner would write it."""

    def __init__(self, options, *, pause: float = 0.0):
        super().__init__(options)
        self.pause = pause

    def schedule(self, now):
        plan = Plan()
        if self.running:
            self.extend(plan, self.running[0], 1)
        elif self.waiting and now >= self.waiting[0].arrival + self.pause:
            self.admit(plan, self.waiting[0], self.waiting[0].num_tokens)
        else:
            plan.wait_until = self.waiting[0].arrival + self.pause if self.waiting else math.inf
        return plan


@pytest.mark.parametrize("policy", [OneAtATime, f"{__name__}:OneAtATime"], ids=["class", "import path"])
def test_a_policy_of_ones_own_works_wherever_a_name_does(policy, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules[OneAtATime.__module__])
    loop = Loop(make_scheduler(policy, scheduler_of(**ROOMY).options, pause=2.0))
    for name in "ab":
        loop.add(name, [ord(name)] * 4)
    loop.run()
    assert loop.finished == {name: loop.alone([ord(name)] * 4, 4) for name in "ab"}
    assert not loop.plans[0].requests and loop.plans[1].num_scheduled_tokens == {"a": 4}


def command_line(*words: str):
    """The scheduler that `labkit serve glassbox WORDS` would make."""
    _, options = check(parser().parse_args(["--model", "tiny", "--max-model-len", "64", *words]))
    return make_scheduler(options.policy, options, **options.policy_parameters)


def test_every_parameter_is_an_option_of_the_server_under_its_own_name():
    assert command_line("--policy", "static", "--batch-size", "3").batch_size == 3
    dynamic = command_line(
        *("--policy", "dynamic", "--max-batch-size", "8", "--preferred-batch-size", "4", "8", "--max-queue-delay-microseconds", "500"),
        *("--priority-levels", "2", "--default-priority-level", "1", "--priority-queue-policy", '{"2": {"max_queue_size": 1}}'),
    )
    assert (dynamic.max_batch_size, dynamic.preferred, dynamic.delay) == (8, [4, 8], 0.0005)
    assert dynamic.level_policies[2].max_queue_size == 1
    tgi = command_line("--policy", "tgi", "--waiting-served-ratio", "1.2", "--no-prefill-chunking", "--max-batch-size", "5")
    assert (tgi.waiting_served_ratio, tgi.prefill_chunking, tgi.max_num_seqs) == (1.2, False, 5)
    assert command_line("--scheduling-policy", "priority").by_priority
    assert command_line("--policy", "continuous", "--max-num-seqs", "3").max_num_seqs == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "statik"], "there is no policy 'statik'"),
        (["--policy", "static", "--max-concurrent-requests", "3"], "policy 'static' has no parameter 'max_concurrent_requests'"),
        (["--batch-size", "3"], "policy 'chunked' has no parameter 'batch_size'; it has scheduling_policy, .*, max_num_seqs"),
    ],
)
def test_an_option_of_another_policy_is_refused_before_anything_is_loaded(words, message):
    with pytest.raises(OptionsError, match=message):
        command_line(*words)


def test_an_engine_option_that_the_policy_does_not_obey_is_said_to_be_of_no_use(caplog):
    command_line("--policy", "static", "--max-num-seqs", "3")
    assert "the policy static has no use for --max-num-seqs" in caplog.text
    caplog.clear()
    command_line("--policy", "continuous", "--max-num-seqs", "3")
    assert not caplog.records


def test_the_page_on_policies_names_every_parameter_with_its_default():
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    for policy in POLICIES.values():
        for parameter in parameters_of(policy).values():
            assert f"| `{parameter.name}` | {parameter.default} |" in page
