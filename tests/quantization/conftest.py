"""Layers with inputs as a language model's are: correlated, and a few features far larger than the rest."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(slots=True)
class Example:
    """A linear layer [outputs, inputs] with inputs [tokens, inputs] and what calibration would find in them."""

    weight: Tensor
    x: Tensor

    @property
    def second_moment(self) -> Tensor:
        return self.x.T @ self.x / len(self.x)

    @property
    def input_mean(self) -> Tensor:
        return self.x.abs().mean(0)

    @property
    def input_peak(self) -> Tensor:
        return self.x.abs().amax(0)

    def error(self, packed) -> float:
        """The relative error of the outputs."""
        wanted = self.x @ self.weight.T
        return ((packed.linear(self.x) - wanted).norm() / wanted.norm()).item()


def example(outputs: int = 96, inputs: int = 192, seed: int = 0) -> Example:
    draw = torch.Generator().manual_seed(seed)
    causes = torch.randn(1024, inputs // 4, generator=draw)
    x = causes @ torch.randn(inputs // 4, inputs, generator=draw) / (inputs // 4) ** 0.5 + 0.5 * torch.randn(1024, inputs, generator=draw)
    x[:, torch.randperm(inputs, generator=draw)[:3]] *= 20
    return Example(torch.randn(outputs, inputs, generator=draw) * 0.02, x)


@pytest.fixture(scope="session")
def layer() -> Example:
    return example()
