"""Every method on plain tensors: what it stores, what it loses, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from labkit.bench.examples import example
from labkit.quantization import awq, fp8, gptq, kv_cache, llm_int8, nf4, round_to_nearest, smoothquant, squeezellm
from labkit.quantization.errors import QuantizationError


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per", ["tensor", "channel", "group"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_round_to_nearest_is_at_most_half_a_step_off_and_stores_no_byte_more(layer, bits, per, symmetric):
    packed = round_to_nearest.quantize(layer.weight, bits, per, 64, symmetric)
    outputs, inputs = packed.shape
    scales = {"tensor": 1, "channel": outputs, "group": outputs * inputs // 64}[per]
    zeros = 0 if symmetric else {"tensor": 1, "channel": outputs, "group": outputs}[per] * math.ceil(bits * max(1, scales // outputs) / 8)
    assert packed.nbytes == outputs * math.ceil(inputs * bits / 8) + 2 * scales + zeros
    steps = packed.scales.float().expand(outputs, -1).repeat_interleave(packed.group_size, 1)
    cut_off = packed.integers() == (2**bits - 1)  # the topmost step of a symmetric grid is missing; float16 scales may round down
    error = (packed.dequantize() - layer.weight).abs() / steps
    assert error[~cut_off].max() <= 0.5 + 1e-3 * 2**bits
    assert error.max() <= (1 if symmetric else 0.5) + 1e-3 * 2**bits


def test_finer_grids_and_more_bits_lose_less(layer):
    by_bits = [layer.error(round_to_nearest.quantize(layer.weight, bits)) for bits in range(2, 9)]
    assert by_bits == sorted(by_bits, reverse=True)
    by_grain = [layer.error(round_to_nearest.quantize(layer.weight, 4, per, 32)) for per in ("tensor", "channel", "group")]
    assert by_grain == sorted(by_grain, reverse=True)


def test_weights_that_are_all_zero_stay_zero():
    zero = torch.zeros(8, 64)
    for packed in (
        *(round_to_nearest.quantize(zero, 4, per, 32, symmetric) for per in ("tensor", "channel", "group") for symmetric in (True, False)),
        nf4.quantize(zero), fp8.quantize(zero), llm_int8.quantize(zero), smoothquant.quantize(zero), squeezellm.quantize(zero),
        gptq.quantize(zero, torch.eye(64)), awq.quantize(zero, torch.eye(64), torch.ones(64)),
    ):  # fmt: skip
        assert packed.dequantize().abs().max() == 0


@pytest.mark.parametrize("bits", [3, 4])
def test_gptq_and_awq_lose_less_than_round_to_nearest(layer, bits):
    for symmetric in (True, False):
        plain = layer.error(round_to_nearest.quantize(layer.weight, bits, symmetric=symmetric))
        assert layer.error(gptq.quantize(layer.weight, layer.second_moment, bits, symmetric=symmetric)) < 0.85 * plain
        assert layer.error(awq.quantize(layer.weight, layer.second_moment, layer.input_mean, bits, symmetric=symmetric)) < 0.85 * plain


def test_gptq_with_uncorrelated_inputs_of_one_size_is_round_to_nearest(layer):
    found = gptq.quantize(layer.weight, torch.eye(192), 4)
    assert torch.equal(found.dequantize(), round_to_nearest.quantize(layer.weight, 4).dequantize())


def test_gptq_in_blocks_gives_what_one_column_after_the_other_gives(layer, monkeypatch):
    whole = gptq.quantize(layer.weight, layer.second_moment, 4, per="channel")
    monkeypatch.setattr(gptq, "COLUMNS", 32)
    small = gptq.quantize(layer.weight, layer.second_moment, 4, per="channel")
    assert (whole.integers() != small.integers()).float().mean() < 1e-3


def test_gptq_rounds_the_largest_inputs_first_and_keeps_groups_in_place(layer):
    ordered = gptq.quantize(layer.weight, layer.second_moment, 3)
    plain = round_to_nearest.quantize(layer.weight, 3)
    assert torch.equal(ordered.scales, plain.scales)
    first = layer.second_moment.diagonal().argmax()
    assert torch.equal(ordered.integers()[:, first], plain.integers()[:, first])
    assert layer.error(ordered) < 0.8 * layer.error(gptq.quantize(layer.weight, layer.second_moment, 3, act_order=False))


def test_an_input_that_is_never_anything_but_zero_costs_gptq_nothing(layer):
    moment = layer.second_moment.clone()
    moment[5], moment[:, 5] = 0, 0
    packed = gptq.quantize(layer.weight, moment, 4)
    assert packed.dequantize().isfinite().all()
    assert packed.dequantize()[:, 5].abs().max() == 0


def test_awq_without_input_means_only_clips(layer):
    clipped = awq.quantize(layer.weight, layer.second_moment, bits=3)
    assert clipped.input_scale is None
    plain = round_to_nearest.quantize(layer.weight, 3, symmetric=False)
    assert (clipped.scales <= plain.scales * 1.001).all() and (clipped.scales < 0.9 * plain.scales).any()
    assert layer.error(clipped) < layer.error(plain)
    assert torch.equal(awq.quantize(layer.weight, layer.second_moment, bits=3, clip=False).dequantize(), plain.dequantize())


def test_awqs_scale_is_stored_and_counted(layer):
    packed = awq.quantize(layer.weight, layer.second_moment, layer.input_mean)
    assert packed.nbytes == awq.quantize(layer.weight, layer.second_moment).nbytes + packed.input_scale.nbytes
    loud = layer.input_mean.topk(3).indices
    assert (packed.input_scale[loud] > 2 * packed.input_scale.median()).all()


def test_llm_int8_keeps_outlier_features_out_of_the_rounding(layer):
    plain = llm_int8.quantize(layer.weight, threshold=1e9)
    apart = llm_int8.quantize(layer.weight)
    kept = llm_int8.quantize(layer.weight, input_peak=layer.input_peak)
    assert layer.error(kept) < layer.error(apart) < layer.error(plain) / 3
    assert kept.columns.tolist() == (layer.input_peak >= 6).nonzero().flatten().tolist()
    assert torch.equal(kept.dequantize()[:, kept.columns], layer.weight[:, kept.columns].half().float())
    assert kept.nbytes == 96 * 192 + 4 * 96 + len(kept.columns) * (4 + 2 * 96)


def test_smoothquant_moves_the_difficulty_into_the_weights(layer):
    plain, smooth = smoothquant.quantize(layer.weight), smoothquant.quantize(layer.weight, layer.input_peak)
    assert layer.error(smooth) < layer.error(plain) / 2
    assert plain.nbytes == 96 * 192 + 4 * 96
    assert smooth.nbytes == plain.nbytes + 4 * 192


@pytest.mark.parametrize("make", [llm_int8.quantize, smoothquant.quantize])
def test_integer_products_are_those_of_int64(layer, make):
    packed = make(layer.weight)
    x = layer.x[:50].clamp(-5, 5)
    scale = x.abs().amax(-1, keepdim=True) / 127
    absmax = packed.absmax if make is llm_int8.quantize else packed.scales * 127
    exact = (x / scale).round().long() @ packed.codes.long().T
    torch.testing.assert_close(packed.linear(x), exact * scale * (absmax / 127).T, rtol=1e-5, atol=1e-6)


def test_squeezellm_spends_its_values_where_the_weights_are_sensitive(layer):
    sensitivity = torch.rand(96, 192, generator=torch.Generator().manual_seed(1)) ** 8
    heeded = squeezellm.quantize(layer.weight, sensitivity, 3, 0, 0)
    ignored = squeezellm.quantize(layer.weight, None, 3, 0, 0)
    cost = [(sensitivity * (packed.dequantize() - layer.weight) ** 2).sum() for packed in (heeded, ignored)]
    assert cost[0] < 0.8 * cost[1]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_squeezellms_values_are_near_the_best_there_are(bits):
    """The best clustering of a row is found by dynamic programming over its sorted weights."""
    weight = torch.randn(6, 120, generator=torch.Generator().manual_seed(2))
    importance = torch.rand(6, 120, generator=torch.Generator().manual_seed(3)) + 0.1
    packed = squeezellm.quantize(weight, importance, bits, 0, 0)
    found = (importance * (packed.dequantize() - weight) ** 2).sum(1)
    best = torch.tensor([least_cost(w, i, 2**bits) for w, i in zip(weight.tolist(), importance.tolist(), strict=True)])
    assert (found >= best * 0.999).all()
    assert found.sum() < 1.25 * best.sum()


def least_cost(weights: list[float], importance: list[float], count: int) -> float:
    pairs = sorted(zip(weights, importance, strict=True))
    n = len(pairs)
    cost = [[0.0] * (n + 1) for _ in range(n + 1)]
    for start in range(n):
        mass = first = second = 0.0
        for end in range(start, n):
            w, i = pairs[end]
            mass, first, second = mass + i, first + i * w, second + i * w * w
            cost[start][end + 1] = second - first * first / mass
    least = cost[0][:]
    least[0] = 0.0
    for _ in range(count - 1):
        least = [min((least[cut] + cost[cut][end] for cut in range(end + 1)), default=0.0) for end in range(n + 1)]
    return least[n]


def test_squeezellms_sparse_part_holds_the_largest_and_the_most_sensitive_weights(layer):
    sensitivity = torch.zeros(96, 192)
    sensitivity[7, 9] = 1
    packed = squeezellm.quantize(layer.weight, sensitivity, 3, outliers=0.01, sensitive=1 / layer.weight.numel())
    kept = round(0.01 * 96 * 192)
    largest = layer.weight.abs().flatten().topk(kept).indices
    assert torch.equal(packed.dequantize().flatten()[largest], layer.weight.flatten()[largest].half().float())
    assert packed.dequantize()[7, 9] == layer.weight[7, 9].half()
    sparse = len(packed.values)
    assert kept <= sparse <= kept + 1
    assert packed.nbytes == 96 * 192 * 3 // 8 + 96 * 8 * 2 + 4 * 97 + sparse * (4 + 2)


def test_nf4s_levels_are_the_quantiles_of_a_normal_distribution():
    """QLoRA, appendix E: eight quantiles below zero, nine above, one of them shared, scaled to reach 1."""
    offset = 0.9677083
    above = torch.special.ndtri(torch.linspace(offset, 0.5, 9, dtype=torch.float64)[:-1])
    below = -torch.special.ndtri(torch.linspace(offset, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([below, torch.zeros(1, dtype=torch.float64), above.flip(0)])
    torch.testing.assert_close(torch.tensor(nf4.LEVELS, dtype=torch.float64), levels / levels.max(), atol=1e-6, rtol=0)


def test_double_quantization_shrinks_the_scales_to_an_eighth_of_a_bit(layer):
    weight = layer.weight.repeat(8, 1)
    single, double = nf4.quantize(weight, double_quantization=False), nf4.quantize(weight)
    assert single.bits_per_weight == 4.5
    assert double.nbytes == weight.numel() // 2 + weight.numel() // 64 + weight.numel() // 64 // 256 * 4 + 4
    assert torch.equal(single.codes, double.codes)
    torch.testing.assert_close(double.scales(), single.scales(), rtol=0.05, atol=0)


@pytest.mark.parametrize(("name", "dtype"), [("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)])
def test_fp8_casts_are_torchs_own(name, dtype):
    draw = torch.Generator().manual_seed(0)
    greatest = torch.finfo(dtype).max
    values = torch.cat([torch.randn(20_000, generator=draw) * size for size in (1e-7, 1e-5, 1e-3, 0.1, 1, 30, 1e4)])
    halfway = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    halfway = halfway[halfway.isfinite()].unique()
    values = torch.cat([values, halfway, (halfway[1:] + halfway[:-1]) / 2, torch.tensor([0.0, -0.0])]).clamp(-greatest, greatest)
    codes = fp8.encode(values, name)
    assert torch.equal(codes, values.to(dtype).view(torch.uint8))
    assert torch.equal(fp8.decode(codes, name), values.to(dtype).float())


def test_fp8_saturates_and_scales_to_its_range(layer):
    assert fp8.decode(fp8.encode(torch.tensor([1e9, -1e9]), "e4m3"), "e4m3").tolist() == [448, -448]
    packed = fp8.quantize(layer.weight * 1e6, "e4m3", "channel")
    assert (fp8.decode(packed.values, "e4m3").abs().amax(1) == 448).all()
    assert packed.nbytes == 96 * 192 + 4 * 96
    assert fp8.quantize(layer.weight, per="tensor").nbytes == 96 * 192 + 4


def test_keys_with_loud_channels_want_a_scale_per_channel():
    keys = torch.randn(4, 16, 2, 64, generator=torch.Generator().manual_seed(0))
    keys[..., 7] *= 30

    def loss(packed) -> float:
        return ((packed.dequantize() - keys)[..., 8:] ** 2).mean().item()

    assert loss(kv_cache.quantize_keys(keys)) < loss(kv_cache.quantize_values(keys)) / 20
    assert kv_cache.quantize_keys(keys).scales.shape == (4, 1, 2, 64)
    assert kv_cache.quantize_values(keys).scales.shape == (4, 16, 2, 1)
    assert kv_cache.quantize_values(keys).nbytes == keys.numel() + 2 * keys.numel() // 64


@pytest.mark.parametrize("per", ["channel", "token", "tensor"])
@pytest.mark.parametrize(("format", "most"), [("int8", 0.5 / 127), ("e4m3", 2**-4), ("e5m2", 2**-3)])
def test_a_quantized_cache_is_as_close_as_its_format_allows(format, most, per):
    cache = torch.randn(2, 8, 2, 32, generator=torch.Generator().manual_seed(1))
    packed = kv_cache.quantize(cache, format, per)
    peak = cache.abs().amax({"channel": -3, "token": -1, "tensor": (0, 1, 2, 3)}[per], keepdim=True)
    assert ((packed.dequantize() - cache).abs() <= most * 1.01 * peak).all()
    assert (kv_cache.quantize(torch.zeros(2, 8, 2, 32), format, per).dequantize() == 0).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: round_to_nearest.quantize(torch.ones(4, 704), group_size=128), "704 .* groups of 128: take .*64.* or per=.channel."),
        (lambda: round_to_nearest.quantize(torch.ones(4, 64), bits=1), "1 bits are not possible here: take 2 to 8"),
        (lambda: round_to_nearest.quantize(torch.ones(4, 64), per="row"), "no granularity 'row': there are tensor, channel, group"),
        (lambda: round_to_nearest.quantize(torch.ones(4, 64), group_size=0), "no group size"),
        (lambda: round_to_nearest.quantize(torch.ones(4, 64, dtype=torch.int8)), "already quantized: give the original"),
        (lambda: round_to_nearest.quantize(round_to_nearest.quantize(torch.ones(4, 64))), "already quantized: give its .dequantize"),
        (lambda: round_to_nearest.quantize(torch.ones(4)), "no matrix: give .outputs, inputs"),
        (lambda: nf4.quantize(torch.full((4, 64), math.nan)), "infinities or NaN"),
        (lambda: nf4.quantize(torch.ones(3, 11)), "33 weights do not divide into blocks of 64: take"),
        (lambda: fp8.quantize(torch.ones(4, 64), "e4m4"), "no FP8 format 'e4m4': there are e4m3, e5m2. Did you mean 'e4m3'"),
        (lambda: gptq.quantize(torch.ones(4, 64), None), "GPTQ needs second_moment .* collect it with"),
        (lambda: gptq.quantize(torch.ones(4, 64), torch.eye(32)), "has shape .32, 32., this weight needs .64, 64."),
        (lambda: gptq.quantize(torch.ones(4, 64), -torch.eye(64)), "cannot be inverted .* calibrate with more text, or raise damping"),
        (lambda: awq.quantize(torch.ones(4, 64), torch.eye(64), torch.ones(3)), "input_mean has shape"),
        (lambda: smoothquant.quantize(torch.ones(4, 64), torch.ones(64), alpha=2), "alpha is 2"),
        (lambda: squeezellm.quantize(torch.ones(4, 64), outliers=0.9), "together 0 to 0.5"),
        (lambda: kv_cache.quantize(torch.ones(8, 2, 64), "int9"), "no KV format 'int9'"),
        (lambda: kv_cache.quantize(torch.ones(8, 64)), r"give floats \[..., tokens, heads, head_dim\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_the_remedy(call, said):
    with pytest.raises(QuantizationError, match=said):
        call()


def test_everything_stored_moves_with_the_packed_weight():
    packed = squeezellm.quantize(example(8, 64).weight).to("meta")
    assert {tensor.device.type for tensor in packed.tensors().values()} == {"meta"}
