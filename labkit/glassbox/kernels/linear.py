"""The matrix product of a few rows with a weight that lies as it does in the checkpoint."""
from __future__ import annotations

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.prefetch import LINE, prefetch

BAND = 32  # rows of x


@kernel
def linear(x: np.ndarray, weight: np.ndarray, add: bool, output: np.ndarray) -> None:
    """x [M, K] times weight [N, K] -> output [M, N], or added to it.

    Four rows of each at a time: eight vectors are read for sixteen multiplications, whose sums stay in registers. Every weight is read
    once for `BAND` rows of x, which the first levels of cache hold, and asked for on the way to it.
    """
    size = x.shape[1]
    rows, columns = x.shape[0], weight.shape[0]
    for band in range(0, rows, BAND):
        end = min(band + BAND, rows)
        share = 4 * size // max(1, (end - band) // 4)
        for n in range(0, columns - 3, 4):
            w0, w1, w2, w3 = weight[n], weight[n + 1], weight[n + 2], weight[n + 3]
            ahead = (n + 8) * size  # two times four rows from here
            for m in range(band, end - 3, 4):
                for i in range(ahead, ahead + share, LINE):
                    prefetch(weight, i)
                ahead += share
                x0, x1, x2, x3 = x[m], x[m + 1], x[m + 2], x[m + 3]
                a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = np.float32(0)
                a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = np.float32(0)
                for k in range(size):
                    a00 += x0[k] * w0[k]
                    a01 += x0[k] * w1[k]
                    a02 += x0[k] * w2[k]
                    a03 += x0[k] * w3[k]
                    a10 += x1[k] * w0[k]
                    a11 += x1[k] * w1[k]
                    a12 += x1[k] * w2[k]
                    a13 += x1[k] * w3[k]
                    a20 += x2[k] * w0[k]
                    a21 += x2[k] * w1[k]
                    a22 += x2[k] * w2[k]
                    a23 += x2[k] * w3[k]
                    a30 += x3[k] * w0[k]
                    a31 += x3[k] * w1[k]
                    a32 += x3[k] * w2[k]
                    a33 += x3[k] * w3[k]
                put(output[m], n, add, a00, a01, a02, a03)
                put(output[m + 1], n, add, a10, a11, a12, a13)
                put(output[m + 2], n, add, a20, a21, a22, a23)
                put(output[m + 3], n, add, a30, a31, a32, a33)
            for m in range(end - (end - band) % 4, end):
                row = x[m]
                a0 = a1 = a2 = a3 = np.float32(0)
                for k in range(size):
                    a0 += row[k] * w0[k]
                    a1 += row[k] * w1[k]
                    a2 += row[k] * w2[k]
                    a3 += row[k] * w3[k]
                put(output[m], n, add, a0, a1, a2, a3)
    for n in range(columns - columns % 4, columns):
        for m in range(rows):
            a = np.float32(0)
            for k in range(size):
                a += x[m, k] * weight[n, k]
            output[m, n] = output[m, n] + a if add else a


@kernel
def put(row: np.ndarray, at: int, add: bool, a: float, b: float, c: float, d: float) -> None:
    """Four sums to their places."""
    if add:
        row[at] += a
        row[at + 1] += b
        row[at + 2] += c
        row[at + 3] += d
    else:
        row[at], row[at + 1], row[at + 2], row[at + 3] = a, b, c, d
