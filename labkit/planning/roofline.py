"""Bytes and FLOPs of one engine step, and the shortest time in which a machine can do them.

    intensity   FLOPs / bytes of a step
    bound       the longer of bytes / bandwidth and FLOPs / arithmetic rate: the roofline model (Williams, Waterman and Patterson,
                "Roofline: an insightful visual performance model", CACM 52(4), 2009)
    MBU         (bytes of the weights + bytes of the KV cache) / step time / bandwidth: model bandwidth utilization as Databricks defines it
                ("LLM Inference Performance Engineering: Best Practices", 2023)
    MFU         FLOPs that the model needs / step time / arithmetic rate: model FLOPs utilization as in PaLM, appendix B
                (arXiv 2204.02311), whose 6 N + 12 L H Q T FLOPs a trained token are three forward passes of 2 N + 4 L H Q T
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labkit.models.shapes import Shape
from labkit.planning.ceilings import Ceilings


@dataclass(slots=True, frozen=True)
class Work:
    """What one step has to do at least. Every byte is counted once, as if nothing but the caches' contents were reused within the step."""

    tokens: int  # computed
    requests: int
    flops: int
    weights: int  # bytes read
    kv_read: int  # bytes: keys and values of everything that this step's tokens look at
    kv_write: int  # bytes
    activations: int  # bytes: what each matrix product takes in and gives out

    @property
    def bytes(self) -> int:
        return self.weights + self.kv_read + self.kv_write + self.activations

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.bytes


@dataclass(slots=True, frozen=True)
class Bound:
    """Shortest times in seconds."""

    memory: float
    compute: float

    @property
    def seconds(self) -> float:
        return max(self.memory, self.compute)

    @property
    def limit(self) -> str:
        """"memory" or "compute": what the step waits for."""
        return "memory" if self.memory >= self.compute else "compute"


def work(shape: Shape, chunks: Iterable[tuple[int, int]], dtype_bytes: int = 4, sampled: int | None = None) -> Work:
    """A step that computes, for each (computed, tokens) of `chunks`, `tokens` more tokens of a request that has `computed` in its cache.

    A decode is (context, 1), the prefill of a whole prompt (0, length). `sampled` is how many of the requests need logits; None: all.
    """
    chunks = list(chunks)
    tokens, context = sum(n for _, n in chunks), sum(computed + n for computed, n in chunks)
    pairs = sum(n * computed + n * (n + 1) // 2 for computed, n in chunks)  # of a token and one that it looks at
    logits = len(chunks) if sampled is None else sampled
    heads = shape.num_attention_heads * shape.head_dim
    layer = matrices(shape)
    values = tokens * shape.num_hidden_layers * (sum(inputs + outputs for inputs, outputs in layer) + 2 * heads)
    values += logits * (shape.hidden_size + shape.vocab_size)
    products = tokens * shape.num_hidden_layers * sum(inputs * outputs for inputs, outputs in layer)
    products += logits * shape.hidden_size * shape.vocab_size
    attention = 2 * shape.num_hidden_layers * heads * pairs  # q k, and the values that it weighs
    return Work(
        tokens=tokens,
        requests=len(chunks),
        flops=2 * (products + attention),
        weights=read_parameters(shape) * dtype_bytes,
        kv_read=context * shape.kv_bytes(dtype_bytes),
        kv_write=tokens * shape.kv_bytes(dtype_bytes),
        activations=values * dtype_bytes,
    )


def matrices(shape: Shape) -> list[tuple[int, int]]:
    """(inputs, outputs) of each matrix of a layer."""
    heads, kv_heads = (n * shape.head_dim for n in (shape.num_attention_heads, shape.num_key_value_heads))
    return [(shape.hidden_size, heads + 2 * kv_heads), (heads, shape.hidden_size),
            (shape.hidden_size, 2 * shape.intermediate_size), (shape.intermediate_size, shape.hidden_size)]


def read_parameters(shape: Shape) -> int:
    """Weights that every step reads: all but an embedding that only gives a row for each token. A tied one is read for the logits."""
    return shape.parameters - (0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size)


def bound(work: Work, ceilings: Ceilings, dtype: str = "float32") -> Bound:
    """The step's shortest times on a machine. The weights' size says whether they can stay in a cache from one step to the next."""
    return Bound(work.bytes / ceilings.bandwidth(work.weights), work.flops / ceilings.flops(dtype))


def mbu(work: Work, seconds: float, ceilings: Ceilings) -> float:
    """Model bandwidth utilization of a step that took `seconds`, 0 to 1 or so."""
    return (work.weights + work.kv_read) / seconds / ceilings.bandwidth(work.weights)


def mfu(work: Work, seconds: float, ceilings: Ceilings, dtype: str = "float32") -> float:
    """Model FLOPs utilization of a step that took `seconds`, 0 to 1."""
    return work.flops / seconds / ceilings.flops(dtype)
