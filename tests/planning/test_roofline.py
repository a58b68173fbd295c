"""Bytes and FLOPs of a step against the shipped checkpoint and torch's own count; bounds, MBU and MFU by their definitions."""
import math

import pytest
import torch
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from labkit.models.net import Net
from labkit.models.registry import folder
from labkit.models.shapes import shapes
from labkit.planning import Ceilings, Rate, bound, mbu, measure, mfu, work

TINY = shapes()["tiny"]
FROM_MEMORY, FROM_CACHE = Rate(10e9, 9e9), Rate(50e9, 40e9)
MACHINE = Ceilings("cpu", 1, 25_000_000, FROM_MEMORY, FROM_MEMORY, FROM_CACHE, FROM_CACHE, {"float32": Rate(100e9, 90e9)})


def test_a_step_reads_every_weight_of_the_checkpoint_once():
    with safe_open(folder("tiny") / "model.safetensors", framework="pt") as tensors:
        elements = sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())
    assert work(TINY, [(0, 1)], dtype_bytes=2).weights == 2 * elements


def test_an_embedding_that_only_gives_rows_is_not_read():
    shape = shapes()["llama-3.1-8b"]
    assert work(shape, [(0, 1)], dtype_bytes=1).weights == shape.parameters - 128256 * 4096


def test_flops_of_a_prefill_are_those_that_torch_counts():
    length = 96
    torch.manual_seed(0)
    net = Net(TINY)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, length, dtype=torch.long), torch.arange(length)[None])
    counts = counter.get_flop_counts()["Global"]
    products = sum(flops for operation, flops in counts.items() if "attention" not in str(operation))
    heads = TINY.num_attention_heads * TINY.head_dim
    looked_at = sum(position + 1 for position in range(length))
    assert work(TINY, [(0, length)], sampled=length).flops == products + 4 * TINY.num_hidden_layers * heads * looked_at


def test_a_prompt_in_chunks_costs_the_flops_of_the_whole_one_and_reads_the_weights_again():
    whole = work(TINY, [(0, 100)])
    chunks = [work(TINY, [(0, 40)], sampled=0), work(TINY, [(40, 40)], sampled=0), work(TINY, [(80, 20)])]
    assert sum(chunk.flops for chunk in chunks) == whole.flops
    assert sum(chunk.weights for chunk in chunks) == 3 * whole.weights
    assert sum(chunk.kv_write for chunk in chunks) == whole.kv_write == 100 * TINY.kv_bytes(4)


def test_requests_share_the_weights_and_nothing_else():
    one, eight = work(TINY, [(100, 1)]), work(TINY, [(100, 1)] * 8)
    assert eight.weights == one.weights
    for name in ("flops", "kv_read", "kv_write", "activations"):
        assert getattr(eight, name) == 8 * getattr(one, name)


def test_a_decode_waits_for_memory_and_a_prefill_for_arithmetic():
    shape = shapes()["500M"]
    assert bound(work(shape, [(100, 1)]), MACHINE).limit == "memory"
    assert bound(work(shape, [(0, 1000)]), MACHINE).limit == "compute"


def test_weights_that_fit_the_measured_working_set_come_from_the_cache():
    decode = work(TINY, [(0, 1)])
    assert bound(decode, MACHINE).memory == pytest.approx(decode.bytes / 50e9)
    large = work(shapes()["50M"], [(0, 1)])
    assert bound(large, MACHINE).memory == pytest.approx(large.bytes / 10e9)


def test_utilizations_are_one_for_a_step_at_its_ceiling():
    step = work(shapes()["50M"], [(300, 1)] * 4)
    assert mbu(step, (step.weights + step.kv_read) / 10e9, MACHINE) == pytest.approx(1)
    assert mfu(step, step.flops / 100e9, MACHINE) == pytest.approx(1)
    assert mfu(step, 2 * step.flops / 100e9, MACHINE) == pytest.approx(0.5)


def test_ceilings_are_measured_and_torchs_threads_are_as_before():
    before = torch.get_num_threads()
    found = measure(1_000_000, threads=1, seconds=0.01)
    assert torch.get_num_threads() == before
    assert found.threads == 1 and found.working_set == 1_000_000
    for rate in (found.read, found.triad, found.cached_read, found.cached_triad, found.matmul["float32"]):
        assert 0 < rate.median <= rate.best < math.inf
