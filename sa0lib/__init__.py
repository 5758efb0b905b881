"""A thin, readable library under the open reproduction of SpatialAvatar-0."""

import os

# torch and numba bring OpenMP threads of their own. By default waiting threads spin, and beside any other busy program
# a refinement step then takes many times longer. Read when OpenMP starts, so it stands before any import of torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
