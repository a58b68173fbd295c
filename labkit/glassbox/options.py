"""Every knob of the engine, with vLLM's names, checked before anything is loaded."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labkit.glassbox.quantization import Quantization
from labkit.quantization.errors import QuantizationError
from labkit.quantization.text import ROWS

DTYPES = ("auto", "float32", "bfloat16", "float16")
SCHEDULING_OPTIONS = ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "enable_prefix_caching")
ATTENTION_BACKENDS = ("auto", "gather", "paged")
LINEAR_BACKENDS = ("auto", "plain", "packed")


class OptionsError(ValueError):
    """Options that cannot work. The message has the cause, the arithmetic where there is one, and the remedy."""


@dataclass(slots=True)
class EngineOptions:
    """Raises `OptionsError` for values that can never work; `resolve` checks the rest once the model's context is known."""

    block_size: int = 16  # tokens per KV block, 1 and up
    num_gpu_blocks_override: int = 512  # blocks of the pool, on whatever device it is
    max_num_seqs: int = 128  # requests running at once
    max_num_batched_tokens: int | None = None  # token budget of a step; None: 2048, or the context without chunked prefill
    max_model_len: int | None = None  # prompt and output tokens of one request; None: the model's context
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    policy: Any = "chunked"  # name of a batching policy (see `policies`), or a class that derives from Scheduler
    policy_parameters: dict[str, Any] = field(default_factory=dict)  # by the names that the policy gives them
    dtype: str = "auto"  # auto: float32 on a CPU, the checkpoint's own on a GPU
    seed: int = 0  # of dummy weights and of requests that bring none
    device: str = "auto"  # auto: cuda where torch finds it, otherwise cpu
    load_format: str = "auto"  # "dummy": random weights of the configured shape
    attention_backend: str = "auto"  # paged: reads the KV cache where it is; gather: copies each request's blocks together first
    linear_backend: str = "auto"  # packed: weights rearranged for the CPU's kernel when they are loaded; plain: as in the checkpoint
    enforce_eager: bool = False  # compute layer by layer in torch, never a step as one compiled function or a CUDA graph
    quantization: str | None = None  # method of labkit.quantization; None or "none": weights as in the checkpoint
    quantization_bits: int | None = None  # None: the method's own
    quantization_group_size: int | None = None  # weights that share a scale; None: the method's own
    quantization_calibration_rows: int = ROWS  # of text, for methods that look at activations
    kv_cache_dtype: str = "auto"  # auto: as the model computes; int8, fp8 (fp8_e4m3), fp8_e5m2: codes with a scale for each token and head
    max_steps_per_second: int | None = None  # slow motion, for those who watch a server; None: as fast as it can
    check_invariants: bool = False

    def __post_init__(self) -> None:
        for name in (
            "block_size", "num_gpu_blocks_override", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "max_steps_per_second",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionsError(f"{flag(name)} must be at least 1, got {value}")
        if self.max_model_len == 1:
            raise OptionsError("--max-model-len must be at least 2: a prompt has a token, and an answer has one")
        if self.dtype not in DTYPES:
            raise OptionsError(f"--dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.load_format not in ("auto", "safetensors", "dummy"):
            raise OptionsError(f"--load-format must be auto, safetensors or dummy, got {self.load_format!r}")
        for name, values in (("attention_backend", ATTENTION_BACKENDS), ("linear_backend", LINEAR_BACKENDS)):
            if getattr(self, name) not in values:
                raise OptionsError(f"{flag(name)} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        try:
            self.wanted_quantization()
        except QuantizationError as error:
            raise OptionsError(f"--quantization {self.quantization}, --kv-cache-dtype {self.kv_cache_dtype}: {error}") from error
        budget = self.max_num_batched_tokens
        if budget is not None and budget < self.max_num_seqs:
            raise OptionsError(
                f"--max-num-batched-tokens {budget} is less than --max-num-seqs {self.max_num_seqs}: with all of them decoding, a step "
                f"needs one token for each; raise the first or lower the second"
            )

    def wanted_quantization(self) -> Quantization:
        """What the engine starts with. Raises `QuantizationError`."""
        method, bits, groups = self.quantization, self.quantization_bits, self.quantization_group_size
        return Quantization.of(method, bits, groups, self.kv_cache_dtype, self.quantization_calibration_rows)

    def resolve(self, context: int) -> None:
        """Fill in what depends on the model's `context` (tokens) and check that one longest request fits the pool."""
        if self.max_model_len is None:
            self.max_model_len = context
        if self.max_model_len > context:
            raise OptionsError(f"--max-model-len {self.max_model_len} is more than the model's context of {context} tokens")
        if self.max_num_batched_tokens is None:
            self.max_num_batched_tokens = max(2048 if self.enable_chunked_prefill else self.max_model_len, self.max_num_seqs)
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < self.max_model_len:
            raise OptionsError(
                f"without chunked prefill a prompt is computed in one step: --max-num-batched-tokens {self.max_num_batched_tokens} must be "
                f"at least --max-model-len {self.max_model_len}"
            )
        slots = self.num_gpu_blocks_override * self.block_size
        if slots < self.max_model_len:
            needed = -(-self.max_model_len // self.block_size)
            raise OptionsError(
                f"the KV pool is too small for one request of --max-model-len {self.max_model_len}: {self.num_gpu_blocks_override} blocks "
                f"x {self.block_size} tokens = {slots} tokens; raise --num-gpu-blocks-override to {needed}, or lower --max-model-len "
                f"to {slots}"
            )


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
