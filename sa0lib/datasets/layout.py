"""Names and checks that the reader and the writer of a sequence share.

The layout is the one that VHAP writes and GaussianAvatars reads:

    transforms_{train,val,test}.json   NeRF style, camera-to-world with OpenGL axes, one entry per picture
    images/TTTTT_CC.png                timestep, camera
    fg_masks/TTTTT_CC.png              matte, 8-bit grey
    flame_param/TTTTT.npz              shape, expr, rotation, neck_pose, jaw_pose, eyes_pose, translation
    canonical_flame_param.npz          the same keys: the subject's shape, neutral, jaw open by 0.3 rad
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sa0lib.head import FLAME_FILES, WIDTHS

SPLITS = ("train", "val", "test")

# Head.forward's keyword -> key in the npz
KEYS = {
    "shape": "shape",
    "expr": "expr",
    "rotation": "rotation",
    "neck": "neck_pose",
    "jaw": "jaw_pose",
    "eyes": "eyes_pose",
    "translation": "translation",
}

SOURCES = ("OpenHead", *FLAME_FILES.values())  # what `codes_basis` may begin with
LARGEST = 2**31 - 1  # of the integers in a file


def inside(root: Path, relative: str, field: str) -> Path:
    """`root/relative`, refusing to leave `root`. Raises ValueError naming the field."""
    try:
        path = (root / relative).resolve()
    except (ValueError, RuntimeError) as error:  # a zero byte, links in a circle
        raise ValueError(f"{root}: {field} {relative!r} is no path ({error}): use that of a file here") from error
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"{root}: {field} {relative!r} points outside the dataset; copy the file in and use its path")
    return path


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of json.loads. Raises ValueError for a key that stands twice: Python would take the last."""
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice in one object; keep the right one")
    return dict(pairs)


def integer(value: Any, least: int, where: str) -> int:
    """`value` if it is a whole number from `least` to LARGEST. Raises ValueError beginning with `where`."""
    whole = type(value) is int or (type(value) is float and value.is_integer())  # some tools write 512.0
    if not whole or not least <= value <= LARGEST:
        raise ValueError(f"{where} must be an integer from {least} to {LARGEST}, not {value!r:.40}")
    return int(value)


def single(value: np.ndarray) -> np.ndarray:
    """`value` as float32; what is too large for it becomes infinite, for the caller to find."""
    with np.errstate(over="ignore"):
        return value.astype(np.float32)


def check_face_box(box: Sequence[float], size: tuple[int, int], where: str) -> None:
    """Raise ValueError, beginning with `where`, if a box in px is empty or beside the picture of `size`."""
    x0, y0, x1, y1 = map(float, box)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"{where} must be x0 y0 x1 y1 with x0 < x1 and y0 < y1, not {[x0, y0, x1, y1]}")
    if not (x0 < size[0] and y0 < size[1] and x1 > 0 and y1 > 0):
        raise ValueError(f"{where} {[x0, y0, x1, y1]} is beside the picture of {size[0]} x {size[1]} px: not in px?")


def read_params(path: Path) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """One flame_param file: (Head.forward's keywords -> [1, *] float32, every other array in it).

    Raises FileNotFoundError for a missing file; ValueError for a damaged one, a missing or wrongly sized key, NaN.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: re-run the tool that wrote this dataset")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged archive
        raise ValueError(f"{path} is damaged or no npz ({error}): re-run the tool that wrote it") from error
    params = {}
    for name, key in KEYS.items():
        count = WIDTHS[name]
        if key not in arrays:
            raise ValueError(f"{path} has no {key!r}: a flame_param file needs {list(KEYS.values())}")
        value = arrays.pop(key)
        if value.size != count or value.dtype.kind not in "fiu":
            raise ValueError(f"{path}: {key} must hold {count} numbers, not {value.shape} of {value.dtype}")
        value = single(value)
        if not np.isfinite(value).all():
            raise ValueError(f"{path}: {key} holds NaN or infinity: the fit of this frame failed, leave it out")
        params[name] = torch.from_numpy(value.reshape(1, count))
    return params, arrays
