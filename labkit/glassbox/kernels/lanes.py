"""One query and as many keys or values as a vector has lanes, in the CPU's own terms.

Scores of a query are sums over its numbers. Adding up the lanes of one sum takes as many instructions as computing it; here LANES sums
fold into each other, until every lane holds one of them. Rows are read as they lie in memory, SPAN numbers of each, and every line of
them asks for one of what comes next. Each head that reads the same rows asks again: a request that was dropped gets a second chance.
"""
from __future__ import annotations

from llvmlite import ir
from numba.core import types

from labkit.glassbox.kernels.instructions import INT32, LANES, LINE, VECTOR, ZEROS, Instructions, function
from labkit.glassbox.kernels.vectors import POWER

SPAN = 64  # numbers of a row that are gone over in one turn
VECTORS = SPAN // LANES


def pointer(do: Instructions, vectors, row: ir.Value, column: ir.Value) -> ir.Value:
    """To column `column` of row `row` of vectors [any, size]."""
    size = do.builder.extract_value(vectors.shape, 1)
    return do.builder.gep(vectors.data, [do.builder.add(do.builder.mul(row, size), column)])


def pointers(do: Instructions, vectors, row: ir.Value, column: ir.Value) -> list[ir.Value]:
    """To LANES rows from `row` on."""
    return [pointer(do, vectors, do.builder.add(row, row.type(i)), column) for i in range(LANES)]


def fold(do: Instructions, a: ir.Value, b: ir.Value, distance: int) -> ir.Value:
    """Lanes that are `distance` apart, added up: those of a where a lane's number has no bit `distance`, those of b where it has."""
    near = [lane if lane & distance == 0 else LANES + lane - distance for lane in range(LANES)]
    far = [lane + distance if lane & distance == 0 else LANES + lane for lane in range(LANES)]
    return do.builder.fadd(do.pick(a, b, near), do.pick(a, b, far))


@function()
def dot_lanes(do: Instructions, q, head, keys, row, column, soon, scores):
    """q [num_heads, head_dim]: SPAN numbers of row `head` from `column` on, times those of LANES rows of keys [block_size, head_dim] from
    `row` on -> as many of scores [num_heads, block_size], or added to them where `column` is not 0. `soon` is asked for, as many rows
    from `row` on."""
    builder, number = do.builder, head.type
    query = pointer(do, q, head, column)
    numbers = [do.load(query, number(i * LANES)) for i in range(VECTORS)]
    key_rows, next_rows = pointers(do, keys, row, column), pointers(do, soon, row, column)

    def lanes_of(rows: list[int]) -> ir.Value:
        """Lane i: of the sum of rows[i % len(rows)] those lanes that are a multiple of len(rows) apart from it."""
        if len(rows) > 1:
            half = len(rows) // 2
            return fold(do, lanes_of(rows[:half]), lanes_of(rows[half:]), half)
        total = ZEROS
        for i in range(VECTORS):
            if i * LANES % LINE == 0:
                do.ask(next_rows[rows[0]], number(i * LANES))
            total = do.multiply_add(numbers[i], do.load(key_rows[rows[0]], number(i * LANES)), total)
        return total

    sums = lanes_of(list(range(LANES)))
    result = pointer(do, scores, head, row)
    before = builder.select(builder.icmp_signed(">", column, number(0)), do.load(result, number(0)), ZEROS)
    do.store(builder.fadd(sums, before), result, number(0))


@function()
def add_lanes(do: Instructions, weights, head, values, row, column, soon, output):
    """LANES rows of values [block_size, head_dim] from `row` on, SPAN numbers of each from `column` on, times as many of weights
    [num_heads, block_size], are added to row `head` of output [num_heads, head_dim]. `soon` is asked for, as many rows from `row` on."""
    number = head.type
    result, factors = pointer(do, output, head, column), pointer(do, weights, head, row)
    sums = [do.load(result, number(i * LANES)) for i in range(VECTORS)]
    for turn, (value, next_row) in enumerate(zip(pointers(do, values, row, column), pointers(do, soon, row, column), strict=True)):
        factor = do.all_lanes(factors, number(turn))
        for i in range(VECTORS):
            if i * LANES % LINE == 0:
                do.ask(next_row, number(i * LANES))
            sums[i] = do.multiply_add(factor, do.load(value, number(i * LANES)), sums[i])
    for i in range(VECTORS):
        do.store(sums[i], result, number(i * LANES))


def seen_lanes(do: Instructions, scores, head, row, count) -> tuple[ir.Value, ir.Value]:
    """Pointer to numbers `row` to `row` + LANES of row `head` of scores; and which of these numbers stand before `count`."""
    numbers = ir.Constant(ir.VectorType(row.type, LANES), list(range(LANES)))
    return pointer(do, scores, head, row), do.builder.icmp_signed("<", numbers, do.fill(do.builder.sub(count, row)))


@function(types.boolean)
def any_beyond(do: Instructions, scores, head, row, count, limit):
    """Whether one of numbers `row` to `row` + LANES of row `head` of scores [num_heads, block_size] is beyond the limit, of those before
    `count`."""
    data, seen = seen_lanes(do, scores, head, row, count)
    beyond = do.builder.fcmp_ordered(">", do.load(data, row.type(0)), do.fill(limit))
    beyond = do.builder.select(seen, beyond, ir.Constant(beyond.type, [0] * LANES))
    return do.builder.icmp_unsigned("!=", do.builder.bitcast(beyond, ir.IntType(LANES)), ir.IntType(LANES)(0))


@function()
def soften_lanes(do: Instructions, scores, head, row, count, peak, factor, totals):
    """Numbers `row` to `row` + LANES of row `head` of scores [num_heads, block_size] become 2 to the power of (number - peak) * factor;
    those from `count` on become 0. What they are is added to row `head` of totals [num_heads, LANES]."""
    builder, number = do.builder, head.type
    data, seen = seen_lanes(do, scores, head, row, count)
    x = builder.fmul(builder.fsub(do.load(data, number(0)), do.fill(peak)), do.fill(factor))
    least = ir.Constant(VECTOR, [-126.0] * LANES)
    x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
    weights = builder.select(seen, power(do, x), ZEROS)
    do.store(weights, data, number(0))
    total = pointer(do, totals, head, number(0))
    do.store(builder.fadd(do.load(total, number(0)), weights), total, number(0))


def power(do: Instructions, x: ir.Value) -> ir.Value:
    """`vectors.exp2` of every lane."""
    builder, integers = do.builder, ir.VectorType(INT32, LANES)
    whole = builder.call(do.floor, [x])
    rest = builder.fsub(x, whole)
    result = ir.Constant(VECTOR, [float(POWER[-1])] * LANES)
    for coefficient in POWER[-2::-1]:
        result = do.multiply_add(result, rest, ir.Constant(VECTOR, [float(coefficient)] * LANES))
    biased = builder.add(builder.fptosi(whole, integers), ir.Constant(integers, [127] * LANES))
    return builder.fmul(result, builder.bitcast(builder.shl(biased, ir.Constant(integers, [23] * LANES)), VECTOR))
