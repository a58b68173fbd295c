"""Named model shapes: config.json and a tokenizer without weights, for servers started with `--load-format dummy`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(slots=True, frozen=True)
class Shape:
    """A decoder of the Llama family; field names are those of Hugging Face's config.json."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    model_type: str = "llama"

    @classmethod
    def from_config(cls, config: dict) -> Shape:
        """The shape that the content of a config.json describes. ValueError: it is of no family that is counted here."""
        if config["model_type"] not in ("llama", "qwen3"):
            raise ValueError(f"the weights of a {config['model_type']} model are not counted here, only those of llama and qwen3")
        config = {"head_dim": config["hidden_size"] // config["num_attention_heads"], "tie_word_embeddings": False} | config
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})

    @property
    def parameters(self) -> int:
        """The number of weights, each counted once."""
        h, d = self.hidden_size, self.head_dim
        attention = 2 * h * d * (self.num_attention_heads + self.num_key_value_heads)
        if self.model_type == "qwen3":
            attention += 2 * d
        layer = attention + 3 * h * self.intermediate_size + 2 * h
        return self.vocab_size * h * (1 if self.tie_word_embeddings else 2) + self.num_hidden_layers * layer + h

    def kv_bytes(self, dtype_bytes: int = 2) -> int:
        """Bytes of KV cache that one token needs over all layers."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * dtype_bytes

    def config(self) -> dict:
        """The content of config.json. Token ids are those of the lab's own tokenizer."""
        architecture = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[self.model_type]
        return {
            "architectures": [architecture],
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "rope_scaling": None,
            "initializer_range": 0.02,
            "use_cache": True,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": "bfloat16",
        }


def shapes() -> dict[str, Shape]:
    """Every named shape. `tiny` (also `5M`) is the shipped model's; the last two are those of public checkpoints."""
    tiny = Shape(2048, 256, 6, 4, 2, 64, 704, 2048)
    return {
        "tiny": tiny,
        "5M": tiny,
        "50M": Shape(8192, 640, 10, 10, 5, 64, 1728, 4096),
        "500M": Shape(32000, 1280, 24, 20, 5, 64, 3456, 8192),
        "qwen3-0.6b": Shape(151936, 1024, 28, 16, 8, 128, 3072, 40960, 1e6, 1e-6, True, "qwen3"),
        "llama-3.1-8b": Shape(128256, 4096, 32, 32, 8, 128, 14336, 131072, 5e5, 1e-5, False),
    }


def write_config(shape: Shape, folder: Path) -> None:
    """Write config.json and generation_config.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2) + "\n")
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def write_shape(name: str, folder: Path) -> Path:
    """Write configuration and shipped tokenizer, but no weights, into `folder`, and give it back. KeyError: no such shape."""
    import shutil

    tiny = Path(__file__).parent / "tiny"
    shape = shapes()[name]
    write_config(shape, folder)
    shutil.copy(tiny / "tokenizer.json", folder)
    settings = json.loads((tiny / "tokenizer_config.json").read_text()) | {"model_max_length": shape.max_position_embeddings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return folder
