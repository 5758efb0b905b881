"""Pictures and mattes as bytes: decoding with checks, and reduction by area averaging."""

import io
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

WIDE = re.compile("[IF]")  # Pillow's modes of 16 and 32 bits a channel


def decode(
    source: Path | bytes, mode: str, size: tuple[int, int], where: str, stated: str
) -> UInt8[np.ndarray, "C H W"]:
    """An encoded picture, from a file or from memory.

    Args:
        source: the file, or its bytes.
        mode: "RGB" for a picture, "L" for a matte.
        size: width and height in pixels that it must have.
        where: what errors call the picture.
        stated: what errors call the place where `size` is stated.

    Raises ValueError: it cannot be decoded, has more than 8 bits a channel, or is of another size; a matte has an
        alpha beside its grey, or is of zeros and ones.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            if file.size != size:  # known from the header: nothing of an enormous picture is decoded
                raise ValueError(
                    f"{where} is {file.width} x {file.height}, but {stated} says {size[0]} x {size[1]}: "
                    "K would be wrong; resize the picture or correct w, h, fl_x, fl_y, cx, cy"
                )
            check_bits(file, where)
            if mode == "L" and file.has_transparency_data:
                raise ValueError(f"{where} has mode {file.mode!r}, grey and alpha: save the matte alone, as 8-bit grey")
            picture = np.asarray(file.convert(mode))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # UnidentifiedImageError is an OSError
        raise ValueError(f"{where} cannot be decoded ({error}): re-run the tool that wrote it") from error
    if mode == "L":
        check_matte(picture, where)
    return np.array(np.atleast_3d(picture).transpose(2, 0, 1), order="C")


def check_bits(picture: Image.Image, where: str) -> None:
    """Raise ValueError, beginning with `where`, for more than 8 bits a channel: Pillow would clip them."""
    if WIDE.match(picture.mode):
        raise ValueError(f"{where} has mode {picture.mode!r}: save it with 8 bits a channel")


def check_matte(matte: UInt8[np.ndarray, "H W"], where: str) -> None:
    """Raise ValueError, beginning with `where`, for a matte of zeros and ones: the subject would vanish."""
    if matte.max() == 1:
        raise ValueError(f"{where}: greatest value 1: multiply by 255, a matte goes from 0 to 255")


def reduce(picture: UInt8[np.ndarray, "C H W"], size: tuple[int, int]) -> Float32[np.ndarray, "C h w"]:
    """Area averages on another grid (width, height), still in 0..255 and not rounded."""
    bands = [np.asarray(band, np.float32) for band in picture]  # float: 8-bit averages would round twice
    if picture.shape[:0:-1] != size:
        bands = [np.asarray(Image.fromarray(band).resize(size, Image.Resampling.BOX)) for band in bands]
    return np.stack(bands)


def resized(size: tuple[int, int], longer: int | None) -> tuple[int, int]:
    """Width and height of a picture whose longer side becomes `longer` pixels; None leaves it as it is."""
    if longer is None:
        return size
    factor = longer / max(size)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)
