"""The kernels give what the plain way gives."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.glassbox import packed_linear
from labkit.glassbox.kernels import compiler, vectors
from labkit.glassbox.kernels.linear import linear, pack
from labkit.glassbox.layers import RMSNorm
from labkit.glassbox.rope import rotate_


@pytest.mark.parametrize("shape", [(1, 64), (5, 256), (3, 2, 17)])
def test_rms_norm_is_torchs(shape):
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(shape[-1], 1e-5, {"dtype": torch.float32})
    norm.weight.data = torch.randn(shape[-1], generator=generator)
    x = 100 * torch.randn(shape, generator=generator)
    with torch.inference_mode():
        assert vectors.serves(x)
        torch.testing.assert_close(norm(x), torch.nn.functional.rms_norm(x, norm.weight.shape, norm.weight, norm.eps))
        assert norm(torch.zeros(shape)).eq(0).all()


@pytest.mark.parametrize("tokens", [1, 7])
def test_rotation_turns_pairs_of_the_first_heads_and_leaves_the_others(tokens):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, 5, 16, generator=generator)
    angles = torch.rand(tokens, 8, generator=generator) * 6
    turns = torch.stack((torch.cat((angles.cos(),) * 2, -1), torch.cat((-angles.sin(), angles.sin()), -1)), 1)
    turned, plain = x.clone(), x.double()
    rotate_(turned, 3, turns)
    rotate_(plain, 3, turns.double())
    pairs = torch.complex(x[:, :3, :8], x[:, :3, 8:]) * torch.polar(torch.ones_like(angles), angles)[:, None]
    for result in (turned, plain.float()):
        torch.testing.assert_close(result[:, :3], torch.cat((pairs.real, pairs.imag), -1))
        assert result[:, 3:].equal(x[:, 3:])


PRODUCTS = [(1, 64, 64), (3, 30, 7), (8, 256, 512), (39, 100, 9), (135, 17, 70)]  # rows, inputs, outputs


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), PRODUCTS)
def test_linear_is_the_matrix_product(rows, inputs, outputs, add):
    rng = np.random.default_rng(0)
    x, weight, output = (rng.standard_normal(shape, dtype=np.float32) for shape in ((rows, inputs), (outputs, inputs), (rows, outputs + 8)))
    before, expected = output.copy(), x.astype(np.float64) @ weight.T.astype(np.float64)
    written = output[:, : outputs + 5].copy()
    linear(x, pack(weight), add, written, 5)
    np.testing.assert_allclose(written[:, 5:], expected + (before[:, 5 : outputs + 5] if add else 0), rtol=1e-4, atol=1e-4)
    assert (written[:, :5] == before[:, :5]).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), PRODUCTS)
def test_a_product_that_threads_share_out_is_the_same(rows, inputs, outputs, threads, monkeypatch):
    monkeypatch.setattr(packed_linear, "WORTH", 0)
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((rows, inputs), (outputs, inputs)))
    output = np.full((rows, outputs), np.nan, np.float32)
    packed_linear.multiply(x, pack(weight), output, threads)
    np.testing.assert_allclose(output, x.astype(np.float64) @ weight.T.astype(np.float64), rtol=1e-4, atol=1e-4)


def test_swiglu_is_torchs_also_far_from_zero():
    gate = torch.cat((torch.linspace(-200, 200, 801), torch.tensor([-1e30, 1e30, 0.0]))).repeat(2, 1)
    up = torch.randn(gate.shape, generator=torch.Generator().manual_seed(0))
    output = np.empty(gate.shape, np.float32)
    vectors.swiglu(torch.cat((gate, up), -1).numpy(), output)
    torch.testing.assert_close(torch.from_numpy(output), torch.nn.functional.silu(gate) * up, rtol=1e-5, atol=1e-6)


def test_exp2_is_numpys():
    numbers = np.linspace(-126, 126, 5000, dtype=np.float32)
    result = np.array([vectors.exp2(number) for number in numbers])
    np.testing.assert_allclose(result, np.exp2(numbers.astype(np.float64)), rtol=1e-6)


def test_machine_code_goes_when_any_kernel_has_changed(tmp_path, monkeypatch):
    for name, path in (("FOLDER", tmp_path), ("CACHE", tmp_path / "cache"), ("STAMP", tmp_path / "cache" / "stamp")):
        monkeypatch.setattr(compiler, name, path)
    (tmp_path / "a.py").write_text("1")
    compiler.forget_old_code()
    code = tmp_path / "cache" / "b.nbi"
    code.write_text("")
    compiler.forget_old_code()
    assert code.exists(), "nothing has changed"
    (tmp_path / "a.py").write_text("2")
    compiler.forget_old_code()
    assert not code.exists()
