"""Every way to compute attention over the paged cache gives what a loop over requests and heads gives."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.glassbox import OptionsError
from labkit.glassbox.attention import Batch, kv_rows, write_kv
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.kernels.linear import pack
from labkit.glassbox.layers import Linear
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.packed_linear import PackedLinear
from labkit.glassbox.paged_attention import PagedAttention
from labkit.glassbox.workshop import choose_attention, use_packed

CPU = torch.device("cpu")
BATCHES = {
    "decodes": ([5, 0, 130, 31, 12], [1, 1, 1, 1, 1]),
    "one decode": ([7], [1]),
    "prefills": ([0, 0, 9], [3, 40, 17]),
    "both, mixed up": ([0, 20, 16, 3, 200], [9, 1, 5, 1, 1]),
    "a long chunk": ([70, 0], [75, 1]),
}


def config(kv_heads: int, group: int, head_dim: int = 24) -> ModelConfig:
    return ModelConfig("LlamaForCausalLM", 64, 96, 64, 1, kv_heads * group, kv_heads, head_dim, 512)


def step(batch_name: str, block_size: int, shape: ModelConfig, seed: int = 0) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """A batch over scattered blocks, its queries [T, num_heads, head_dim] and a cache full of random keys and values."""
    starts, counts = (np.array(values) for values in BATCHES[batch_name])
    rng = np.random.default_rng(seed)
    needed = -(-(starts + counts) // block_size)
    ids = rng.permutation(int(needed.sum()) + 3)
    tables = np.zeros((len(starts), needed.max()), dtype=np.int64)
    for row, end in enumerate(np.cumsum(needed)):
        tables[row, : needed[row]] = ids[end - needed[row] : end]
    generator = torch.Generator().manual_seed(seed)
    cache = torch.randn(len(ids), 2, shape.num_key_value_heads, block_size, shape.head_dim, generator=generator)
    query = torch.randn(int(counts.sum()), shape.num_attention_heads, shape.head_dim, generator=generator)
    return Batch(starts, counts, tables, block_size), query, cache


def by_hand(batch: Batch, query: torch.Tensor, cache: torch.Tensor, shape: ModelConfig) -> torch.Tensor:
    rows = []
    for i, (start, count) in enumerate(zip(batch.starts, batch.counts, strict=True)):
        for position in range(start, start + count):
            places = [(int(batch.tables[i, j // batch.block_size]), j % batch.block_size) for j in range(position + 1)]
            heads = []
            for head in range(shape.num_attention_heads):
                shared = head // shape.group_size
                keys, values = (torch.stack([cache[block, side, shared, slot] for block, slot in places]) for side in (0, 1))
                weights = (keys.double() @ query[len(rows), head].double() * shape.head_dim**-0.5).softmax(0)
                heads.append(weights @ values.double())
            rows.append(torch.stack(heads))
    return torch.stack(rows).float()


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("block_size", [1, 4, 16, 48])
@pytest.mark.parametrize("heads", [(1, 4, 24), (2, 2, 64), (3, 1, 128), (6, 4, 192)], ids=str)  # a multiple of 64: the kernel in lanes
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("backend", [GatherAttention, PagedAttention])
def test_a_backend_gives_what_a_loop_over_requests_and_heads_gives(backend, threads, heads, block_size, name, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    shape = config(*heads)
    batch, query, cache = step(name, block_size, shape)
    attend = backend(shape, torch.float32, CPU).prepare(batch)
    expected = by_hand(batch, query, cache, shape)
    for _ in range(2):  # every layer calls the same: nothing of the one before may be left
        torch.testing.assert_close(attend(query, cache), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("head_dim", "block_size"), [(24, 4), (64, 16), (64, 32)])
def test_scores_that_exp_cannot_hold_do_no_harm(head_dim, block_size):
    shape = config(2, 2, head_dim)
    batch, query, cache = step("decodes", block_size, shape)
    query *= 1000
    attended = PagedAttention(shape, torch.float32, CPU).prepare(batch)(query, cache)
    assert torch.isfinite(attended).all()
    torch.testing.assert_close(attended, by_hand(batch, query, cache, shape), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("growth", [-3.0, 0.3, 0.345, 3.0, 30.0], ids="{:g} a slot".format)
def test_scores_that_grow_from_slot_to_slot_keep_what_was_summed_up_before_in_proportion(growth):
    """At 0.345 what comes first shrinks when the 128th slot comes, and still weighs as much as all that follow."""
    shape = config(1, 2, 64)
    batch, query, cache = step("decodes", 16, shape)
    query[:] = 1
    for row, position in enumerate(batch.starts):
        for slot in range(position + 1):
            cache[batch.tables[row, slot // 16], 0, :, slot % 16] = growth * slot / 8  # times 64 numbers / sqrt(64)
    attended = PagedAttention(shape, torch.float32, CPU).prepare(batch)(query, cache)
    torch.testing.assert_close(attended, by_hand(batch, query, cache, shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("head_dim", "block_size"), [(24, 4), (64, 16), (64, 32)])
def test_a_decode_takes_nothing_from_slots_that_its_token_does_not_see(head_dim, block_size):
    shape = config(2, 2, head_dim)
    batch, query, cache = step("decodes", block_size, shape)
    expected = by_hand(batch, query, cache, shape)
    for row, context in enumerate(batch.contexts):
        if context % block_size:
            cache[batch.tables[row, context // block_size], :, :, context % block_size :] = torch.nan
    torch.testing.assert_close(PagedAttention(shape, torch.float32, CPU).prepare(batch)(query, cache), expected, rtol=1e-4, atol=1e-5)


def test_keys_and_values_are_written_where_attention_reads_them():
    shape, block_size = config(2, 2), 4
    batch, _, cache = step("both, mixed up", block_size, shape)
    blocks, slots = batch.locate()
    written = torch.randn(len(blocks), 2, 2, shape.head_dim)
    before = cache.clone()
    write_kv(cache, written, torch.from_numpy(kv_rows(blocks, slots, 2, block_size).reshape(-1)))
    for token, (block, slot) in enumerate(zip(blocks, slots, strict=True)):
        assert torch.equal(cache[block, :, :, slot], written[token])
        before[block, :, :, slot] = written[token]
    assert torch.equal(cache, before), "nothing else may have changed"


@pytest.mark.parametrize("rows", [1, 5, 32, 300])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_linear_gives_what_a_plain_one_gives(rows, bias):
    linear = Linear(96, 130, bias, {"dtype": torch.float32, "device": CPU})
    for parameter in linear.parameters():
        torch.nn.init.normal_(parameter)
    linear.requires_grad_(False)
    x = torch.randn(rows, 96)
    packed = PackedLinear(pack(linear.weight.detach().numpy()), linear.bias, 130)
    torch.testing.assert_close(packed(x), linear(x), rtol=1e-4, atol=1e-4)


def test_auto_takes_the_fast_way_where_it_can_run_and_the_readable_one_elsewhere():
    shape = config(2, 2)
    assert isinstance(choose_attention("auto", shape, torch.float32, CPU), PagedAttention)
    assert isinstance(choose_attention("gather", shape, torch.float32, CPU), GatherAttention)
    assert isinstance(choose_attention("auto", shape, torch.bfloat16, CPU), GatherAttention)
    assert not use_packed("plain", torch.float32, CPU)
    assert not use_packed("auto", torch.bfloat16, CPU)


def test_what_cannot_run_is_refused_where_it_is_asked_for():
    with pytest.raises(OptionsError, match="--attention-backend paged.*bfloat16 on cpu"):
        choose_attention("paged", config(2, 2), torch.bfloat16, CPU)
    with pytest.raises(OptionsError, match="--linear-backend packed.*use plain"):
        use_packed("packed", torch.float32, torch.device("cuda"))
