"""A Llama- or Qwen-shaped decoder over a paged KV cache."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.glassbox.attention import AttentionMetadata, paged_attention, write_kv
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.rope import rope_table, rotate


class Attention(nn.Module):
    """Grouped-query attention; q, k and v are one projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.scale = config.head_dim**-0.5
        self.qkv_proj = nn.Linear(config.hidden_size, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=config.o_bias)
        self.q_norm = nn.RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = nn.RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_layer: Tensor, meta: AttentionMetadata) -> Tensor:
        """x [T, hidden] -> [T, hidden]. Writes this step's keys and values into `kv_layer` before it reads any."""
        qkv = self.qkv_proj(x).view(x.shape[0], self.heads + 2 * self.kv_heads, self.head_dim)
        turned = self.heads + self.kv_heads
        if self.q_norm is not None:
            qkv[:, : self.heads] = self.q_norm(qkv[:, : self.heads])
            qkv[:, self.heads : turned] = self.k_norm(qkv[:, self.heads : turned])
        qkv[:, :turned] = rotate(qkv[:, :turned], cos, sin)
        write_kv(kv_layer, qkv[:, self.heads :].unflatten(1, (2, self.kv_heads)), meta.slot_mapping)
        output = paged_attention(qkv[:, : self.heads], kv_layer, meta.groups, self.scale)
        return self.o_proj(output.flatten(1))


class MLP(nn.Module):
    """SwiGLU; gate and up are one projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_layer: Tensor, meta: AttentionMetadata) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, kv_layer, meta)
        return x + self.mlp(self.post_attention_layernorm(x))


class CausalLM(nn.Module):
    """Token ids in, logits out. The batch is flat: T tokens of any number of requests, whose bounds only `meta` knows."""

    def __init__(self, config: ModelConfig, max_model_len: int) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.max_model_len = max_model_len
        self.register_buffer("rope", torch.empty(0), persistent=False)

    def build_rope(self, dtype: torch.dtype, device: torch.device) -> None:
        """Fill the table of angles: after loading, since the meta device computes nothing."""
        self.rope = rope_table(self.config, self.max_model_len).to(dtype=dtype, device=device)

    def forward(
        self, input_ids: Tensor, positions: Tensor, kv_layers: list[Tensor], meta: AttentionMetadata, logits_rows: Tensor
    ) -> Tensor:
        """input_ids, positions [T]; logits_rows [N] names the tokens whose successor is wanted -> logits [N, vocab_size]."""
        x = self.embed_tokens(input_ids)
        cos, sin = self.rope.index_select(0, positions).unsqueeze(2).unbind(1)
        for layer, kv_layer in zip(self.layers, kv_layers, strict=True):
            x = layer(x, cos, sin, kv_layer, meta)
        return self.lm_head(self.norm(x.index_select(0, logits_rows)))
