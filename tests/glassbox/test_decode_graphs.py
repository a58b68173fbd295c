"""What surrounds a CUDA graph, without one: on a CPU the step itself takes the recording's place, over the same fixed inputs."""
from __future__ import annotations

import dataclasses
import gc
import importlib.util
import weakref

import numpy as np
import pytest
import torch

from labkit.glassbox import Engine, EngineOptions, OptionsError
from labkit.glassbox.attention import Batch
from labkit.glassbox.build import choose_dtype
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


class Forgetful(Plain):
    """A model and its recorder that are like a CUDA graph: they hold no Python object of what a step reads. `read`: weak references."""

    def __init__(self, config):
        self.config, self.read = config, []

    def decode(self, tables, contexts):
        self.read += [weakref.ref(tables), weakref.ref(contexts)]
        return super().decode(tables, contexts)

    def __call__(self, token_ids, positions, layers, meta, logits_rows):
        self.read += [weakref.ref(tensor) for tensor in (token_ids, positions, meta.kv_rows, logits_rows)]
        return torch.zeros(len(token_ids), 64)

    def record(self, step):
        logits = step()
        return lambda: logits


@torch.inference_mode()
def test_whatever_a_recording_reads_lives_as_long_as_the_recording(runner):
    forgetful = Forgetful(runner.model.config)
    graphs = DecodeGraphs(forgetful, runner.kv_cache, forgetful, 4, 256, forgetful.record)
    graphs.record_up_to(4)
    gc.collect()
    assert len(forgetful.read) == 3 * 6 and all(reference() is not None for reference in forgetful.read)
    del graphs
    gc.collect()
    assert all(reference() is None for reference in forgetful.read), "and no longer: memory for the next pool"


@torch.inference_mode()
def test_everything_is_recorded_before_anybody_waits_and_leaves_no_trace_in_other_blocks(runner):
    recorded = []

    def record(step):
        recorded.append(len(step()))
        return step

    graphs = DecodeGraphs(runner.model, runner.kv_cache, Plain(), 64, 256, record)
    before = runner.kv_cache.tensor.normal_().clone()
    graphs.record_up_to(10)
    assert recorded == [16, 8, 4, 2, 1], "the largest first"
    assert torch.equal(runner.kv_cache.tensor[:, 1:], before[:, 1:])
    batch = Batch(np.full(9, 3), np.ones(9, dtype=np.int64), np.arange(1, 10)[:, None], 8)
    graphs(batch, np.arange(9), np.arange(9), 1)
    assert len(recorded) == 5
    assert graphs.serves(Batch(np.zeros(40, dtype=np.int64), np.ones(40, dtype=np.int64), np.arange(40)[:, None], 8), 1), "later on"


@torch.inference_mode()
def test_in_a_mixed_step_decodes_go_to_the_kernel_and_chunks_are_gathered(runner, monkeypatch):
    shape, cpu = runner.model.config, torch.device("cpu")
    attention = gpu.TritonAttention(shape, torch.float32, cpu)
    seen = []

    def decode(tables, contexts):
        seen.append(contexts.tolist())
        return Plain().decode(tables, contexts)

    monkeypatch.setattr(attention, "decode", decode)
    gather, rng = GatherAttention(shape, torch.float32, cpu), np.random.default_rng(0)
    cache = torch.randn(40, 2, shape.num_key_value_heads, 8, shape.head_dim)
    for starts, counts in (([9, 0, 20, 3], [1, 5, 1, 4]), ([0, 8], [3, 6]), ([7, 30, 2], [1, 1, 1])):
        batch = Batch(np.array(starts), np.array(counts), rng.permutation(40)[: 5 * len(starts)].reshape(-1, 5), 8)
        query = torch.randn(sum(counts), shape.num_attention_heads, shape.head_dim)
        torch.testing.assert_close(attention.prepare(batch)(query, cache), gather.prepare(batch)(query, cache), rtol=1e-4, atol=1e-5)
    assert seen == [[10, 21], [], [8, 31, 3]]


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is here")
def test_without_triton_decodes_are_gathered_and_the_log_says_why(caplog):
    gpu.has_triton.cache_clear()
    assert not gpu.has_triton()
    assert "decodes will be gathered, because Triton cannot start kernels here: No module named 'triton'" in caplog.text


@pytest.mark.parametrize(("generation", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_gpus_that_only_emulate_bfloat16_get_float16(generation, expected, runner, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    config = dataclasses.replace(runner.model.config, torch_dtype="bfloat16")
    assert choose_dtype("auto", config, torch.device("cuda")) is expected
    assert choose_dtype("bfloat16", config, torch.device("cuda")) is torch.bfloat16, "asked for"


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
