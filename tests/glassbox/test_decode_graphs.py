"""What surrounds a CUDA graph, without one: on a CPU the step itself takes the recording's place, over the same fixed inputs."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.glassbox import Engine, EngineOptions, OptionsError
from labkit.glassbox.attention import Batch
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.gpu import attention as gpu
from labkit.glassbox.gpu.decode_graphs import DecodeGraphs, sizes
from labkit.glassbox.workshop import choose_attention


class Plain:
    """Attention of decodes over tensors that may change between two calls, as a loop over requests and heads."""

    def decode(self, tables, contexts):
        def attend(query, kv_layer):
            group, block_size, rows = query.shape[1] // kv_layer.shape[2], kv_layer.shape[3], []
            for q, table, context in zip(query, tables, contexts, strict=True):
                blocks = kv_layer[table[: -(-int(context) // block_size)]]  # [N, 2, num_kv_heads, block_size, head_dim]
                keys, values = blocks.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :context].repeat_interleave(group, 1)
                weights = (keys @ q[:, :, None] * q.shape[-1] ** -0.5).softmax(1)
                rows.append((weights * values).sum(1))
            return torch.stack(rows)

        return attend


@pytest.fixture(params=["llama", "llama3", "qwen3"])
def runner(request, model_folder):
    options = EngineOptions(block_size=8, num_gpu_blocks_override=100, max_model_len=256, enforce_eager=True)
    return Engine.from_folder(model_folder(request.param), options).runner


@torch.inference_mode()
def test_steps_through_fixed_inputs_are_those_that_came_layer_by_layer(runner):
    recorded = []

    def record(step):
        recorded.append(step)
        return step

    graphs = DecodeGraphs(runner.model, runner.kv_cache, Plain(), 20, 256, record)
    cache, rng = runner.kv_cache.tensor, np.random.default_rng(0)
    for count in (1, 5, 7, 8, 3, 20, 5):
        starts, tables = rng.integers(0, 60, count), rng.permutation(100)[: count * 5].reshape(count, 5)
        if count == 20:
            starts, tables = rng.integers(0, 39, count), rng.permutation(100)[: count * 5].reshape(count, 5)
        batch = Batch(np.minimum(starts, 39), np.ones(count, dtype=np.int64), tables, 8)
        token_ids, rows = rng.integers(0, runner.vocab_size, count), np.arange(0, count, 1 if count != 7 else 2)
        before = cache.normal_().clone()
        assert graphs.serves(batch, 1)
        logits, written = graphs(batch, token_ids, rows, 1).clone(), cache.clone()
        cache.copy_(before)
        torch.testing.assert_close(logits, runner.layer_by_layer(batch, token_ids, rows), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(written, cache, rtol=1e-4, atol=1e-4)
    assert len(recorded) == 4, "sizes 1, 8, 4 and 24: each once"


def test_what_is_no_batch_of_decodes_is_not_served(runner):
    graphs = DecodeGraphs(runner.model, runner.kv_cache, Plain(), 8, 256, lambda step: step)
    tables = np.zeros((9, 1), dtype=np.int64)
    assert not graphs.serves(Batch(np.zeros(2, dtype=np.int64), np.array([1, 2]), tables[:2], 8), 1)
    assert not graphs.serves(Batch(np.zeros(9, dtype=np.int64), np.ones(9, dtype=np.int64), tables, 8), 1)


@pytest.mark.parametrize(("largest", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 4]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 16])])
def test_sizes_end_with_the_first_that_holds_the_largest_batch(largest, expected):
    assert sizes(largest) == expected


def test_a_gpu_gets_triton_where_it_is_and_gathers_otherwise(monkeypatch, runner):
    shape, cuda = runner.model.config, torch.device("cuda")
    monkeypatch.setattr("labkit.glassbox.workshop.has_triton", lambda: True)
    assert isinstance(choose_attention("auto", shape, torch.float16, cuda), gpu.TritonAttention)
    assert isinstance(choose_attention("gather", shape, torch.float16, cuda), GatherAttention)
    assert isinstance(choose_attention("auto", shape, torch.float16, cuda, "int8"), GatherAttention)
    monkeypatch.setattr("labkit.glassbox.workshop.has_triton", lambda: False)
    assert isinstance(choose_attention("auto", shape, torch.float16, cuda), GatherAttention)
    with pytest.raises(OptionsError, match="install Triton"):
        choose_attention("paged", shape, torch.float16, cuda)
