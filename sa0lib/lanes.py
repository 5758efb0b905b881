"""What the CPU kernels need beyond numba: threads, a cache that notices edits, and vectors of 16 lanes.

Inner loops are 16 long because 16 float32 fill an AVX-512 register (two AVX2 ones). LLVM turns such a loop into
straight vector code where it can prove that the arrays do not overlap, which it can for arrays on the stack.

Kernels run on OpenMP threads, which do not survive a fork: start further processes with "spawn" or "forkserver".
"""

import hashlib
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

HERE = Path(__file__).parent
RASTERIZER = [HERE / "rasterize" / f"{name}.py" for name in ("projection", "tiles", "composite", "composite_gradient")]
SOURCES = [*(HERE / f"{name}.py" for name in ("lanes", "binding_cpu", "ssim_cpu")), *RASTERIZER]
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


ONE_AT_A_TIME = threading.Lock()  # numba's fallback thread pool does not survive two callers
KERNEL_THREADS: ContextVar[int | None] = ContextVar("KERNEL_THREADS", default=None)


@contextmanager
def threads_for_kernels():
    """Inside, torch's own operators run on one thread, and kernels on as many as torch had outside.

    Waking a sleeping thread takes some 50 microseconds, longer than most operators on one number per Gaussian need
    alone; there are hundreds of those in a refinement step. (Threads that spin instead of sleeping wake at once, and
    slow everything tenfold as soon as another program wants the same core.) Another Python thread that begins inside
    finds torch on one thread, and so do its kernels.
    """
    count = torch.get_num_threads()
    token = KERNEL_THREADS.set(KERNEL_THREADS.get() or count)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
        KERNEL_THREADS.reset(token)


@contextmanager
def kernel_threads(*kernels):
    """Run `kernels` on torch's number of threads, and say so on stderr if they turn out to be compiling."""
    with ONE_AT_A_TIME:
        count = torch.get_num_threads()
        before = numba.get_num_threads()  # at its first call numba starts its threads, and may change torch's number
        torch.set_num_threads(count)
        workers = min(KERNEL_THREADS.get() or count, numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(workers)
        notice = None
        if not all(kernel.overloads for kernel in kernels):
            notice = threading.Timer(1.0, announce, [kernels])  # from the disk they are loaded sooner than that
            notice.daemon = True
            notice.start()
        try:
            yield workers
        finally:
            if notice:
                notice.cancel()
            numba.set_num_threads(before)


def announce(kernels):
    """Name the kernels that are not there yet."""
    if names := ", ".join(kernel.__name__ for kernel in kernels if not kernel.overloads):
        print(f"sa0lib: compiling {names} (once) ...", file=sys.stderr)


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


@intrinsic
def sum_lanes(typing_context, rows, count, out, row, column):
    """out[row, column + n] = sum of rows[n, :16] for n < count <= 16 (a literal); writes 16 floats, zeros after count.

    Adding 16 lanes of one vector takes four shuffles and four additions. Here two vectors are folded into one at a
    time, so that `count` sums share their shuffles: a third of the instructions.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context, builder, signature, arguments):
        rows_type, _, out_type = signature.args[:3]
        vector, i32 = ir.VectorType(ir.FloatType(), 16), ir.IntType(32)

        def place(array_type, array, *indices):
            struct = context.make_array(array_type)(context, builder, array)
            pointer = cgutils.get_item_pointer(context, builder, array_type, struct, list(indices))
            return builder.bitcast(pointer, vector.as_pointer())

        def index(n):
            return context.get_constant(types.intp, n)

        vectors = []
        for n in range(signature.args[1].literal_value):
            load = builder.load(place(rows_type, arguments[0], index(n), index(0)), align=64)
            vectors.append(load)
        for width in (8, 4, 2, 1):  # every vector holds sums of 16 / (2 width) rows, each in 2 width parts
            halves = [n for n in range(32) if n // width % 2 == 0], [n for n in range(32) if n // width % 2 == 1]
            masks = [ir.Constant(ir.VectorType(i32, 16), half) for half in halves]
            if len(vectors) % 2:
                vectors.append(ir.Constant(vector, [0.0] * 16))
            vectors = [
                builder.fadd(builder.shuffle_vector(a, b, masks[0]), builder.shuffle_vector(a, b, masks[1]))
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
        builder.store(vectors[0], place(out_type, arguments[2], *arguments[3:]), align=4)
        return context.get_dummy_value()

    return types.void(rows, count, out, types.intp, types.intp), generate
