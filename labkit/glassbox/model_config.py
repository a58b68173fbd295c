"""The shape of a Llama- or Qwen-shaped decoder, read from a checkpoint's config.json. No torch."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.models.registry import ModelError

CHECKPOINT_FORMATS = ("gptq", "awq", "compressed-tensors")  # of quantized checkpoints, by their quant_method
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(slots=True)
class ModelConfig:
    """Field names are config.json's own. `from_folder` raises `ModelError` for what is missing or cannot be computed here."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    torch_dtype: str = "float32"
    eos_token_ids: list[int] = field(default_factory=list)
    bos_token_id: int | None = None
    quant_method: str | None = None  # of a checkpoint that is quantized already

    @property
    def group_size(self) -> int:
        """Query heads that share one KV head."""
        return self.num_attention_heads // self.num_key_value_heads

    @classmethod
    def from_folder(cls, folder: Path) -> ModelConfig:
        raw = read_json(folder / "config.json", f"{folder} is no model folder: it has no config.json")
        architecture = (raw.get("architectures") or ["none"])[0]
        if architecture not in ARCHITECTURES:
            raise ModelError(f"{folder}: architecture {architecture} is not one the glass box computes ({', '.join(ARCHITECTURES)})")
        quant_method = (raw.get("quantization_config") or {}).get("quant_method")
        if raw.get("quantization_config") and quant_method not in CHECKPOINT_FORMATS:
            raise ModelError(
                f"{folder}: a quantized checkpoint of the format {quant_method!r}, and the glass box reads "
                f"{', '.join(CHECKPOINT_FORMATS)}; give one of those, or the original in float32, bfloat16 or float16"
            )
        if raw.get("hidden_act", "silu") != "silu":
            raise ModelError(f"{folder}: hidden_act {raw['hidden_act']!r} is not computed here, only 'silu'")
        sliding = raw.get("sliding_window") if raw.get("use_sliding_window", architecture == "MistralForCausalLM") else None
        if sliding is not None:
            raise ModelError(f"{folder}: sliding window attention ({sliding} tokens) is not computed here, only full attention")
        heads = cls._number(raw, "num_attention_heads", folder)
        hidden = cls._number(raw, "hidden_size", folder)
        config = cls(
            architecture=architecture,
            vocab_size=cls._number(raw, "vocab_size", folder),
            hidden_size=hidden,
            intermediate_size=cls._number(raw, "intermediate_size", folder),
            num_hidden_layers=cls._number(raw, "num_hidden_layers", folder),
            num_attention_heads=heads,
            num_key_value_heads=raw.get("num_key_value_heads") or heads,
            head_dim=raw.get("head_dim") or hidden // heads,
            max_position_embeddings=cls._number(raw, "max_position_embeddings", folder),
            rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
            tie_word_embeddings=raw.get("tie_word_embeddings", False),
            qkv_bias=raw.get("attention_bias", architecture == "Qwen2ForCausalLM"),
            o_bias=raw.get("attention_bias", False) and architecture != "Qwen2ForCausalLM",
            mlp_bias=raw.get("mlp_bias", False),
            qk_norm=architecture == "Qwen3ForCausalLM",
            torch_dtype=raw.get("torch_dtype") or raw.get("dtype") or "float32",
            bos_token_id=raw.get("bos_token_id"),
            quant_method=quant_method,
        )
        config._read_rope(raw, folder)
        config._read_eos(raw, folder)
        if config.num_attention_heads % config.num_key_value_heads:
            raise ModelError(f"{folder}: {heads} attention heads do not divide into {config.num_key_value_heads} KV heads")
        return config

    @staticmethod
    def _number(raw: dict[str, Any], name: str, folder: Path) -> int:
        value = raw.get(name)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"{folder / 'config.json'}: {name} should be a positive whole number, found {value!r}")
        return value

    def _read_rope(self, raw: dict[str, Any], folder: Path) -> None:
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        self.rope_theta = float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in ("default", "linear", "llama3"):
            raise ModelError(f"{folder}: rope scaling {kind!r} is not computed here, only default, linear and llama3")
        self.rope_scaling = None if kind == "default" else {**rope, "rope_type": kind}

    def _read_eos(self, raw: dict[str, Any], folder: Path) -> None:
        eos = raw.get("eos_token_id")
        generation = folder / "generation_config.json"
        if generation.exists():
            eos = read_json(generation, "").get("eos_token_id", eos)
        self.eos_token_ids = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """The object in a JSON file. Raises `ModelError` with the text `missing`, or with what is wrong in the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(missing) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content
