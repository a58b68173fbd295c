"""What stands between the matrix products of a decoder, each in one pass over its numbers.

For a few thousand numbers most of torch's time is not spent on the numbers: called from Python, one pass instead of several is what counts.
"""
from __future__ import annotations

import math

import numpy as np
import torch

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.instructions import power_of_two

LOG2_E = np.float32(math.log2(math.e))
# 2 to the power of x in [0, 1] as a polynomial, interpolated at Chebyshev's points: off by 6 parts in 10^9 at most.
POWER = np.polynomial.Chebyshev.interpolate(np.exp2, 6, [0, 1]).convert(kind=np.polynomial.Polynomial).coef.astype(np.float32)
C0, C1, C2, C3, C4, C5, C6 = POWER


def serves(x: torch.Tensor) -> bool:
    """Whether the kernels take this tensor."""
    return x.dtype is torch.float32 and x.device.type == "cpu" and x.is_contiguous()


@kernel
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


@kernel
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


@kernel
def store(vectors: np.ndarray, rows: np.ndarray, layer: np.ndarray) -> None:
    """vectors [T, N, head_dim] into rows [T * N] of layer [any number, head_dim]."""
    for token in range(vectors.shape[0]):
        for i in range(vectors.shape[1]):
            vector, row = vectors[token, i], layer[rows[token * vectors.shape[1] + i]]
            for j in range(vectors.shape[2]):
                row[j] = vector[j]


@kernel
def exp2(x):
    """2 to the power of x, float32, at least -126 and below 128.

    A loop that calls the library's is not made into vector instructions: here 2 to the whole part is put together from its bits, 2 to the
    rest is a polynomial.
    """
    whole = np.floor(x)
    rest = x - whole
    return (C0 + rest * (C1 + rest * (C2 + rest * (C3 + rest * (C4 + rest * (C5 + rest * C6)))))) * power_of_two(whole)


@kernel
def softmax(scores: np.ndarray, count: int, scale: float) -> None:
    """Of the first `count` scores, float32, times `scale`, in place."""
    peak = scores[0]
    for i in range(count):
        peak = max(peak, scores[i])
    factor = np.float32(scale * LOG2_E)
    total = np.float32(0)
    for i in range(count):
        scores[i] = exp2(max((scores[i] - peak) * factor, np.float32(-126)))  # at most 1, and below this nothing to speak of
        total += scores[i]
    share = np.float32(1) / total
    for i in range(count):
        scores[i] *= share


@kernel
def swiglu(gate_up: np.ndarray, output: np.ndarray) -> None:
    """gate_up [T, 2 * size] -> output [T, size]: silu of the first half times the second."""
    size = output.shape[1]
    for token in range(output.shape[0]):
        gate, up, out = gate_up[token, :size], gate_up[token, size:], output[token]
        for i in range(size):
            power = exp2(min(max(gate[i] * -LOG2_E, np.float32(-126)), np.float32(126)))
            out[i] = gate[i] * up[i] / (np.float32(1) + power)


@kernel
def add_bias(x: np.ndarray, bias: np.ndarray) -> None:
    """x [T, size] and bias [size], in place."""
    for token in range(x.shape[0]):
        row = x[token]
        for i in range(row.shape[0]):
            row[i] += bias[i]
