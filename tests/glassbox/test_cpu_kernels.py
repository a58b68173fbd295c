"""The kernels between the matrix products give what the plain way gives."""
from __future__ import annotations

import pytest
import torch

from labkit.glassbox import cpu_kernels
from labkit.glassbox.layers import RMSNorm
from labkit.glassbox.rope import rotate_


@pytest.mark.parametrize("shape", [(1, 64), (5, 256), (3, 2, 17)])
def test_rms_norm_is_torchs(shape):
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(shape[-1], 1e-5, {"dtype": torch.float32})
    norm.weight.data = torch.randn(shape[-1], generator=generator)
    x = 100 * torch.randn(shape, generator=generator)
    with torch.inference_mode():
        assert cpu_kernels.serves(x)
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
