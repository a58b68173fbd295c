"""A tile of a matrix product, in the CPU's own terms: plain loops do not give it.

Sums of ROWS x WIDTH numbers stay in vector registers while the loop goes through the inputs: each turn reads WIDTH weights, which lie side
by side, and one number of each row, and multiplies every one with every other. What a compiler makes of three plain loops keeps half a
register file busy, or adds up the lanes of every sum at the end.
"""
from __future__ import annotations

from typing import Any

from numba.core import cgutils

from labkit.glassbox.kernels.instructions import LANES, LINE, VECTOR, ZEROS, Instructions, function

ROWS = 4 if LANES == 8 else 8  # so that 2 * ROWS sums, 2 vectors of weights and a number have a register each
WIDTH = 2 * LANES  # weights of a turn


def make_tile(rows: int) -> Any:
    """tile(x, m, panels, at, add, output, n, ahead), for Numba's kernels.

    Rows [m, m + rows) of x [M, K] times the panel [K, WIDTH] that begins at number `at` of `panels` [any], into columns [n, n + WIDTH) of
    output [M, N], or added to them. One cache line in each of K turns, from number `ahead` of `panels` on, is asked for meanwhile.
    """

    def write(do: Instructions, x, m, panels, at, add, output, n, ahead):
        builder, number = do.builder, m.type
        size, columns = builder.extract_value(x.shape, 1), builder.extract_value(output.shape, 1)
        lines = [builder.add(m, number(i)) for i in range(rows)]
        inputs = [builder.gep(x.data, [builder.mul(line, size)]) for line in lines]
        results = [builder.gep(output.data, [builder.add(builder.mul(line, columns), n)]) for line in lines]
        sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(2)] for _ in range(rows)]  # registers, once it is optimized
        places = [(row, half) for row in range(rows) for half in range(2)]
        for row, half in places:
            builder.store(ZEROS, sums[row][half])
        with builder.if_then(add):
            for row, half in places:
                builder.store(do.load(results[row], number(half * LANES)), sums[row][half])
        with cgutils.for_range(builder, size) as loop:
            do.ask(panels.data, builder.add(ahead, builder.mul(loop.index, number(LINE))))
            start = builder.add(at, builder.mul(loop.index, number(WIDTH)))
            weights = [do.load(panels.data, builder.add(start, number(half * LANES))) for half in range(2)]
            for row in range(rows):
                one = do.all_lanes(inputs[row], loop.index)
                for half in range(2):
                    builder.store(do.multiply_add(one, weights[half], builder.load(sums[row][half])), sums[row][half])
        for row, half in places:
            do.store(builder.load(sums[row][half]), results[row], number(half * LANES))

    return function()(write)
