"""Errors of layers, divergence of models, and figures that are worked out once."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from labkit.bench.examples import llama
from labkit.quantization import cache, llm_int8, round_to_nearest
from labkit.quantization.error import layer_error, outliers
from labkit.quantization.model import quantize_model
from labkit.quantization.quality import Reference, divergence, greedy, splits, summary


class Ruler:
    """What `labkit.models.measure.Ruler` is, over a model that is in no folder."""

    device = "cpu"

    def __init__(self, model) -> None:
        self.model = model

    def log_probabilities(self, ids):
        with torch.inference_mode():
            return self.model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)


def ask(ruler: Ruler, tokens: int = 24) -> Reference:
    draw = torch.Generator().manual_seed(9)
    texts = torch.randint(3, 384, (6, 40), generator=draw).tolist()
    heads = torch.randint(3, 384, (8, 10), generator=draw).tolist()
    tails = [greedy(ruler, head, tokens) for head in heads]
    tables = [ruler.log_probabilities(head + tail)[len(head) - 1 :] for head, tail in zip(heads, tails, strict=True)]
    return Reference(texts, [ruler.log_probabilities(text) for text in texts], heads, tails, tables)


def test_a_layers_output_error_is_what_its_outputs_lose(layer):
    packed = round_to_nearest.quantize(layer.weight, 3)
    found = layer_error(layer.weight, packed, layer.second_moment)
    wanted = layer.x @ layer.weight.T
    lost = packed.linear(layer.x) - wanted
    assert found.output == pytest.approx((lost.norm() / wanted.norm()).item(), rel=1e-4)
    torch.testing.assert_close(found.channels, lost.norm(dim=0) / wanted.norm(dim=0), rtol=1e-3, atol=1e-5)
    assert found.weight == pytest.approx(((packed.dequantize() - layer.weight).norm() / layer.weight.norm()).item(), rel=1e-5)
    assert found.snr == pytest.approx(-20 * math.log10(found.weight))
    assert found.summary()["worst_channel"] == found.channels.argmax()


def test_without_inputs_the_error_is_that_of_the_weights(layer):
    found = layer_error(layer.weight, round_to_nearest.quantize(layer.weight, 3))
    assert found.output is None and found.summary()["output"] is None
    assert found.channels.shape == (96,)


def test_each_bit_gains_six_decibels(layer):
    snr = [layer_error(layer.weight, round_to_nearest.quantize(layer.weight, bits)).snr for bits in range(4, 9)]
    assert all(5.5 < more - less < 6.7 for less, more in zip(snr, snr[1:], strict=False))


def test_nothing_lost_is_no_error():
    weight = torch.tensor([[0.5, -0.25, 0.0, 0.25]])
    found = layer_error(weight, llm_int8.quantize(weight, input_peak=torch.full((4,), 9.0)), torch.eye(4))
    assert (found.weight, found.output, found.snr) == (0.0, 0.0, math.inf)


def test_outliers_are_the_features_that_reach_the_threshold():
    found = outliers(torch.tensor([1.0, 50.0, 0.5, 6.0, 1.0]))
    assert found.features == [1, 3]
    assert (found.share, found.peak, found.spread) == (0.4, 50.0, 50.0)


def test_errors_of_all_layers_are_noted_where_asked_for(ids):
    found = quantize_model(llama(), "awq", 4, 32, ids, errors=True)
    assert set(found.errors) == set(found.outliers) == set(found.linears)
    assert all(0 < error.output < 0.3 for error in found.errors.values())
    plain = quantize_model(llama(), "rtn", 4, 32, ids, errors=True, symmetric=False)
    worse = sum(plain.errors[name].output > found.errors[name].output for name in found.errors)
    assert worse >= len(found.errors) - 2
    assert quantize_model(llama(), "squeezellm", 3, None, ids, errors=True).errors


def test_a_model_does_not_diverge_from_itself():
    ruler = Ruler(llama())
    wanted = ask(ruler)
    assert divergence(ruler, wanted) == {"kl": 0.0, "same_top": 1.0, "tokens": 6 * 39}
    assert splits(ruler, wanted) == []
    assert summary([], 8, 24) == {"prompts": 8, "tokens": 24, "same": 1.0, "median_first": 24, "first": [24] * 8}


def test_the_first_difference_is_where_two_greedy_runs_part():
    original = Ruler(llama())
    wanted = ask(original)
    other = Ruler(copy.deepcopy(original.model))
    quantize_model(other.model, "rtn", 4, 32)
    found = {split.prompt: split for split in splits(other, wanted)}
    assert len(found) >= 2
    for number, (head, tail) in enumerate(zip(wanted.prompts, wanted.continuations, strict=True)):
        theirs = greedy(other, head, len(tail))
        place = next((place for place in range(len(tail)) if theirs[place] != tail[place]), None)
        assert place == (found[number].place if number in found else None)
        if place is not None:
            assert (found[number].wanted, found[number].found) == (tail[place], theirs[place])
            assert found[number].gap > 0
    assert divergence(other, wanted)["kl"] > 0


def test_more_bits_diverge_less():
    original = Ruler(llama())
    wanted = ask(original)
    found = []
    for bits in (3, 5, 8):
        other = Ruler(copy.deepcopy(original.model))
        quantize_model(other.model, "rtn", bits, 32)
        found.append(divergence(other, wanted)["kl"])
    assert found == sorted(found, reverse=True)


def test_an_answer_is_worked_out_once_and_anew_when_the_model_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    asked = []

    def compute() -> dict:
        asked.append(1)
        return {"kl": 0.25, "first": (1, 2)}

    one, again = (cache.cached({"bits": 4}, model, compute) for _ in range(2))
    assert one == again == {"kl": 0.25, "first": [1, 2]} and len(asked) == 1
    cache.cached({"bits": 3}, model, compute)
    assert len(asked) == 2
    (model / "config.json").write_text('{"a": 1}')
    cache.cached({"bits": 4}, model, compute)
    assert len(asked) == 3


def test_the_shipped_model_is_measured_in_every_way_and_from_the_cache_the_second_time(tmp_path, monkeypatch):
    from labkit.quantization.measure import Sample, measure

    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    small = {"sample": Sample(3, 3, 2, 3, 8, distances=(64,), keys=(1,), words=(8,)), "rows": 4}
    steps = []
    found = measure("tiny", "gptq", 3, 64, progress=lambda *step: steps.append(step), **small)
    assert steps[-1] == ("measured", 1.0)
    assert found["linear_bytes"] * 8 / found["bits_per_weight"] == pytest.approx(4_423_680, rel=1e-3)
    assert found["linear_bytes"] < found["bytes"] < found["original_bytes"]
    assert len(found["layers"]) == 42 and found["kl"] > 0
    assert set(found) >= {"perplexity", "continuations", "recall_by_distance", "recall_among_keys", "copy_by_words", "outliers"}
    seen = len(steps)
    assert measure("tiny", "gptq", 3, 64, progress=lambda *step: steps.append(step), **small) == found
    assert len(steps) == seen
    plain = measure("tiny", **small)
    assert plain["kl"] == 0 and plain["bytes"] == plain["original_bytes"]
