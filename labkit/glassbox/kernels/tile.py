"""A tile of a matrix product, in the CPU's own terms: the one kernel that plain loops do not give.

Sums of ROWS x WIDTH numbers stay in vector registers while the loop goes through the inputs: each turn reads WIDTH weights, which lie side
by side, and one number of each row, and multiplies every one with every other. What a compiler makes of three plain loops keeps half a
register file busy, or adds up the lanes of every sum at the end.
"""
from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from labkit.glassbox.kernels.prefetch import LINE

FEATURES = binding.get_host_cpu_features()
LANES = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx2") else 4  # float32 numbers of a vector
ROWS = 4 if LANES == 8 else 8  # so that 2 * ROWS sums, 2 vectors of weights and a number have a register each
WIDTH = 2 * LANES  # weights of a turn

FLOAT, INT32, BYTES = ir.FloatType(), ir.IntType(32), ir.IntType(8).as_pointer()
VECTOR = ir.VectorType(FLOAT, LANES)
NOTHING = ir.Constant(VECTOR, ir.Undefined)


def make_tile(rows: int) -> Any:
    """tile(x, m, panels, at, add, output, n, ahead), for Numba's kernels.

    Rows [m, m + rows) of x [M, K] times the panel [K, WIDTH] that begins at number `at` of `panels` [any], into columns [n, n + WIDTH) of
    output [M, N], or added to them. One cache line in each of K turns, from number `ahead` of `panels` on, is asked for meanwhile.
    """

    @intrinsic
    def tile(typing, x, m, panels, at, add, output, n, ahead):
        def generate(context, builder, signature, arguments):
            x, m, panels, at, add, output, n, ahead = arguments
            x, panels, output = (
                context.make_array(signature.args[i])(context, builder, array) for i, array in ((0, x), (2, panels), (5, output))
            )
            size, columns, number = builder.extract_value(x.shape, 1), builder.extract_value(output.shape, 1), m.type
            lines = [builder.add(m, number(i)) for i in range(rows)]
            inputs = [builder.gep(x.data, [builder.mul(line, size)]) for line in lines]
            results = [builder.add(builder.mul(line, columns), n) for line in lines]
            sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(2)] for _ in range(rows)]  # registers, once it is optimized
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32")
            ask = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [BYTES, INT32, INT32, INT32]), "llvm.prefetch.p0"
            )

            def vector(data, start, half):
                address = builder.gep(data, [builder.add(start, number(half * LANES))])
                return builder.bitcast(address, VECTOR.as_pointer())

            places = [(row, half) for row in range(rows) for half in range(2)]
            for row, half in places:
                builder.store(ir.Constant(VECTOR, [0.0] * LANES), sums[row][half])
            with builder.if_then(context.is_true(builder, signature.args[4], add)):
                for row, half in places:
                    builder.store(builder.load(vector(output.data, results[row], half), align=4), sums[row][half])
            with cgutils.for_range(builder, size) as loop:
                line = builder.gep(panels.data, [builder.add(ahead, builder.mul(loop.index, number(LINE)))])
                builder.call(ask, [builder.bitcast(line, BYTES), INT32(0), INT32(2), INT32(1)])
                start = builder.add(at, builder.mul(loop.index, number(WIDTH)))
                weights = [builder.load(vector(panels.data, start, half), align=4) for half in range(2)]
                for row in range(rows):
                    one = builder.insert_element(NOTHING, builder.load(builder.gep(inputs[row], [loop.index])), INT32(0))
                    all_lanes = builder.shuffle_vector(one, NOTHING, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))
                    for half in range(2):
                        product = builder.call(fma, [all_lanes, weights[half], builder.load(sums[row][half])])
                        builder.store(product, sums[row][half])
            for row, half in places:
                builder.store(builder.load(sums[row][half]), vector(output.data, results[row], half), align=4)
            return context.get_dummy_value()

        return types.void(x, m, panels, at, add, output, n, ahead), generate

    return tile
