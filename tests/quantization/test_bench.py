"""`labkit bench quantization`: the table of methods."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from labkit.bench import quantization
from labkit.models import folder
from labkit.quantization.methods import METHODS


def test_every_method_is_a_row_at_every_number_of_bits_that_it_can_do():
    found = {(task.method, task.bits) for task in quantization.tasks()}
    for method in METHODS.values():
        assert {bits for name, bits in found if name == method.name} == set(method.bits) & {8, 4, 3, 2}
    assert {("float32", 32), ("bfloat16", 16), ("kv-int8", 8), ("kv-fp8", 8)} <= found


def test_a_row_says_what_it_costs_and_saves_and_is_measured_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    argv = ["--methods", "float32", "fp8", "kv-int8", "--cases", "1", "--documents", "2", "--output", str(tmp_path / "out.json"), "--json"]
    assert quantization.main(argv) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / "out.json").read_text()) == result
    plain, fp8, kv = result["rows"]
    with safe_open(folder("tiny") / "model.safetensors", framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    linear = {name: outputs * inputs for name, (outputs, inputs) in ((n, s) for n, s in shapes.items() if "proj" in n)}
    channels = sum(shape[0] for name, shape in shapes.items() if "proj" in name)
    rest = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for name, shape in shapes.items() if "proj" not in name)
    assert plain["bytes"] == 4 * (sum(linear.values()) + rest)
    assert fp8["linear_bytes"] == sum(linear.values()) + 4 * channels
    assert fp8["bytes"] == fp8["linear_bytes"] + 2 * rest
    assert kv["kv_bytes_per_token"] == 6 * 2 * 2 * (64 + 2)
    assert plain["kl"] == 0 and plain["same_continuations"] == 1.0
    assert 0 < fp8["kl"] < 0.01 and fp8["tokens_per_s"] > 0 and kv["tokens_per_s"] is None

    monkeypatch.setattr(quantization, "measured", lambda *_: pytest.fail("a row was measured again"))
    assert quantization.main(argv) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == result["rows"]
