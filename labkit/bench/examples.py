"""Small layers and models on which the methods are compared: inputs as a language model's are, correlated, and a few features far larger
than the rest."""

from __future__ import annotations

from dataclasses import dataclass

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


def llama(kv_heads: int = 2, architecture: str = "Llama", seed: int = 0):
    """A random decoder of two layers, whose norms let a few features stand out."""
    import transformers

    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=384, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=kv_heads,
        head_dim=16, max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.data = 1 + torch.rand_like(parameter) + 8 * (torch.rand_like(parameter) > 0.95)
            else:
                parameter.data.normal_(0, 0.5 / parameter.shape[-1] ** 0.5)
    return model
