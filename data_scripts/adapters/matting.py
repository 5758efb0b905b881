"""Mattes for pictures that come without: by the tracker's segmentation network, or from a folder the reader fills.

The network runs in the tracker's own environment (`make track` creates it) through `data_scripts/track/detect.py`, the
mattes are then steadied in time and refined on the pictures as the tracker's are.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import label, maximum_filter

from data_scripts.adapters.fields import matte_box, read_matte
from data_scripts.adapters.frames import check_size
from data_scripts.track.choose import detect_frames
from data_scripts.track.matte import MATTE, crop, guided_filter, steady

BLACK = 2  # of 255: JPEG keeps a flat black at 0, hair in shadow has noise above this
REACH = 4  # px: a dark strand is no background


def from_folder(folder: Path, key: str, size: int) -> UInt8[np.ndarray, "S S"]:
    """`folder`/`key`.png as a matte.

    Raises FileNotFoundError; ValueError for a damaged or empty one, or one of another size or of zeros and ones.
    """
    path = folder / f"{key}.png"
    matte = read_matte(path)
    check_size(matte, (size, size), path)
    matte_box(np.asarray(matte), path)
    return np.asarray(matte)


def segment(
    frames: Callable[[], Iterable[UInt8[np.ndarray, "S S 3"]]], size: int, python: Path
) -> tuple[UInt8[np.ndarray, "N M M"], Bool[np.ndarray, " N"]]:
    """Mattes of consecutive square pictures at MATTE px, and in which of them a face was found: the others have none.

    Raises FileNotFoundError or RuntimeError if the network cannot be run.
    """
    found = detect_frames(frames(), size, size, python)
    kept = found["window"][:, 2] > 1  # a picture without a face has a window of 1 px
    square = np.array([0.0, 0.0, size])
    mattes = np.zeros((len(kept), MATTE, MATTE), np.uint8)
    for i, frame in enumerate(frames()):
        if kept[i]:
            guide = np.asarray(crop(frame, square, MATTE), np.float32) / 255
            soft = guided_filter(guide, steady(found["matte"], found["window"], square, i, kept))
            mattes[i] = np.rint(255 * soft)
    return mattes, kept


def cut_black(matte: UInt8[np.ndarray, "S S"], picture: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S"]:
    """The matte with nothing where a picture composited on black is: its own matte was zero there.

    That is, where it is black all around, and from there black to the picture's edge: not shadows inside the hair.
    """
    black = maximum_filter(picture.max(2), 2 * REACH + 1) <= BLACK  # [S, S]
    parts, _ = label(black)
    outer = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.where(black & np.isin(parts, outer), 0, matte).astype(np.uint8)
