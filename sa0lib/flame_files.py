"""The reader's own FLAME files, read without running anything that is inside them.

FLAME comes as a Python 2 pickle of numpy, scipy and chumpy objects. `sa0lib/safe_pickle.py` turns those into records
that remember what they would have been called with; here they become arrays, without any of the three being called.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float, Int

from sa0lib.safe_pickle import ARRAYS, read_records, records, to_array

VERTICES, FACES = 5023, 9976  # FLAME, all versions
UV_VERTICES = 5118  # its head_template


# Exact names, Python 2 and 3 spellings of the same thing, grouped by what this file does with their records.
_SPARSE = [
    (f"scipy.sparse.{prefix}{kind}", f"{kind}_{suffix}", kind)
    for kind in ("csc", "csr", "coo")
    for prefix in ("", "_")  # before and after scipy 1.8
    for suffix in ("matrix", "array")
]
_ADMITTED = ARRAYS | records(
    [
        ("copy_reg", "_reconstructor", "object"),
        ("copyreg", "_reconstructor", "object"),
        ("__builtin__", "object", "class"),
        ("builtins", "object", "class"),
        ("__builtin__", "set", "unread"),  # chumpy's list of what to recompute
        ("builtins", "set", "unread"),
        ("chumpy.ch", "Ch", "chumpy"),
        *_SPARSE,
    ]
)
# DECA's landmark file holds torch tensors in fields that are not read here: they stay shut.
_UNREAD_TENSORS = records(
    [
        ("torch._utils", "_rebuild_tensor_v2", "unread"),
        ("torch.storage", "_load_from_bytes", "unread"),
        ("collections", "OrderedDict", "unread"),
    ]
)


def _kind(value: Any) -> str:
    """What a record stands for; objects written the old way name their class in the first argument."""
    kind = getattr(value, "kind", "")
    return value.args[0].kind if kind == "object" else kind


def _array(value: Any) -> np.ndarray:
    """Numbers from the record of an array, of a chumpy wrapper around one, or of a sparse matrix."""
    kind = _kind(value)
    if kind == "chumpy":
        return _array(value.state["x"] if "x" in value.state else value.state["r"])
    if kind in ("csc", "csr", "coo"):
        return _dense(kind, value.state)
    return to_array(value)


def _dense(kind: str, state: dict) -> np.ndarray:
    """A sparse matrix as a full one. numpy checks every index; scipy would trust those of the file."""
    rows, cols = state["_shape"]
    shape, data = (rows, cols), _array(state["data"])
    if not 0 < rows * cols < 10**7:
        raise ValueError(f"a sparse matrix of {shape} is no joint regressor")
    if kind == "coo":
        places = [_array(c) for c in (state["coords"] if "coords" in state else (state["row"], state["col"]))]
    else:
        counts = np.diff(_array(state["indptr"]))
        if counts.sum() != len(data):
            raise ValueError("a sparse matrix whose parts do not fit together")
        major = np.repeat(np.arange(shape[kind == "csc"]), counts)
        places = [_array(state["indices"]), major] if kind == "csc" else [major, _array(state["indices"])]
    dense = np.zeros(shape)
    np.add.at(dense, tuple(places), data)
    return dense


def _field(fields: Any, key: str, path: Path) -> np.ndarray:
    if not isinstance(fields, dict) or key not in fields:
        raise ValueError(f"{path}: no {key!r} in it, so it is not the FLAME file expected here")
    try:
        return _array(fields[key])
    except Exception as error:
        raise ValueError(f"{path}: {key!r} cannot be read as an array ({error!r}); download the file again") from error


def _open(path: Path, what: str) -> IO[bytes]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. {what}")
    return path.open("rb")


def read_flame(path: Path | str) -> dict[str, np.ndarray]:
    """A FLAME model file (generic_model.pkl of 2020, flame2023.pkl, flame2023_Open.pkl) as plain arrays.

    Returns v_template [5023, 3] m, f [9976, 3] int, shapedirs [5023, 3, 400] (300 identity, then 100
    expression), posedirs [5023, 3, 36], J_regressor [5, 5023] dense, kintree_table [2, 5] (parents in row 0),
    weights [5023, 5].

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, a key is missing or has another shape; or (`RefusedGlobal`) the pickle asks for
            anything but arrays. Nothing in the file is ever run.
    """
    path = Path(path)
    with _open(path, "get FLAME from its makers, free after registration; OpenHead needs none") as file:
        fields = read_records(file, path, _ADMITTED)
    shapes = {
        "v_template": (VERTICES, 3),
        "f": (FACES, 3),
        "shapedirs": (VERTICES, 3, 400),
        "posedirs": (VERTICES, 3, 36),
        "J_regressor": (5, VERTICES),
        "kintree_table": (2, 5),
        "weights": (VERTICES, 5),
    }
    model = {key: _field(fields, key, path) for key in shapes}
    model["shapedirs"] = model["shapedirs"][:, :, :400]
    for key, shape in shapes.items():
        if model[key].shape != shape:
            raise ValueError(f"{path}: {key} is {model[key].shape}, FLAME has {shape}; is it a body or hand model?")
    model["f"] = model["f"].astype(np.int64)
    model["kintree_table"] = model["kintree_table"].astype(np.uint32).astype(np.int32).astype(np.int64)  # -1: the root
    return model


def read_template_uv(
    path: Path | str, faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "Nvt 2"], Int[np.ndarray, "F 3"]]:
    """UV chart of FLAME's head_template.obj: vt [5118, 2] in [0, 1], v up, and ft [9976, 3].

    `faces` are the model's: rows and corners of ft come back in their order, whatever the order in the file.

    Raises FileNotFoundError; ValueError if it is no triangle mesh with UV or has other triangles than the model.
    """
    path = Path(path)
    with _open(path, "head_template.obj is in FLAME's texture download") as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    try:
        vt = np.array([line.split()[1:3] for line in lines if line.startswith("vt ")], np.float64).reshape(-1, 2)
        corners = [line.split()[1:] for line in lines if line.startswith("f ")]
        pairs = np.array([[corner.split("/")[:2] for corner in face] for face in corners], np.int64)  # [F, 3, 2]
        mesh, ft = np.moveaxis(pairs.reshape(len(corners), 3, 2) - 1, 2, 0)
    except ValueError as error:
        raise ValueError(f"{path}: not a triangle mesh with UV coordinates ({error})") from error
    if len(vt) != UV_VERTICES or (ft.size and (ft.min() < 0 or ft.max() >= len(vt))):
        raise ValueError(f"{path}: {len(vt)} UV vertices, FLAME's head_template.obj has {UV_VERTICES}")
    if not (vt.min() >= 0 and vt.max() <= 1):
        raise ValueError(f"{path}: UV coordinates leave the unit square")
    # Both lists with each triangle's smallest vertex first, then sorted: equal triangles meet, winding kept.
    (turn_a, sort_a), (turn_b, sort_b) = _canonical(mesh), _canonical(np.asarray(faces))
    rows = np.arange(len(mesh))[:, None]
    if len(mesh) != len(faces) or not np.array_equal(mesh[rows, turn_a][sort_a], faces[rows, turn_b][sort_b]):
        raise ValueError(f"{path}: its triangles are not those of the FLAME model")
    aligned = np.empty_like(ft)
    aligned[sort_b[:, None], turn_b[sort_b]] = ft[sort_a[:, None], turn_a[sort_a]]
    return vt, aligned


def _canonical(faces: Int[np.ndarray, "F 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Which corners to take in which order so that the smallest comes first, and the order that sorts the rows."""
    turn = (faces.argmin(1)[:, None] + np.arange(3)) % 3  # [F, 3]
    return turn, np.lexsort(np.take_along_axis(faces, turn, 1).T[::-1])


def read_landmarks(path: Path | str) -> tuple[Int[np.ndarray, "68"], Float[np.ndarray, "68 3"]]:
    """The 68-point embedding of a landmark_embedding.npy (DECA's, VHAP's): face indices and barycentric weights.

    Raises FileNotFoundError; ValueError as `read_flame` does.
    """
    path = Path(path)
    with _open(path, "It comes with DECA and with VHAP") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](file)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: not a .npy file ({error})") from error
        if not dtype.hasobject or shape != ():
            raise ValueError(f"{path}: holds a plain array, not a dictionary of landmark embeddings")
        record = read_records(file, path, _ADMITTED | _UNREAD_TENSORS)
    try:
        fields = record.state[4][0]  # an array of one object: the dictionary
    except (AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: holds no dictionary of landmark embeddings") from error
    face = _field(fields, "full_lmk_faces_idx", path).reshape(-1)
    bary = _field(fields, "full_lmk_bary_coords", path).reshape(-1, 3)
    if len(face) < 68 or len(face) != len(bary):
        raise ValueError(f"{path}: full_lmk_* name {len(face)} faces and {len(bary)} points; 68 are needed")
    return face[:68].astype(np.int64), bary[:68]
