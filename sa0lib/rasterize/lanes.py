"""What the CPU kernels need beyond numba: a cache that notices edits, stack rows, prefetching, a vectorising exp.

A tile is 16 pixels wide because 16 float32 fill an AVX-512 register (two AVX2 ones). LLVM turns a loop over 16
floats into straight vector code only if it can prove that the arrays do not overlap: arrays on the stack are
provably apart, arrays from the heap are not.
"""

import hashlib
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

TILE_W, TILE_H = 8, 32  # pixels
HERE = Path(__file__).parent
SOURCES = [HERE / f"{name}.py" for name in ("lanes", "projection", "tiles", "composite")]
DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:12]


def kernel(parallel=False, fastmath=False):
    """`numba.njit` with a cache on disk, in a folder named after the sources of all kernels.

    Numba alone looks at the file of the kernel, and would run stale code after an edit to a function that the kernel
    calls from another file. The folder lies in __pycache__, or in NUMBA_CACHE_DIR where that is set.
    """

    def decorate(function):
        before = config.CACHE_DIR
        config.CACHE_DIR = str(Path(before or HERE / "__pycache__") / f"kernels-{DIGEST}")
        try:
            return njit(parallel=parallel, fastmath=fastmath, error_model="numpy", cache=True)(function)
        finally:
            config.CACHE_DIR = before

    return decorate


f32 = np.float32
FLAGS = {"contract", "reassoc", "arcp", "nsz"}  # not "nnan", "ninf": what overflows is looked at, then left out
# exp(-t) on [0, 0.695], least relative error for seven coefficients (fitted by reweighted least squares)
E0, E1, E2, E3 = f32(1.0), f32(-0.9999997615814209), f32(0.4999946355819702), f32(-0.1666220724582672)
E4, E5, E6 = f32(0.04148712381720543), f32(-0.007954561151564121), f32(0.0009774736827239394)


@njit(inline="always", fastmath=FLAGS)
def exp_minus_eight(t):
    """exp(-8 t) within 2e-6 relative for 0 <= t <= 0.695, where alpha can reach 1/255; of no use beyond.

    A polynomial of degree 6 in t, squared three times: no branch and no table, so it vectorises.
    """
    p = E0 + t * (E1 + t * (E2 + t * (E3 + t * (E4 + t * (E5 + t * E6)))))
    p *= p
    p *= p
    p *= p
    return p


@intrinsic
def stack_floats(typing_context, count):
    """Pointer to `count` (a literal) float32 on the stack, aligned to 64 bytes; wrap it in `numba.carray`."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context, builder, signature, arguments):
        pointer = cgutils.alloca_once(builder, ir.FloatType(), size=count.literal_value)
        pointer.align = 64
        return pointer

    return types.CPointer(types.float32)(count), generate


@intrinsic
def prefetch(typing_context, array, row, column):
    """Ask for the cache line of array[row, column] ahead of its use; changes no value."""

    def generate(context, builder, signature, arguments):
        array_type = signature.args[0]
        struct = context.make_array(array_type)(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(context, builder, array_type, struct, list(arguments[1:]))
        byte_pointer, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(i32, value) for value in (0, 3, 1))
        builder.call(function, [builder.bitcast(pointer, byte_pointer), read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate
