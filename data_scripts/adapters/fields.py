"""Checks that the adapters share: every error names the file and the field."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sa0lib.datasets.layout import single
from sa0lib.datasets.pictures import check_bits, check_matte


def numbers(value: Any, shape: tuple[int, ...], where: Path | str) -> Float[np.ndarray, "..."]:
    """`value` as float64 of this shape. Raises ValueError, beginning with `where`, if it is anything else or NaN."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind not in "fiu" or array.shape != tuple(shape):
        found = f"{list(array.shape)} of {array.dtype}" if array.dtype.kind in "fiu" else "something else"
        raise ValueError(f"{where} must be numbers of shape {list(shape)}, not {found}")
    array = array.astype(np.float64)
    if not np.isfinite(single(array)).all():
        raise ValueError(f"{where} holds NaN or infinity: the fit failed there; track again or take the frame out")
    return array


def rotation(matrix: Float[np.ndarray, "3 3"], where: Path | str) -> Float[np.ndarray, "3 3"]:
    """The matrix itself. Raises ValueError, beginning with `where`, if it is no rotation."""
    off = np.abs(matrix @ matrix.T - np.eye(3)).max()
    if off > 1e-3 or np.linalg.det(matrix) < 0:
        raise ValueError(f"{where} holds no rotation: R R^T is off by {off:.3g}, det {np.linalg.det(matrix):.3g}")
    return matrix


def field(entry: Any, name: str, where: Path | str) -> Any:
    """`entry[name]`. Raises ValueError, beginning with `where`, if there is none."""
    if not isinstance(entry, dict) or name not in entry:
        raise ValueError(f"{where} has no {name!r}: it was written by another tool or another version of it")
    return entry[name]


def read_header(path: Path) -> Image.Image:
    """A PNG or JPEG of which the size and the bands are known, and no pixel is read. Raises as `read_picture`."""
    try:
        picture = Image.open(path, formats=("PNG", "JPEG"))
        picture.close()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: copy the whole dataset") from error
    except Exception as error:
        raise ValueError(f"{path} is no PNG or JPEG ({error}): take it from its source again") from error
    check_bits(picture, str(path))
    return picture


def read_picture(source: Path | bytes, where: str = "") -> Image.Image:
    """A whole PNG or JPEG from a file, or from bytes that `where` names.

    Raises FileNotFoundError; ValueError if it is cut off, damaged, of another format or of more than 8 bits a channel.
    """
    where = where or str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG", "JPEG")) as file:
            file.load()
            picture = file.copy()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where} is missing: copy the whole dataset") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError and several of its own
        raise ValueError(
            f"{where} cannot be decoded as PNG or JPEG ({error}): take it from its source again"
        ) from error
    check_bits(picture, where)
    return picture


def read_matte(path: Path) -> Image.Image:
    """A matte in a file of its own: the alpha if there is one, else the grey. Raises as `read_picture`."""
    picture = read_picture(path)
    return picture.getchannel("A") if "A" in picture.getbands() else picture.convert("L")


def matte_box(matte: UInt8[np.ndarray, "H W"], where: Path | str) -> tuple[float, float, float, float]:
    """Bounding box x0 y0 x1 y1 in px of a matte, for datasets without a face box.

    Raises ValueError if it is empty, or of zeros and ones.
    """
    check_matte(matte, str(where))
    rows, columns = np.flatnonzero((matte > 127).any(1)), np.flatnonzero((matte > 127).any(0))
    if not len(rows):
        raise ValueError(f"{where}: the matte is empty, nobody is to be seen; take the frame out")
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
