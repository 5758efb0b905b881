"""A thin, readable library under the open reproduction of SpatialAvatar-0."""

import ctypes
import os

# torch and numba bring OpenMP threads of their own. By default waiting threads spin, and beside any other busy program
# a refinement step then takes many times longer. Read when OpenMP starts, so it stands before any import of torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# glibc gives the memory of freed arrays back to the system and gets it again page by page at the next call: more than a
# third of the time of a picture of 256 pixels. Keep up to half a gigabyte, and ask the system directly only for arrays
# of more than 32 MiB (the most that glibc accepts here).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
if hasattr(ctypes.CDLL(None), "mallopt"):
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**29)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**25)
