"""Which of Mitsuba's variants to photograph with.

`llvm_ad_rgb` compiles each scene to vector code: pictures of one scene then come two to three times faster, but the
first costs some seconds of compilation. It needs an LLVM library (Debian: libllvm19) that DrJit finds by itself or
through DRJIT_LIBLLVM_PATH, and some releases of that library end the whole process. So a child process tries first.
"""

import subprocess
import sys
from functools import lru_cache

PAYS = 2_000_000  # light paths through one scene from where compiling pays
TRIAL = """
import mitsuba as mi
mi.set_variant("llvm_ad_rgb")
scene = mi.cornell_box()
scene["sensor"]["film"] |= {"width": 8, "height": 8}
assert float(mi.TensorXf(mi.render(mi.load_dict(scene), spp=2)).array[0]) >= 0
"""


@lru_cache(maxsize=1)
def llvm_works() -> bool:
    """Does a child process get a picture out of `llvm_ad_rgb`?"""
    try:
        return subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, timeout=120).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def best_variant(paths: int) -> str:
    """The faster variant for this many light paths through one scene."""
    return "llvm_ad_rgb" if paths >= PAYS and llvm_works() else "scalar_rgb"
