"""Greedy tokens are those of transformers' `generate`, one prompt at a time, whatever batching, paging and preemption do."""
from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch

from labkit.glassbox import Engine, EngineOptions, SamplingParams
from labkit.models import folder

NEAR_TIE = 1e-3  # of logits: where the reference itself is this undecided, sums taken in another order may decide otherwise


@dataclass
class Case:
    prompt: list[int]
    expected: list[int]
    max_tokens: int


def make_prompts(count: int, vocab_size: int, longest: int, seed: int) -> list[list[int]]:
    """Random prompts, most of them beginning like another one: whole, in part, and with a block-aligned or odd common length."""
    rng = random.Random(seed)
    stems = [[rng.randrange(3, vocab_size) for _ in range(longest)] for _ in range(4)]
    prompts = []
    for _ in range(count):
        stem = rng.choice(stems)[: rng.choice([0, 7, 16, 32, 33, longest - 8])]
        prompts.append((stem + [rng.randrange(3, vocab_size) for _ in range(rng.randint(1, 24))])[:longest])
        if rng.random() < 0.15:
            prompts[-1] = rng.choice(prompts)
    return prompts


def reference(path, prompts: list[list[int]], max_tokens: int) -> list[Case]:
    """Continuations by transformers in float32; prompts whose continuation passes a near tie are left out."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    known: dict[tuple, list[int] | None] = {}
    for prompt in prompts:
        if tuple(prompt) in known:
            continue
        with torch.inference_mode():
            out = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=max_tokens,
                do_sample=False, return_dict_in_generate=True, output_logits=True, pad_token_id=0,
            )  # fmt: skip
        top = torch.stack(out.logits)[:, 0].topk(2).values
        clear = bool(((top[:, 0] - top[:, 1]) > NEAR_TIE).all())
        known[tuple(prompt)] = out.sequences[0, len(prompt) :].tolist() if clear else None
    return [Case(prompt, known[tuple(prompt)], max_tokens) for prompt in prompts if known[tuple(prompt)] is not None]


@pytest.fixture(scope="module")
def cases(model_folder):
    made: dict[str, list[Case]] = {}

    def get(kind: str) -> list[Case]:
        if kind not in made:
            if kind == "tiny":
                made[kind] = reference(folder("tiny"), make_prompts(60, 2048, 72, seed=5), max_tokens=16)
            else:
                made[kind] = reference(model_folder(kind), make_prompts(240, 211, 72, seed=3), max_tokens=20)
            assert len(made[kind]) > 0.8 * (60 if kind == "tiny" else 240)
        return made[kind]

    return get


class Witness:
    """Looks at every plan and remembers what really happened."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.schedule = engine, engine.scheduler.schedule
        self.preempted: set[str] = set()
        self.preemptions = self.prefix_hits = self.mid_block_chunks = self.mixed_steps = self.hits_after_preemption = 0
        self.chunks_of_preempted = self.padding = 0
        engine.scheduler.schedule = self

    def __call__(self, now):
        plan = self.schedule(now)
        size = self.engine.options.block_size
        self.preemptions += len(plan.preempted)
        self.preempted |= {request.request_id for request in plan.preempted}
        self.prefix_hits += len(plan.shared)
        self.padding += sum(plan.padding.values())
        self.hits_after_preemption += sum(request_id in self.preempted for request_id in plan.shared)
        chunks = decodes = 0
        for request in plan.requests:
            tokens = plan.num_scheduled_tokens[request.request_id]
            if tokens < request.num_uncomputed_tokens:
                chunks += 1
                self.mid_block_chunks += size == 1 or (request.num_computed_tokens + tokens) % size != 0
                self.chunks_of_preempted += request.num_preemptions > 0
            elif request.num_output_tokens and tokens == 1:
                decodes += 1
        self.mixed_steps += bool(chunks and decodes)
        return plan


def serve(path, cases: list[Case], options: EngineOptions, arrivals: int = 9) -> tuple[list[list[int]], Witness]:
    """Token ids of all cases, arriving a few at a time while others run."""
    engine = Engine.from_folder(path, options)
    witness = Witness(engine)
    queue = list(enumerate(cases))
    tokens: dict[str, list[int]] = {}
    while queue or engine.has_unfinished():
        for index, case in queue[:arrivals]:
            tokens[f"{index}"] = []
            engine.add_request(case.prompt, SamplingParams(max_tokens=case.max_tokens, temperature=0.0), f"{index}", priority=index % 3)
        queue = queue[arrivals:]
        engine.scheduler.draining = not queue
        for output in engine.step():
            tokens[output.request_id] += output.token_ids
    assert engine.scheduler.kv.pool.num_used == 0
    return [tokens[f"{index}"] for index in range(len(cases))], witness


@pytest.mark.parametrize("block_size", [1, 4, 16, 32])
@pytest.mark.parametrize("kind", ["llama", "llama3", "qwen2", "qwen3", "tiny"])
def test_tokens_are_equal_where_preemption_prefix_hits_and_chunks_coincide(kind, block_size, cases, model_folder):
    path = folder("tiny") if kind == "tiny" else model_folder(kind)
    options = EngineOptions(
        block_size=block_size,
        num_gpu_blocks_override=-(-160 // block_size),
        max_model_len=96,
        max_num_seqs=8,
        max_num_batched_tokens=29,  # odd, so that chunks end within blocks
        dtype="float32",
        check_invariants=True,
        policy_parameters={"scheduler_reserve_full_isl": False},  # admit as soon as a chunk fits: preempt as often as possible
    )
    tokens, witness = serve(path, cases(kind), options)
    assert tokens == [case.expected for case in cases(kind)]
    assert witness.preemptions >= 10 and witness.prefix_hits >= 10 and witness.mid_block_chunks >= 10 and witness.mixed_steps >= 10
    assert witness.hits_after_preemption >= 1 and witness.chunks_of_preempted >= 1


@pytest.mark.parametrize(
    "switches",
    [
        {"enable_prefix_caching": False},
        {"enable_chunked_prefill": False, "max_num_batched_tokens": 100},
        {"enable_prefix_caching": False, "enable_chunked_prefill": False, "max_num_batched_tokens": 100},
        {"max_num_seqs": 1},
        {"num_gpu_blocks_override": 2000, "max_num_seqs": 64, "max_num_batched_tokens": 4096},
    ],
    ids=lambda switches: ",".join(switches),
)
def test_tokens_are_equal_with_every_feature_switched_off(switches, cases, model_folder):
    settings = {"block_size": 4, "num_gpu_blocks_override": 40, "max_model_len": 96, "max_num_seqs": 8, "max_num_batched_tokens": 29}
    settings |= switches
    tokens, witness = serve(model_folder("qwen3"), cases("qwen3")[:80], EngineOptions(**settings, check_invariants=True))
    assert tokens == [case.expected for case in cases("qwen3")[:80]]
    if not settings.get("enable_prefix_caching", True):
        assert witness.prefix_hits == 0
    if not settings.get("enable_chunked_prefill", True):
        assert witness.mid_block_chunks == 0


POLICIES = {
    "static": ("static", {"batch_size": 6}),
    "dynamic": ("dynamic", {"max_batch_size": 5, "preferred_batch_size": [3, 5]}),
    "tgi": ("tgi", {"max_batch_prefill_tokens": 29}),
    "tgi without chunking": ("tgi", {"prefill_chunking": False, "waiting_served_ratio": 1.2}),
    "continuous": ("continuous", {"max_num_batched_tokens": 100}),
    "chunked by priority": ("chunked", {"scheduling_policy": "priority", "long_prefill_token_threshold": 11}),
}


@pytest.mark.parametrize("name", POLICIES)
def test_tokens_are_equal_under_every_policy_padding_included(name, cases, model_folder):
    policy, parameters = POLICIES[name]
    options = EngineOptions(
        block_size=8, num_gpu_blocks_override=60, max_model_len=96, max_num_seqs=8, max_num_batched_tokens=29, check_invariants=True,
        policy=policy, policy_parameters=parameters,
    )  # fmt: skip
    chosen = cases("qwen3")[:40]
    tokens, witness = serve(model_folder("qwen3"), chosen, options)
    assert tokens == [case.expected for case in chosen]
    assert (witness.padding > 100) == (policy in ("static", "dynamic"))


def test_bfloat16_generates_and_stays_close_to_float32(cases, model_folder):
    """bfloat16 rounds differently in every order of sums: most first tokens agree, and nothing is not a number."""
    chosen = cases("llama")[:40]
    options = EngineOptions(block_size=8, num_gpu_blocks_override=200, max_model_len=96, dtype="bfloat16")
    tokens, _ = serve(model_folder("llama"), chosen, options)
    agree = sum(got[0] == case.expected[0] for got, case in zip(tokens, chosen, strict=True))
    assert agree >= 0.8 * len(chosen)
