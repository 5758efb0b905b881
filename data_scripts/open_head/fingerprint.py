"""Is this the model that everybody has? A check that does not depend on the machine that built it.

Integer arrays are compared by sha256. Floating-point arrays differ in their last digits between machines, so they are
compared by a few fixed random projections, within a tolerance: a flipped, swapped or missing direction shows at once.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy import ndarray

FILE = Path(__file__).with_name("fingerprint.json")
EXACT = ("f", "ft", "kintree_table", "region", "region_names", "arkit_names")
MODEL = (
    "v_template", "shapedirs", "posedirs", "J_regressor", "weights", "arkit_to_expr", "arkit_to_jaw", "arkit_to_eyes",
)  # fmt: skip
PAINT = ("vertex_color", "vt")
# Relative to an array's root mean square. vt comes out of an optimisation, colours out of visibility tests.
TOLERANCE = dict.fromkeys(MODEL, 1e-4) | {"vertex_color": 2e-2, "vt": 1e-3}
PROJECTIONS = 6


def fingerprint(arrays: dict[str, ndarray]) -> dict:
    """Shapes, hashes of the exact arrays and projections of the others."""
    exact = {key: hashlib.sha256(_canonical(arrays[key])).hexdigest() for key in EXACT}
    return {
        "shape": {key: list(arrays[key].shape) for key in (*EXACT, *MODEL, *PAINT)},
        "sha256": exact,
        "projections": {key: _projections(arrays[key]) for key in (*MODEL, *PAINT)},
    }


def differences(arrays: dict[str, ndarray], expected: dict) -> list[str]:
    """One line for every array that is not the one expected."""
    lines = []
    for key, shape in expected["shape"].items():
        if key not in arrays:
            lines.append(f"{key}: missing")
        elif list(arrays[key].shape) != shape:
            lines.append(f"{key}: shape {list(arrays[key].shape)}, expected {shape}")
        elif key in expected["sha256"]:
            if hashlib.sha256(_canonical(arrays[key])).hexdigest() != expected["sha256"][key]:
                lines.append(f"{key}: other values than expected")
        else:
            wanted = np.array(expected["projections"][key])
            off = np.abs(_projections(arrays[key]) - wanted).max() / wanted[-1]
            if not off <= TOLERANCE[key]:
                lines.append(f"{key}: off by {off:.1e} of its size, allowed {TOLERANCE[key]:.0e}")
    return lines


def load_expected() -> dict:
    """The committed fingerprint."""
    return json.loads(FILE.read_text())


def basis_id(expected: dict) -> str:
    """Short name of the basis that codes belong to; the same on every machine that passes the check."""
    text = json.dumps({key: expected["projections"][key] for key in MODEL}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _canonical(array: ndarray) -> bytes:
    """The same bytes whatever integer or string type the array is kept in."""
    if array.dtype.kind == "U":
        return "\n".join(array.tolist()).encode()
    return np.ascontiguousarray(array, dtype="<i8").tobytes()


def _projections(array: ndarray) -> list[float]:
    """Products with fixed random vectors of unit variance, over sqrt(size), then the root mean square."""
    flat = np.asarray(array, np.float64).ravel()
    rng = np.random.default_rng(len(flat))
    values = [float(flat @ rng.standard_normal(len(flat)) / np.sqrt(len(flat))) for _ in range(PROJECTIONS)]
    return [float(f"{value:.9g}") for value in (*values, np.sqrt(np.mean(flat**2)))]
