"""`prefetch`: ask the CPU for memory before it is needed. For use in Numba's kernels."""
from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 16  # float32 numbers that come with one request: a cache line of 64 bytes


@intrinsic
def prefetch(typing, array, offset):
    """The cache line of the number that stands `offset` numbers behind the beginning of `array`, into the second level of cache.
    Never faults, wherever that is.

    A CPU guesses what comes next only inside a page and only in one direction. A kernel that knows its block table knows better.
    """

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(2), flag(1)])  # to be read; second level; data
        return context.get_dummy_value()

    return types.void(array, offset), generate
