"""The matrix product of a linear layer, with weights that were packed for it."""
from __future__ import annotations

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.instructions import LINE
from labkit.glassbox.kernels.tile import ROWS, WIDTH, make_tile

BAND = 64  # rows of x that stay in the cache while all weights come by
tile, tile4, tile2, tile1 = (make_tile(rows) for rows in (ROWS, 4, 2, 1))


def pack(weight: np.ndarray) -> np.ndarray:
    """[N, K] -> panels [N / WIDTH, K, WIDTH], in the order in which `linear` reads them; the last one is filled up with zeros."""
    outputs, inputs = weight.shape
    padded = np.zeros((-(-outputs // WIDTH) * WIDTH, inputs), np.float32)
    padded[:outputs] = weight
    return np.ascontiguousarray(padded.reshape(-1, WIDTH, inputs).transpose(0, 2, 1))


@kernel
def linear(x: np.ndarray, panels: np.ndarray, add: bool, output: np.ndarray, first: int) -> None:
    """x [M, K] times the weight whose `pack` is `panels` -> the columns of output [M, any] from `first` on, or added to them."""
    columns, size = min(output.shape[1] - first, len(panels) * WIDTH), x.shape[1] * WIDTH
    weights = panels.reshape(-1)
    whole = columns // WIDTH
    for start in range(0, x.shape[0], BAND):
        end = min(start + BAND, x.shape[0])
        for panel in range(whole):
            product(x, start, end, weights, panel * size, add, output, first + panel * WIDTH)
        if columns % WIDTH:
            rest, begin = np.empty((x.shape[0], WIDTH), np.float32), first + whole * WIDTH
            product(x, start, end, weights, whole * size, False, rest, 0)
            for m in range(start, end):
                for n in range(columns % WIDTH):
                    output[m, begin + n] = rest[m, n] + (output[m, begin + n] if add else np.float32(0))


@kernel
def product(x: np.ndarray, start: int, end: int, weights: np.ndarray, at: int, add: bool, output: np.ndarray, n: int) -> None:
    """Rows [start, end) of x times one panel. What follows the panel is asked for, a share of it by every tile."""
    ahead = at + x.shape[1] * WIDTH
    m = start
    while m + ROWS <= end:
        tile(x, m, weights, at, add, output, n, ahead)
        m += ROWS
        ahead += x.shape[1] * LINE
    if m + 4 <= end:
        tile4(x, m, weights, at, add, output, n, ahead)
        m += 4
    if m + 2 <= end:
        tile2(x, m, weights, at, add, output, n, ahead)
        m += 2
    if m < end:
        tile1(x, m, weights, at, add, output, n, ahead)
