"""What the layers of a model and the ways to compute attention over a paged cache agree on.

A backend looks at a step once (`prepare`), before the first layer; every layer then calls what it got. Backends differ in how the
queries meet the cache: `gather` copies each request's blocks together and is the one to read first, `paged` reads them where they are.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from labkit.glassbox.kernels import vectors
from labkit.glassbox.quantized_kv import QuantizedLayer

KVLayer = torch.Tensor | QuantizedLayer
"""[num_blocks, 2, num_kv_heads, block_size, head_dim]"""
Attend = Callable[[torch.Tensor, KVLayer], torch.Tensor]
"""(query [T, num_heads, head_dim], kv_layer) -> [T, num_heads, head_dim]"""


@dataclass
class Batch:
    """The tokens of a step, flat: request i owns rows [first[i], first[i] + counts[i]) and computes positions from starts[i] on.

    Each token sees its request's tokens up to itself: token j is in slot j % block_size of block `tables[i, j // block_size]`.
    """

    starts: np.ndarray  # [R] tokens in the cache already
    counts: np.ndarray  # [R] tokens of this step, at least 1
    tables: np.ndarray  # [R, blocks of the longest] block ids; 0 where a request has no more
    block_size: int

    @property
    def contexts(self) -> np.ndarray:
        """[R] tokens that the last token of each request sees."""
        return self.starts + self.counts

    @property
    def first(self) -> np.ndarray:
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def owners(self) -> np.ndarray:
        """[T] the request of every token."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def positions(self) -> np.ndarray:
        """[T] of every token in its request."""
        return np.arange(len(self.owners)) + (self.starts - self.first)[self.owners]

    def locate(self) -> tuple[np.ndarray, np.ndarray]:
        """[T] block, and slot of that block, of every token."""
        return self.tables[self.owners, self.positions // self.block_size], self.positions % self.block_size

    def select(self, rows: np.ndarray) -> Batch:
        """Some of the requests."""
        tables = self.tables[rows, : -(-self.contexts[rows].max() // self.block_size)]
        return Batch(self.starts[rows], self.counts[rows], tables, self.block_size)


@dataclass(slots=True)
class AttentionMetadata:
    """Where one step's tokens are written and how they look at what is there. T: tokens of the step."""

    kv_rows: torch.Tensor  # [T * 2 * num_kv_heads] see `kv_rows`
    attend: Attend


class AttentionBackend(ABC):
    """One way to compute attention over the paged cache."""

    @abstractmethod
    def prepare(self, batch: Batch) -> Attend:
        """What all layers of this step call. Everything that does not depend on the layer is made here."""


def kv_rows(blocks: np.ndarray, slots: np.ndarray, num_kv_heads: int, block_size: int) -> np.ndarray:
    """[T] blocks and slots -> [T, 2, num_kv_heads] rows of a layer seen as [num_blocks * 2 * num_kv_heads * block_size, head_dim]."""
    heads = np.arange(2 * num_kv_heads).reshape(2, num_kv_heads)
    return (blocks[:, None, None] * (2 * num_kv_heads) + heads) * block_size + slots[:, None, None]


def write_kv(kv_layer: KVLayer, key_value: torch.Tensor, rows: torch.Tensor) -> None:
    """Store `key_value` [T, 2, num_kv_heads, head_dim] into rows [T * 2 * num_kv_heads] of one layer."""
    if isinstance(kv_layer, QuantizedLayer):
        kv_layer.write(key_value, rows)
    elif vectors.serves(kv_layer):
        vectors.store(key_value.flatten(1, 2).numpy(), rows.numpy(), kv_layer.flatten(0, 3).numpy())
    else:
        kv_layer.flatten(0, 3).index_copy_(0, rows, key_value.flatten(0, 2))


def read_kv(kv_layer: KVLayer, pieces: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Pieces [N], each what one KV head has of a block, keys or values -> [N, block_size, head_dim]; codes become numbers of `dtype`."""
    if isinstance(kv_layer, QuantizedLayer):
        return kv_layer.read(pieces, dtype)
    return kv_layer.flatten(0, 2).index_select(0, pieces)
