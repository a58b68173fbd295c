"""Who races: a policy with its parameters, under a name of its own, and its rule in one line."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.policies import find_policy, make_scheduler, policy_name
from labkit.glassbox.request import Request
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.scheduler import Scheduler
from labkit.race.workload import Workload, WorkloadError

Policy = str | type[Scheduler]
Entry = Policy | tuple[Policy, Mapping[str, Any]]


@dataclass(slots=True, frozen=True)
class Contestant:
    """`parameters` are the policy's own and such engine options as may stand beside them."""

    name: str
    policy: Policy
    parameters: dict[str, Any]

    def scheduler(self, options: EngineOptions) -> Scheduler:
        """A scheduler over resolved `options`. Raises `OptionsError` for parameters that it has not.

        "continuous" knows no token budget (see its file): unless it is given one, its steps may be as long as the longest prompt asks for.
        """
        parameters = self.parameters
        if self.policy == "continuous":
            parameters = {"max_num_batched_tokens": options.max_model_len + options.max_num_seqs} | parameters
        return make_scheduler(self.policy, replace(options, policy=self.policy, policy_parameters=self.parameters), **parameters)


def contestants(policies: Entry | Iterable[Entry] | Mapping[str, Entry]) -> list[Contestant]:
    """From names, classes and (policy, {parameter: value}); a mapping also names them. Raises `OptionsError` for a policy there is not.

    The same policy twice is told apart by its parameters.
    """
    if isinstance(policies, str | type):
        policies = [policies]
    named = list(policies.items()) if isinstance(policies, Mapping) else [("", entry) for entry in policies]
    if not named:
        raise OptionsError("a race needs at least one policy")
    found = []
    for name, entry in named:
        policy, parameters = entry if isinstance(entry, tuple) else (entry, {})
        find_policy(policy)
        found.append(Contestant(name or policy_name(policy), policy, dict(parameters)))
    names = [contestant.name for contestant in found]
    found = [contestant if names.count(contestant.name) == 1 else replace(contestant, name=told_apart(contestant)) for contestant in found]
    names = [contestant.name for contestant in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionsError(f"{twice} races twice: give the two different parameters, or names: {{'first': {twice!r}, 'second': ...}}")
    return found


def told_apart(contestant: Contestant) -> str:
    return ", ".join([contestant.name, *(f"{name} {value}" for name, value in contestant.parameters.items())])


def rule(scheduler: Scheduler, policy: Policy) -> str:
    """What a policy does, in one line: of the lab's own in words, of any other the first line of its docstring."""
    match policy:
        case "static":
            return f"waits for {scheduler.batch_size} requests, pads them, runs until the longest has ended"
        case "dynamic":
            return f"starts with whoever waits, at most {scheduler.max_batch_size}; pads them, runs until the longest has ended"
        case "tgi":
            chunks = "prompts in chunks" if scheduler.prefill_chunking else "prefills in steps of their own"
            return f"room for the worst case first, nobody is preempted; {chunks}, {scheduler.max_batch_prefill_tokens} tokens at most"
        case "continuous":
            return f"every step: a token for each of those running (at most {scheduler.max_num_seqs}), and whole prompts of newcomers"
        case "chunked":
            return f"every step: decodes first, then prompts in chunks, up to {scheduler.max_num_batched_tokens} tokens"
    lines = (type(scheduler).__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


def check_served(name: str, scheduler: Scheduler, workload: Workload) -> None:
    """Raises `WorkloadError` for a request that this policy could never serve, with the policy's own arithmetic."""
    for number, item in enumerate(workload.items, 1):
        params = SamplingParams(max_tokens=item.max_tokens, temperature=0.0)
        refusal = scheduler.refuses(Request(f"r{number}", list(item.prompt), params, priority=item.priority))
        if refusal is not None and refusal.retry_after is None:
            raise WorkloadError(f"{name} could never serve request {number}: {refusal.message}")
