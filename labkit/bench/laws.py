"""`labkit bench laws`: random workloads under every policy, each checked after every step. No model, no torch."""
from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.bench import report
from labkit.glassbox.engine import Engine
from labkit.glassbox.invariants import InvariantError
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.policies import POLICIES, make_scheduler
from labkit.glassbox.refusal import Overloaded
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.scheduler import Scheduler
from labkit.glassbox.slot_runner import SlotRunner
from labkit.glassbox.tracing import RecorderLike

CONTEXT = 24  # tokens
TICK = 1e-3  # seconds a step takes
Pick = Callable[[int, int], int]  # a whole number from the first to the second, both included


@dataclass(slots=True)
class Asked:
    """One request of a workload."""

    name: str
    prompt: list[int]
    max_tokens: int
    priority: int


@dataclass(slots=True)
class Case:
    """A policy, a pool and what happens: in each turn requests arrive, some are cancelled, then the engine steps."""

    policy: str
    parameters: dict[str, Any]
    options: dict[str, Any]
    turns: list[tuple[list[Asked], list[str]]]
    drains: bool  # whether the engine is told that the last request has arrived

    def scheduler(self) -> Scheduler:
        options = EngineOptions(**self.options, check_invariants=True)
        return make_scheduler(self.policy, options, **self.parameters)


@dataclass(slots=True)
class Outcome:
    """What became of a case's requests."""

    tokens: dict[str, list[int]] = field(default_factory=dict)  # of those that came to their end
    cancelled: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    steps: int = 0
    preemptions: int = 0
    hit_tokens: int = 0
    padding: int = 0


def make_case(pick: Pick, policy: str | None = None) -> Case:
    """A case drawn with `pick`: few kinds of tokens and common stems, so that prefixes meet; a pool hardly larger than one request."""
    block_size = pick(1, 8)
    longest = -(-CONTEXT // block_size)
    max_num_seqs = pick(1, 6)
    policy = policy or list(POLICIES)[pick(0, len(POLICIES) - 1)]
    parameters, chunked = PARAMETERS[policy](pick, max_num_seqs)
    options = {
        "block_size": block_size, "num_gpu_blocks_override": pick(longest, 3 * longest), "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": pick(max_num_seqs, 30) if chunked else pick(CONTEXT, 40), "max_model_len": CONTEXT,
        "enable_prefix_caching": bool(pick(0, 2)), "enable_chunked_prefill": chunked,
    }  # fmt: skip
    stems = [[pick(0, 4) for _ in range(pick(0, 16))] for _ in range(pick(1, 3))]
    turns, names = [], []
    for _ in range(pick(1, 12)):
        arrivals = []
        for _ in range(pick(0, 3)):
            prompt = stems[pick(0, len(stems) - 1)] + [pick(0, 4) for _ in range(pick(1, 8))]
            names.append(f"r{len(names)}")
            arrivals.append(Asked(names[-1], prompt[: CONTEXT - 1], pick(1, 10), pick(0, 3)))
        turns.append((arrivals, [names[pick(0, len(names) - 1)]] if names and pick(0, 3) == 0 else []))
    return Case(policy, parameters, options, turns, bool(pick(0, 1)))


def _static(pick: Pick, seats: int) -> tuple[dict[str, Any], bool]:
    return {"batch_size": seats, "max_batch_delay": pick(0, 20)}, True


def _dynamic(pick: Pick, seats: int) -> tuple[dict[str, Any], bool]:
    levels = 3 * pick(0, 1)
    return {
        "max_batch_size": seats, "preferred_batch_size": [pick(1, seats) for _ in range(pick(0, 2))] or None,
        "max_queue_delay_microseconds": pick(0, 8) * 1000, "priority_levels": levels,
        "default_priority_level": min(levels, 2), "max_queue_size": 3 * pick(0, 1),
        "default_timeout_microseconds": 9000 * pick(0, 1), "timeout_action": ("REJECT", "DELAY")[pick(0, 1)],
    }, True  # fmt: skip


def _tgi(pick: Pick, seats: int) -> tuple[dict[str, Any], bool]:
    return {
        "waiting_served_ratio": pick(0, 12) / 10, "max_waiting_tokens": pick(1, 6), "max_batch_prefill_tokens": pick(6, 40),
        "max_batch_total_tokens": pick(CONTEXT - 4, 80) if pick(0, 1) else None, "max_concurrent_requests": pick(2, 9),
        "max_batch_size": seats if pick(0, 1) else None, "prefill_chunking": bool(pick(0, 1)),
    }, True  # fmt: skip


def _continuous(pick: Pick, seats: int) -> tuple[dict[str, Any], bool]:
    return {}, bool(pick(0, 1))


def _chunked(pick: Pick, seats: int) -> tuple[dict[str, Any], bool]:
    chunked = bool(pick(0, 3))
    return {
        "scheduling_policy": ("fcfs", "priority")[pick(0, 1)], "long_prefill_token_threshold": pick(0, 6) if chunked else 0,
        "scheduler_reserve_full_isl": bool(pick(0, 1)),
    }, chunked  # fmt: skip


PARAMETERS = {"static": _static, "dynamic": _dynamic, "tgi": _tgi, "continuous": _continuous, "chunked": _chunked}


class Trial:
    """Serves a case and holds it to all laws. `run` raises `InvariantError`, of the checker's laws or of its own four."""

    def __init__(self, case: Case, scheduler: Scheduler | None = None, recorder: RecorderLike | None = None) -> None:
        self.case, self.now = case, 0.0
        self.scheduler = scheduler or case.scheduler()
        self.runner = SlotRunner(self.scheduler.options.block_size)
        self.engine = Engine(self.scheduler, self.runner, recorder=recorder, clock=lambda: self.now)
        self.outcome = Outcome()
        self.arrived: dict[str, int] = {}
        self.asked: dict[str, Asked] = {}

    def run(self) -> Outcome:
        for arrivals, cancelled in self.case.turns:
            for asked in arrivals:
                self._add(asked)
            for name in cancelled:
                if self.engine.abort(name) is not None:
                    self.outcome.cancelled.add(name)
            self._step()
        self.scheduler.draining = self.case.drains
        limit = self.engine.step_number + 4 * CONTEXT * (len(self.asked) + 2)
        while self.engine.has_unfinished():
            self._step()
            if self.engine.step_number > limit:
                self._broken("every admitted request ends", f"not within {limit} steps", next(iter(self.scheduler.requests)))
        self._check_end()
        return self.outcome

    def _add(self, asked: Asked) -> None:
        self.now += TICK / 1000  # no two arrive at the same time
        self.asked[asked.name] = asked
        params = SamplingParams(max_tokens=asked.max_tokens, temperature=0.0)
        try:
            self.engine.add_request(asked.prompt, params, asked.name, asked.priority)
        except (Overloaded, ValueError):
            self.outcome.refused.add(asked.name)
        else:
            self.arrived[asked.name] = len(self.arrived)

    def _step(self) -> None:
        before = set(map(id, self.scheduler.running))
        outputs = self.engine.step()
        for output in outputs:
            self.outcome.tokens.setdefault(output.request_id, []).extend(output.token_ids)
            if output.finish_reason == "refused":
                self.outcome.refused.add(output.request_id)
        self.now = self.engine.wait_until if self.engine.wait_until not in (None, float("inf")) else self.now + TICK
        if self._is_fair():
            self._check_order(before)

    def _is_fair(self) -> bool:
        """Whether the policy promises first come, first served."""
        given = self.case.parameters
        if self.case.policy == "dynamic":
            return not given["priority_levels"] and not (given["default_timeout_microseconds"] and given["timeout_action"] == "DELAY")
        return given.get("scheduling_policy") != "priority"

    def _check_order(self, before: set[int]) -> None:
        waiting = min((self.arrived[request.request_id] for request in self.scheduler.waiting), default=len(self.arrived))
        for request in self.scheduler.running:
            if id(request) not in before and self.arrived[request.request_id] > waiting:
                self._broken("first come, first served", "started before another that came earlier", request.request_id)

    def _check_end(self) -> None:
        for name in self.asked.keys() - self.outcome.cancelled - self.outcome.refused:
            asked = self.asked[name]
            expected = alone(self.runner, asked.prompt, asked.max_tokens)
            if self.outcome.tokens.get(name) != expected:
                self._broken("tokens as if it were alone", f"{self.outcome.tokens.get(name)} instead of {expected}", name)
        if self.scheduler.held or self.scheduler.kv.pool.num_used:
            self._broken("everything is given back", f"{self.scheduler.kv.pool.num_used} blocks are held by nobody")
        self.outcome.steps, self.outcome.preemptions = self.engine.step_number, self.scheduler.num_preemptions
        self.outcome.hit_tokens, self.outcome.padding = self.scheduler.kv.hits, self.runner.num_padding_tokens

    def _broken(self, law: str, detail: str, name: str | None = None) -> None:
        raise InvariantError(law, self.engine.step_number, detail, name)


def alone(runner: SlotRunner, prompt: list[int], max_tokens: int) -> list[int]:
    """One request at a time, nothing cached, nothing shared."""
    token_ids = list(prompt)
    while len(token_ids) - len(prompt) < max_tokens and len(token_ids) < CONTEXT:
        token_ids.append(runner.next_token(token_ids))
    return token_ids[len(prompt) :]


def main(argv: list[str]) -> int:
    """Serve random workloads; exit status 1 if any law was broken."""
    parse = report.parser("laws", "Random workloads under every policy, each held to every law after every step.")
    parse.add_argument("--workloads", type=int, default=20_000, help="how many (default %(default)s)")
    parse.add_argument("--seed", type=int, default=0, help="of the first; the others count on from it (default %(default)s)")
    options = parse.parse_args(argv)
    began = time.perf_counter()
    policies: dict[str, Counter[str]] = {name: Counter() for name in POLICIES}
    broken: list[dict[str, Any]] = []
    for seed in range(options.seed, options.seed + options.workloads):
        case = make_case(random.Random(seed).randint)
        counts = policies[case.policy]
        counts["workloads"] += 1
        try:
            outcome = Trial(case).run()
        except Exception as error:  # a crash is as bad as a broken law
            broken.append({"seed": seed, "policy": case.policy, "law": getattr(error, "law", type(error).__name__), "message": str(error)})
            continue
        counts["requests"] += sum(len(arrivals) for arrivals, _ in case.turns)
        counts["cancelled"] += len(outcome.cancelled)
        counts["refused"] += len(outcome.refused)
        counts["tokens"] += sum(map(len, outcome.tokens.values()))
        for name in ("steps", "preemptions", "hit_tokens", "padding"):
            counts[name] += getattr(outcome, name)
    result = {"workloads": options.workloads, "seed": options.seed, "broken": broken, "policies": policies}
    report.write("laws", ["laws", *argv], options, {**result, "seconds": round(time.perf_counter() - began, 1)})
    return 1 if broken else 0
