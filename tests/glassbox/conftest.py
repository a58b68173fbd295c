"""Small random models, made once; options and engines over them."""
from __future__ import annotations

from pathlib import Path

import pytest

TINY = {
    "vocab_size": 211,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # far from uniform logits, so that greedy choices are clear
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def make_model(kind: str, folder: Path) -> Path:
    """A random checkpoint written by transformers itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**TINY, tie_word_embeddings=True))
    elif kind == "llama3":
        model = LlamaForCausalLM(
            LlamaConfig(**TINY, head_dim=24, rope_theta=500000.0, rope_scaling=LLAMA3_ROPE, attention_bias=True, mlp_bias=True)
        )
    elif kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**TINY, tie_word_embeddings=False))
    elif kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**TINY, head_dim=32, tie_word_embeddings=True))
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "norm.weight")):  # transformers starts them at 0 and 1, which would hide a mistake
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    model.save_pretrained(folder, max_shard_size="100KB" if kind == "qwen3" else "1GB")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Matrices this small gain nothing from more, and lose much on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """model_folder("llama") -> folder of a checkpoint of that kind: llama, llama3, qwen2, qwen3 (in shards)."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_model(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get
