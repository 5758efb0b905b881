"""Files of exactly FLAME's format, with made-up numbers: what the tests read in place of the gated originals.

Same keys, sizes and types; written as Python 2 wrote them (raw byte strings, old module names), with the arrays in
chumpy wrappers and the joint regressor sparse. The mesh is an egg with FLAME's lip vertices where its mouth would be.
"""

import pickle
import struct
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import numpy as np
import scipy.sparse

from sa0lib.teeth import LOWER_LIP, UPPER_LIP

RINGS, COLUMNS = 58, 86  # 58 x 86 + 2 poles: 9,976 triangles on 4,990 vertices, and 33 vertices to spare
VERTICES, UV_VERTICES = 5023, 5118
MOUTH_RING = 38  # of the upper lip line; the lower one lies three rings below


class Ch:
    """Pickles as chumpy's wrapper does."""

    def __init__(self, x):
        self.x = x
        self._dirty_vars, self._itr, self.terms = {"x"}, None, []


Ch.__module__ = "chumpy.ch"


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings as they are, and the module names of its time."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, data):
        self.write(b"T" + struct.pack("<i", len(data)) + data)  # BINSTRING, latin1 to Python 3
        self.memoize(data)

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core").replace("scipy.sparse._", "scipy.sparse.")
        module = {"builtins": "__builtin__", "copyreg": "copy_reg"}.get(module, module)
        self.write(f"c{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[bytes] = save_bytes
    dispatch[FunctionType] = dispatch[BuiltinFunctionType] = save_global


def python2_pickle(value, path: Path, protocol: int = 2) -> Path:
    with path.open("wb") as file:
        Python2Pickler(file, protocol).dump(value)
    return path


def _egg() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [5023, 3] m, faces [9976, 3] outwards, and the ring-and-column grid of vertex numbers [58, 86]."""
    theta = np.pi * (np.arange(RINGS) + 1) / (RINGS + 1)  # from the top
    phi = 2 * np.pi * (np.arange(COLUMNS) - COLUMNS // 2) / COLUMNS  # 0 is the front, +z; positive is +x
    xyz = np.stack(
        [0.075 * np.outer(np.sin(theta), np.sin(phi)),
         np.repeat(0.12 * np.cos(theta)[:, None], COLUMNS, 1),
         0.095 * np.outer(np.sin(theta), np.cos(phi))], -1)  # fmt: skip
    grid = np.full((RINGS, COLUMNS), -1)
    middle = COLUMNS // 2
    for ring, lip in ((MOUTH_RING, UPPER_LIP), (MOUTH_RING + 3, LOWER_LIP)):
        grid[ring, middle - 7 : middle + 8] = lip
    free = np.setdiff1d(np.arange(VERTICES), grid)
    grid[grid < 0] = free[: (grid < 0).sum()]
    top, bottom = np.setdiff1d(np.arange(VERTICES), grid)[:2]
    vertices = np.zeros((VERTICES, 3))
    vertices[grid] = xyz
    vertices[top], vertices[bottom] = (0, 0.12, 0), (0, -0.12, 0)
    faces = _triangles(grid, np.roll(grid, -1, 1), np.full(COLUMNS, top), np.full(COLUMNS, bottom))
    return vertices, faces, grid


def _triangles(left, right, top, bottom) -> np.ndarray:
    """Both triangles of every quad and the two caps: `left` and `right` are the sides of a column, [58, 86]."""
    a, b, c, d = left[:-1], left[1:], right[1:], right[:-1]
    quads = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    caps = [np.stack([top, left[0], right[0]], -1), np.stack([bottom, right[-1], left[-1]], -1)]
    return np.concatenate(quads + caps)


def flame_model(seed: int = 0) -> dict[str, np.ndarray]:
    """FLAME's arrays, float64, as `read_flame` should return them."""
    rng = np.random.default_rng(seed)
    vertices, faces, _ = _egg()
    regressor = np.zeros((5, VERTICES))
    for j in range(5):
        regressor[j, rng.choice(VERTICES, 20, replace=False)] = 1 / 20
    weights = rng.random((VERTICES, 5))
    return {
        "v_template": vertices,
        "f": faces,
        "shapedirs": 1e-3 * rng.standard_normal((VERTICES, 3, 400)),
        "posedirs": 1e-3 * rng.standard_normal((VERTICES, 3, 36)),
        "J_regressor": regressor,
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": weights / weights.sum(1, keepdims=True),
    }


def write_flame(model: dict[str, np.ndarray], path: Path, protocol: int = 2) -> Path:
    """As the official files: chumpy around the directions, sparse regressor, uint32 tables, strings beside them."""
    fields = dict(model)
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        fields[key] = Ch(model[key])
    fields["J_regressor"] = scipy.sparse.csc_matrix(model["J_regressor"])
    for key in ("f", "kintree_table"):
        fields[key] = model[key].astype(np.uint32)
    fields |= {"J": np.zeros((5, 3)), "bs_style": "lbs", "bs_type": "lrotmin"}
    return python2_pickle(fields, path, protocol)


def uv_chart() -> tuple[np.ndarray, np.ndarray]:
    """vt [5118, 2] and ft [9976, 3] of the egg cut open at the back, rows as in `flame_model()["f"]`."""
    u, v = np.meshgrid(np.linspace(0.02, 0.98, COLUMNS + 1), np.linspace(0.95, 0.05, RINGS))
    vt = np.full((UV_VERTICES, 2), 0.5)
    number = np.arange(RINGS * (COLUMNS + 1)).reshape(RINGS, COLUMNS + 1)
    vt[: number.size] = np.stack([u, v], -1).reshape(-1, 2)
    top, bottom = number.size, number.size + 1
    vt[top], vt[bottom] = (0.5, 0.98), (0.5, 0.02)
    ft = _triangles(number[:, :-1], number[:, 1:], np.full(COLUMNS, top), np.full(COLUMNS, bottom))
    return vt, ft


def write_template(model: dict[str, np.ndarray], path: Path, shuffle: bool = False) -> Path:
    """head_template.obj; `shuffle` lists the triangles in another order, each from another corner."""
    vt, ft = uv_chart()
    faces = model["f"]
    if shuffle:
        rng = np.random.default_rng(0)
        order, turn = rng.permutation(len(faces)), (rng.integers(0, 3, (len(faces), 1)) + np.arange(3)) % 3
        faces, ft = np.take_along_axis(faces[order], turn, 1), np.take_along_axis(ft[order], turn, 1)
    lines = ["mtllib head_template.mtl"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in model["v_template"]]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in vt]
    corners = np.stack([faces, ft], -1) + 1  # [9976, 3, 2]
    lines += ["f " + " ".join(f"{i}/{t}" for i, t in face) for face in corners.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


def landmark_embedding(seed: int = 0) -> dict[str, np.ndarray]:
    """The two fields of a landmark_embedding.npy that are read, as that file shapes them."""
    rng = np.random.default_rng(seed)
    bary = rng.random((1, 68, 3))
    return {
        "full_lmk_faces_idx": rng.integers(0, 9976, (1, 68)),
        "full_lmk_bary_coords": bary / bary.sum(-1, keepdims=True),
    }
