"""The KV cache in 8 bits: what is read back, what a block weighs, and that nothing else changes."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.glassbox import Engine, EngineOptions
from labkit.glassbox.attention import kv_rows, read_kv, write_kv
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.model_config import ModelConfig
from tests.glassbox.quantized import params, prompts, run
from tests.glassbox.test_attention import by_hand, step

CPU = torch.device("cpu")
SHAPE = ModelConfig("LlamaForCausalLM", 64, 96, 64, 3, 4, 2, 24, 512)
TORCH = {"fp8": torch.float8_e4m3fn, "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
FORMATS = ["int8", *TORCH]
SMALL = dict(block_size=4, num_gpu_blocks_override=30, max_model_len=64, max_num_seqs=4, check_invariants=True)


def cache_of(kv_cache_dtype: str, dtype: torch.dtype = torch.float32, num_blocks: int = 7, block_size: int = 4) -> KVCache:
    return KVCache(SHAPE, num_blocks, block_size, dtype, CPU, kv_cache_dtype)


def bound(x: torch.Tensor, scale: torch.Tensor, kv_cache_dtype: str) -> torch.Tensor:
    """The most that rounding x / scale to the format may cost: half a step where x is, or what lies beyond the greatest value."""
    x, scale = x.double().abs(), scale.double()
    if kv_cache_dtype == "int8":
        return torch.maximum(scale / 2, x - 127 * scale)
    info = torch.finfo(TORCH[kv_cache_dtype])
    fraction = {torch.float8_e4m3fn: 3, torch.float8_e5m2: 2}[TORCH[kv_cache_dtype]]
    exponent = torch.floor(torch.log2((x / scale).clamp(min=info.smallest_normal)))
    return torch.maximum(scale * 2.0 ** (exponent - fraction) / 2, x - info.max * scale)


@pytest.mark.parametrize("kv_cache_dtype", FORMATS)
def test_a_token_is_read_back_within_half_a_step_of_its_own_scale_and_alone(kv_cache_dtype):
    cache = cache_of(kv_cache_dtype)
    draw = torch.Generator().manual_seed(3)
    key_value = torch.randn(5, 2, 2, 24, generator=draw) * torch.tensor([1e-2, 1.0, 30.0, 1.0, 0.0]).view(5, 1, 1, 1)
    blocks, slots = np.array([6, 0, 3, 3, 2]), np.array([1, 0, 3, 0, 2])
    layer = cache.layers[1]
    write_kv(layer, key_value, torch.from_numpy(kv_rows(blocks, slots, 2, 4).reshape(-1)))
    pieces = torch.arange(7 * 2 * 2)
    found = read_kv(layer, pieces, torch.float32).view(7, 2, 2, 4, 24)
    peak = torch.finfo(TORCH[kv_cache_dtype]).max if kv_cache_dtype in TORCH else 127.0
    for token, (block, slot) in enumerate(zip(blocks, slots, strict=True)):
        x, y, scale = key_value[token], found[block, :, :, slot], layer.scales[block, :, :, slot].float()
        assert ((x.double() - y.double()).abs() <= bound(x, scale, kv_cache_dtype) * (1 + 1e-6)).all()
        wanted = x.abs().amax(-1, keepdim=True) / peak
        assert torch.all((scale - wanted).abs() <= torch.maximum(wanted * 2**-10, torch.tensor(6.2e-5)))
        found[block, :, :, slot] = 0
    assert not found.any(), "nothing else may have changed"
    assert all(not other.codes.any() for other in (cache.layers[0], cache.layers[2]))


@pytest.mark.parametrize("kv_cache_dtype", FORMATS)
@pytest.mark.parametrize("name", ["decodes", "prefills", "both, mixed up"])
def test_attention_over_codes_is_attention_over_the_numbers_that_they_stand_for(name, kv_cache_dtype):
    shape, size = ModelConfig("LlamaForCausalLM", 64, 96, 64, 1, 4, 2, 24, 512), 4
    batch, query, plain = step(name, size, shape)
    cache = KVCache(shape, len(plain), size, torch.float32, CPU, kv_cache_dtype).layers[0]
    blocks, slots = (places.reshape(-1) for places in np.meshgrid(np.arange(len(plain)), np.arange(size), indexing="ij"))
    write_kv(cache, plain.permute(0, 3, 1, 2, 4).reshape(-1, 2, 2, 24), torch.from_numpy(kv_rows(blocks, slots, 2, size).reshape(-1)))
    numbers = read_kv(cache, torch.arange(len(plain) * 4), torch.float32).view(plain.shape)
    assert (numbers - plain).norm() < 0.1 * plain.norm()
    attend = GatherAttention(shape, torch.float32, CPU).prepare(batch)
    torch.testing.assert_close(attend(query, cache), by_hand(batch, query, numbers, shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kv_cache_dtype", ["auto", *FORMATS])
def test_the_bytes_of_a_block_are_those_that_are_allocated(kv_cache_dtype, dtype):
    cache = cache_of(kv_cache_dtype, dtype)
    held = [[layer] if isinstance(layer, torch.Tensor) else [layer.codes, layer.scales] for layer in cache.layers]
    assert sum(part.nbytes for parts in held for part in parts) == 7 * cache.block_bytes
    if kv_cache_dtype != "auto":
        assert cache.block_bytes == 3 * 4 * 2 * 2 * (24 + 2)


@pytest.mark.parametrize("kv_cache_dtype", FORMATS)
def test_preemption_prefix_sharing_and_cancelling_change_no_token(kv_cache_dtype, model_folder):
    """A slot holds what its token alone decides: with little room and much company the tokens are those of each request alone."""
    folder, asked = model_folder("llama"), prompts(12, seed=4)
    alone = Engine.from_folder(folder, EngineOptions(**SMALL | {"max_num_seqs": 1}, kv_cache_dtype=kv_cache_dtype))
    expected = [output.token_ids for output in alone.generate(asked, params(16))]
    crowded = Engine.from_folder(folder, EngineOptions(**SMALL | {"num_gpu_blocks_override": 18}, kv_cache_dtype=kv_cache_dtype))
    for number, prompt in enumerate(asked):
        crowded.add_request(prompt, params(16), f"r{number}")
    crowded.add_request([9] * 20, params(40), "cancelled")
    for _ in range(6):
        crowded.step()
    crowded.abort("cancelled")
    held = {name: request.output_token_ids for name, request in crowded.scheduler.requests.items()}
    tokens = run(crowded)
    assert crowded.scheduler.num_preemptions > 0 and crowded.scheduler.kv.hits > 0
    for number, whole in enumerate(expected):
        if f"r{number}" in held:
            assert held[f"r{number}"] + tokens[f"r{number}"] == whole
