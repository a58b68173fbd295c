"""Small kernels between the matrix products of a decode step, for float32 on a CPU.

Each does in one pass over a few thousand numbers what torch does in several: at that size most of the time is not spent on the numbers.
The plain way stands beside each call, in `layers.py`, `rope.py` and `attention.py`.
"""
from __future__ import annotations

import math

import numba
import numpy as np
import torch


def serves(x: torch.Tensor) -> bool:
    """Whether the kernels take this tensor."""
    return x.dtype is torch.float32 and x.device.type == "cpu" and x.is_contiguous()


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float, output: np.ndarray) -> None:
    """x, output [rows, size]; weight [size]."""
    rows, size = x.shape
    for row in range(rows):
        numbers, out = x[row], output[row]
        squares = np.float32(0)
        for i in range(size):
            squares += numbers[i] * numbers[i]
        scale = np.float32(1 / math.sqrt(squares / size + eps))
        for i in range(size):
            out[i] = numbers[i] * scale * weight[i]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def rotate(x: np.ndarray, heads: int, turns: np.ndarray) -> None:
    """The first `heads` of x [T, all heads, head_dim] turned in place by turns [T, 2, head_dim], see `rope.rotate_`."""
    half = x.shape[2] // 2
    for token in range(x.shape[0]):
        c, s = turns[token]
        for head in range(heads):
            pair = x[token, head]
            for i in range(half):
                first, second = pair[i], pair[i + half]
                pair[i] = first * c[i] + second * s[i]
                pair[i + half] = second * c[i + half] + first * s[i + half]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def store(vectors: np.ndarray, rows: np.ndarray, layer: np.ndarray) -> None:
    """vectors [T, N, head_dim] into rows [T * N] of layer [any number, head_dim]."""
    for token in range(vectors.shape[0]):
        for i in range(vectors.shape[1]):
            vector, row = vectors[token, i], layer[rows[token * vectors.shape[1] + i]]
            for j in range(vectors.shape[2]):
                row[j] = vector[j]
