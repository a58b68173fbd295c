"""A step as one compiled function gives what the same step gives layer by layer."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.glassbox import Engine, EngineOptions, SamplingParams
from labkit.glassbox.attention import Batch
from labkit.glassbox.runner import ModelRunner
from labkit.glassbox.threads import share
from labkit.glassbox.whole_step import parts
from labkit.models import folder

STEPS = {
    "decodes": ([5, 0, 130, 31, 12], [1, 1, 1, 1, 1]),
    "one decode": ([7], [1]),
    "prompts": ([0, 0, 9, 0], [3, 40, 17, 1]),
    "both": ([0, 20, 16, 3, 200], [9, 1, 5, 1, 1]),
    "a long chunk": ([60, 3], [150, 1]),
}


def runner_of(path, **options) -> ModelRunner:
    settings = {"block_size": 16, "num_gpu_blocks_override": 100, "max_model_len": 256, "dtype": "float32"}
    return Engine.from_folder(path, EngineOptions(**settings | options)).runner


def step(name: str, runner: ModelRunner, seed: int = 0) -> tuple[Batch, np.ndarray, np.ndarray]:
    """A batch over scattered blocks, its token ids, and the last row of every other request."""
    starts, counts = (np.array(values) for values in STEPS[name])
    rng, size = np.random.default_rng(seed), runner.kv_cache.block_size
    needed = -(-(starts + counts) // size)
    ids = rng.permutation(100)
    tables = np.zeros((len(starts), needed.max()), dtype=np.int64)
    for row, end in enumerate(np.cumsum(needed)):
        tables[row, : needed[row]] = ids[end - needed[row] : end]
    batch = Batch(starts, counts, tables, size)
    return batch, rng.integers(0, runner.vocab_size, counts.sum()), (batch.first + counts - 1)[::2]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "tiny"])
@torch.inference_mode()
def test_logits_and_cache_are_those_of_the_same_step_layer_by_layer(kind, name, threads, model_folder, monkeypatch):
    monkeypatch.setattr("labkit.glassbox.whole_step.LEAST", 2)
    runner = runner_of(folder("tiny") if kind == "tiny" else model_folder(kind))
    batch, token_ids, rows = step(name, runner)
    cache = runner.kv_cache.tensor
    before = cache.normal_(generator=torch.Generator().manual_seed(1)).clone()
    assert runner.whole.serves(batch, 1)
    logits = runner.whole(batch, token_ids, rows, threads)
    written = cache.clone()
    cache.copy_(before)
    torch.testing.assert_close(logits, runner.layer_by_layer(batch, token_ids, rows), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(written, cache, rtol=1e-4, atol=1e-4)
    changed = (written != before).any(-1).sum().item()
    assert changed == len(token_ids) * 2 * before.shape[0] * before.shape[3], "a key and a value for each token, layer and head"


def test_a_step_that_threads_cannot_share_out_goes_layer_by_layer(model_folder):
    whole = runner_of(model_folder("llama")).whole

    def serves(counts: list[int], threads: int) -> bool:
        tables = np.zeros((len(counts), 30), dtype=np.int64)
        return whole.serves(Batch(np.zeros(len(counts), dtype=np.int64), np.array(counts), tables, 8), threads)

    assert serves([200], 1) and serves([100, 100], 2) and serves([1] * 32, 2)
    assert not serves([200], 2) and not serves([1, 1, 200], 2)
    assert serves([1], 2), "too little to share out"
    whole.is_large = True
    assert not serves([1], 2) and not serves([1] * 5, 2)


@torch.inference_mode()
def test_who_shares_a_block_that_is_filled_in_the_same_step_is_computed_by_the_same_thread(model_folder, monkeypatch):
    """Its keys must have been written in every layer before they are read."""
    monkeypatch.setattr("labkit.glassbox.whole_step.LEAST", 2)
    runner = runner_of(model_folder("llama"), block_size=8)
    starts, counts = np.array([0, 16, 0]), np.array([20, 7, 9])
    alone = Batch(starts, counts, np.array([[5, 6, 7], [8, 9, 10], [11, 12, 0]]), 8)
    sharing = Batch(starts, counts, np.array([[5, 6, 7], [5, 6, 10], [11, 12, 0]]), 8)
    assert len(parts(alone, 3)) > 1
    assert parts(sharing, 3) == [(0, 3)]
    filled_by_a_decode = Batch(np.array([15, 16]), np.array([1, 3]), np.array([[3, 4, 0], [3, 4, 9]]), 8)
    assert parts(filled_by_a_decode, 2) == [(0, 2)]
    token_ids, rows = np.arange(3, 39), np.array([19, 26, 35])
    logits = runner.whole(sharing, token_ids, rows, 3)
    runner.kv_cache.tensor.normal_()
    torch.testing.assert_close(logits, runner.layer_by_layer(sharing, token_ids, rows), rtol=1e-3, atol=1e-3)


def test_what_it_does_not_compute_goes_layer_by_layer(model_folder):
    for options in (
        {"enforce_eager": True}, {"attention_backend": "gather"}, {"linear_backend": "plain"}, {"dtype": "bfloat16"},
        {"kv_cache_dtype": "int8"}, {"quantization": "rtn", "quantization_group_size": 16},
    ):  # fmt: skip
        assert runner_of(model_folder("llama"), **options).whole is None, options
    assert runner_of(model_folder("llama3")).whole is None, "biases of the output projections"


def test_tokens_are_the_same_with_and_without_and_through_both_in_turn(model_folder):
    prompts = [[3 + i] * n for i, n in enumerate((5, 150, 20, 129, 60))]
    params = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    options = {"num_gpu_blocks_override": 60, "block_size": 8, "max_model_len": 256, "check_invariants": True}
    outputs = []
    for eager in (False, True):
        engine = Engine.from_folder(model_folder("qwen3"), EngineOptions(**options, enforce_eager=eager))
        outputs.append([output.token_ids for output in engine.generate(prompts, params)])
    assert outputs[0] == outputs[1]


def test_a_switch_of_the_kv_cache_takes_it_away_and_brings_it_back(model_folder):
    engine = Engine.from_folder(model_folder("llama"), EngineOptions(block_size=8, num_gpu_blocks_override=60))
    prompts, params = [[5, 6, 7]] * 2, SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
    before = [output.token_ids for output in engine.generate(prompts, params)]
    engine.quantize(kv_cache_dtype="int8")
    assert engine.runner.whole is None
    engine.quantize(kv_cache_dtype="auto")
    assert engine.runner.whole is not None
    assert [output.token_ids for output in engine.generate(prompts, params)] == before


@pytest.mark.parametrize("sizes", [[1] * 32, [64] * 5, [1, 1, 500, 1], [500, 1], [1, 500], [7], [1] * 9])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_all_are_shared_out_once_and_in_order(sizes, parts):
    ranges = share(sizes, parts)
    assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])] and ranges[-1][1] == len(sizes)
    assert all(begin < end for begin, end in ranges) and len(ranges) <= parts
    if sizes == [1] * 32 and parts == 2:
        assert ranges == [(0, 16), (16, 32)]
