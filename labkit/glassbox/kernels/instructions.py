"""Instructions of a CPU that plain loops do not always become: for the few kernels that are written in LLVM's own terms."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

FEATURES = binding.get_host_cpu_features()
LANES = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx2") else 4  # float32 numbers of a vector
LINE = 16  # float32 numbers that come with one request for memory: a cache line of 64 bytes
SECOND_LEVEL = 2  # of cache, as LLVM counts: where to put what was asked for

FLOAT, INT32, BYTES = ir.FloatType(), ir.IntType(32), ir.IntType(8).as_pointer()
VECTOR = ir.VectorType(FLOAT, LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)


class Instructions:
    """What a builder of LLVM is told to write. `data` is a pointer to float32 numbers, `at` counts them from there."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32")
        self.floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.floor.v{LANES}f32")
        asked = ir.FunctionType(ir.VoidType(), [BYTES, INT32, INT32, INT32])
        self.prefetch = cgutils.get_or_insert_function(builder.module, asked, "llvm.prefetch.p0")

    def address(self, data: ir.Value, at: ir.Value, type: ir.Type = VECTOR) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(data, [at]), type.as_pointer())

    def load(self, data: ir.Value, at: ir.Value) -> ir.Value:
        """The LANES numbers from `at` on."""
        return self.builder.load(self.address(data, at), align=4)

    def store(self, vector: ir.Value, data: ir.Value, at: ir.Value) -> None:
        self.builder.store(vector, self.address(data, at), align=4)

    def all_lanes(self, data: ir.Value, at: ir.Value) -> ir.Value:
        """A vector that has the number `at` in every lane."""
        return self.fill(self.builder.load(self.builder.gep(data, [at])))

    def fill(self, number: ir.Value) -> ir.Value:
        """A vector that has a value in every lane."""
        lanes = ir.VectorType(number.type, LANES)
        one = self.builder.insert_element(ir.Constant(lanes, ir.Undefined), number, INT32(0))
        return self.builder.shuffle_vector(one, ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))

    def pick(self, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
        """A vector out of lanes of a (0 to LANES - 1) and of b (LANES and up)."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, LANES), lanes))

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.builder.call(self.fma, [a, b, c])

    def ask(self, data: ir.Value, at: ir.Value) -> None:
        """The cache line of a number into the second level of cache, while something else is computed. Never faults, wherever that is.

        A CPU guesses what comes next only inside a page and only in one direction. A kernel that knows its block table knows better. Only
        so many requests can be on their way, and a CPU may drop those beyond: they are to be spread out among instructions.
        """
        self.builder.call(self.prefetch, [self.address(data, at, ir.IntType(8)), INT32(0), INT32(SECOND_LEVEL), INT32(1)])


def function(gives: types.Type = types.void) -> Callable[[Callable], Any]:
    """Makes write(instructions, *arguments) a function of Numba's kernels. Of an array, float32 and without
    gaps, it gets Numba's struct (`data`, `shape`), of everything else LLVM's value."""

    def decorate(write: Callable[..., ir.Value | None]) -> Any:
        @functools.wraps(write)  # Numba wants arguments with names
        def written(typing, *argument_types):
            for type in argument_types:
                if isinstance(type, types.Array) and (type.layout, type.dtype) != ("C", types.float32):
                    raise TypingError(f"{write.__name__} takes float32 without gaps, not {type}")

            def generate(context, builder, signature, arguments):
                given = [
                    context.make_array(type)(context, builder, value) if isinstance(type, types.Array) else value
                    for type, value in zip(signature.args, arguments, strict=True)
                ]
                result = write(Instructions(builder), *given)
                return context.get_dummy_value() if result is None else result

            return gives(*argument_types), generate

        return intrinsic(written)

    return decorate


@function(types.float32)
def power_of_two(do: Instructions, exponent):
    """2 to the power of a whole float32 in [-126, 127], out of the bits of its exponent."""
    biased = do.builder.add(do.builder.fptosi(exponent, INT32), INT32(127))
    return do.builder.bitcast(do.builder.shl(biased, INT32(23)), FLOAT)
