"""The sampler against transformers' logits processors and against its own promise: a seed gives the same tokens in any batch."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.glassbox import Engine, EngineOptions, SamplingParams
from labkit.glassbox.request import Request
from labkit.glassbox.sampler import Sampler

VOCAB = 50


def request_of(prompt=(1, 2, 3), **params) -> Request:
    return Request("r", list(prompt), SamplingParams(**params))


def frequencies(logits: torch.Tensor, draws: int, **params) -> np.ndarray:
    """How often each token is drawn, over one big batch."""
    requests = [request_of(seed=seed, **params) for seed in range(draws)]
    tokens = Sampler([])(logits.expand(draws, -1).clone(), requests)
    return np.bincount(tokens, minlength=VOCAB) / draws


def reference(logits: torch.Tensor, prompt, **params) -> np.ndarray:
    """Probabilities by transformers' processors, in the order vLLM and transformers both use."""
    from transformers import RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    ids, scores = torch.tensor([list(prompt)]), logits[None].clone()
    if "repetition_penalty" in params:
        scores = RepetitionPenaltyLogitsProcessor(params["repetition_penalty"])(ids, scores)
    if "temperature" in params:
        scores = TemperatureLogitsWarper(params["temperature"])(ids, scores)
    if params.get("top_k", 0) > 0:
        scores = TopKLogitsWarper(params["top_k"])(ids, scores)
    if "top_p" in params:
        scores = TopPLogitsWarper(params["top_p"])(ids, scores)
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": -1},
        {"top_p": 0.01},
        {"top_p": 0.6},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.5, "temperature": 0.8, "top_k": 12, "top_p": 0.9},
    ],
    ids=str,
)
def test_drawn_frequencies_follow_the_distribution_of_transformers_processors(params):
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(1)) * 2
    expected = reference(logits, (1, 2, 3), **params)
    seen = frequencies(logits, 10_000, **params)
    assert set(np.flatnonzero(seen)) <= set(np.flatnonzero(expected))
    assert np.abs(seen - expected).max() < 0.02  # 4 standard deviations of the most uncertain frequency


def test_greedy_is_argmax_and_other_requests_in_the_batch_do_not_change_it():
    logits = torch.randn(4, VOCAB)
    requests = [request_of(temperature=0.0), request_of(temperature=1.0, seed=1), request_of(temperature=0.0), request_of(seed=2)]
    tokens = Sampler([])(logits.clone(), requests)
    assert tokens[0] == logits[0].argmax() and tokens[2] == logits[2].argmax()


def test_greedy_obeys_the_repetition_penalty_as_transformers_does():
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(3))
    prompt = logits[0].topk(10).indices.tolist()
    expected = RepetitionPenaltyLogitsProcessor(3.0)(torch.tensor([prompt]), logits.clone()).argmax()
    assert Sampler([])(logits.clone(), [request_of(prompt, temperature=0.0, repetition_penalty=3.0)]) == [expected]
    assert expected != logits.argmax()


def test_end_of_sequence_cannot_come_before_min_tokens():
    logits = torch.zeros(1, VOCAB)
    logits[0, 7], logits[0, 8] = 100.0, 90.0
    request = request_of(temperature=0.0, min_tokens=2, max_tokens=5, stop_token_ids=[8])
    assert Sampler([7])(logits.clone(), [request])[0] not in (7, 8)
    request.token_ids += [0, 0]
    assert Sampler([7])(logits.clone(), [request]) == [7]


def engine_of(model_folder) -> Engine:
    return Engine.from_folder(model_folder("llama"), EngineOptions(num_gpu_blocks_override=64, block_size=4, max_model_len=128))


def test_a_seeded_request_gives_the_same_tokens_alone_in_any_batch_and_after_preemption(model_folder):
    params = SamplingParams(max_tokens=20, temperature=0.9, top_k=40, top_p=0.95, seed=11, ignore_eos=True)
    others = [SamplingParams(max_tokens=n, temperature=1.3, seed=n, ignore_eos=True) for n in range(3, 12)]
    prompt = [5, 6, 7, 8, 9]
    alone = engine_of(model_folder).generate([prompt], params)[0].token_ids
    crowd = engine_of(model_folder).generate([[9, n + 10] for n in range(9)] + [prompt], [*others, params])[-1].token_ids
    options = EngineOptions(num_gpu_blocks_override=12, block_size=4, max_model_len=48, check_invariants=True)
    greedy_one = SamplingParams(max_tokens=38, temperature=0.0, ignore_eos=True)
    tight = Engine.from_folder(model_folder("llama"), options).generate([[3, 4] * 5, prompt], [greedy_one, params])[1]
    assert alone == crowd == tight.token_ids
    assert tight.num_preemptions > 0


def test_different_seeds_and_no_seed_give_different_tokens(model_folder):
    engine = engine_of(model_folder)
    prompts = [[5, 6, 7]] * 4
    params = [SamplingParams(max_tokens=20, seed=seed, ignore_eos=True) for seed in (1, 2, None, None)]
    outputs = [tuple(output.token_ids) for output in engine.generate(prompts, params)]
    assert len(set(outputs)) == 4
    again = [tuple(output.token_ids) for output in engine_of(model_folder).generate(prompts, params)]
    assert again == outputs, "a run repeats: requests without a seed get theirs from the engine's"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("repetition_penalty", 0.0),
        ("min_tokens", 17),
    ],
)
def test_parameters_without_meaning_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .* got {value}"):
        SamplingParams(**{name: value})


@pytest.mark.parametrize("params", [
    {"temperature": 1e-310}, {"temperature": 1e308, "min_tokens": 1}, {"repetition_penalty": 1e-39}, {"repetition_penalty": 1e308},
    {"repetition_penalty": 5e-324, "min_tokens": 1}, {"top_k": 10**400}, {"stop_token_ids": [*range(VOCAB)], "min_tokens": 1},
], ids=lambda params: str(params)[:40])
@pytest.mark.parametrize("prompt", [(1, 2, 3), tuple(range(VOCAB))], ids=["some seen", "all seen"])
def test_extreme_parameters_still_give_a_token(params, prompt):
    logits = torch.linspace(-3, 3, VOCAB)[None]
    logits[0, 7] = 0.0
    [token] = Sampler([])(logits, [request_of(prompt, seed=0, **params)])
    assert 0 <= token < VOCAB


def test_temperatures_near_zero_are_as_good_as_greedy():
    assert SamplingParams(temperature=1e-9).temperature == 0.01 and SamplingParams(temperature=0.0).greedy
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(2))
    assert Sampler([])(logits.clone(), [request_of(temperature=1e-9, seed=3)]) == [int(logits.argmax())]
