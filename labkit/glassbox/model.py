"""A Llama- or Qwen-shaped decoder over a paged KV cache."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.glassbox.attention import AttentionMetadata, KVLayer, write_kv
from labkit.glassbox.layers import Embedding, Linear, RMSNorm
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.rope import rope_table, rotate_


class Attention(nn.Module):
    """Grouped-query attention; q, k and v are one projection."""

    def __init__(self, config: ModelConfig, factory: dict[str, Any]) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.qkv_proj = Linear(config.hidden_size, (self.heads + 2 * self.kv_heads) * self.head_dim, config.qkv_bias, factory)
        self.o_proj = Linear(self.heads * self.head_dim, config.hidden_size, config.o_bias, factory)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps, factory) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps, factory) if config.qk_norm else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_layer: KVLayer, meta: AttentionMetadata) -> Tensor:
        """x [T, hidden] -> [T, hidden]. Writes this step's keys and values into `kv_layer` before it reads any."""
        qkv = self.qkv_proj(x).view(x.shape[0], self.heads + 2 * self.kv_heads, self.head_dim)
        turned = self.heads + self.kv_heads
        if self.q_norm is not None:
            qkv[:, : self.heads] = self.q_norm(qkv[:, : self.heads])
            qkv[:, self.heads : turned] = self.k_norm(qkv[:, self.heads : turned])
        rotate_(qkv[:, :turned], cos, sin)
        write_kv(kv_layer, qkv[:, self.heads :].unflatten(1, (2, self.kv_heads)), meta.kv_rows)
        output = meta.attend(qkv[:, : self.heads], kv_layer)
        return self.o_proj(output.flatten(1))


class MLP(nn.Module):
    """SwiGLU; gate and up are one projection."""

    def __init__(self, config: ModelConfig, factory: dict[str, Any]) -> None:
        super().__init__()
        self.gate_up_proj = Linear(config.hidden_size, 2 * config.intermediate_size, config.mlp_bias, factory)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, config.mlp_bias, factory)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate, inplace=True).mul_(up))


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, factory: dict[str, Any]) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, factory)
        self.self_attn = Attention(config, factory)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, factory)
        self.mlp = MLP(config, factory)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_layer: KVLayer, meta: AttentionMetadata) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, kv_layer, meta)
        return x + self.mlp(self.post_attention_layernorm(x))


class CausalLM(nn.Module):
    """Token ids in, logits out. The batch is flat: T tokens of any number of requests, whose bounds only `meta` knows."""

    def __init__(self, config: ModelConfig, max_model_len: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.config = config
        factory = {"dtype": dtype, "device": device}
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size, factory)
        self.layers = nn.ModuleList(DecoderLayer(config, factory) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, factory)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, False, factory)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.rope = rope_table(config, max_model_len).to(dtype=dtype, device=device)

    def forward(
        self, input_ids: Tensor, positions: Tensor, kv_layers: list[KVLayer], meta: AttentionMetadata, logits_rows: Tensor
    ) -> Tensor:
        """input_ids, positions [T]; logits_rows [N] names the tokens whose successor is wanted -> logits [N, vocab_size]."""
        x = self.embed_tokens(input_ids)
        cos, sin = self.rope.index_select(0, positions).unsqueeze(2).unbind(1)
        for layer, kv_layer in zip(self.layers, kv_layers, strict=True):
            x = layer(x, cos, sin, kv_layer, meta)
        return self.lm_head(self.norm(x.index_select(0, logits_rows)))
