"""No kernel reads or writes outside its arrays."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "rasterize_within_bounds.py"


def test_no_kernel_leaves_its_arrays_on_awkward_scenes(tmp_path):
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "3", "NUMBA_OPT": "1"}
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env={**os.environ, **checked})
    assert run.returncode == 0 and run.stdout.strip() == "all within bounds", run.stderr[-3000:] + run.stdout


def test_without_the_environment_variable_the_check_notices_that_it_is_blind(tmp_path):
    blind = {"NUMBA_BOUNDSCHECK": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env={**os.environ, **blind})
    assert run.returncode == 1 and "out of bounds unseen" in run.stderr
