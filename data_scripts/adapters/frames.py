"""Subjects, splits and pictures: what the adapters of per-subject datasets share."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from data_scripts.adapters.fields import read_header
from sa0lib.datasets.manifest import check_name
from sa0lib.head import WIDTHS


def subjects(source: Path, marker: str) -> dict[str, Path]:
    """Folders that hold `marker`: `source` itself, named "", or else those right below it, by name.

    Raises FileNotFoundError if there is none; ValueError for a name that no sequence in a collection can have.
    """
    if (source / marker).exists():
        return {"": source}
    found = {path.parent.name: path.parent for path in sorted(source.glob(f"*/{marker}"))}
    if not found:
        raise FileNotFoundError(f"{source}: no {marker} in it, nor in the folders right below it")
    for name in found:
        check_name(name, f"{source}: rename the folder")
    return found


def hold_out(count: int, test_frames: int, where: Path) -> list[str]:
    """Split of every frame: the last `test_frames` are "test". Raises ValueError if none would be left to train on."""
    if not 0 <= test_frames < count:
        raise ValueError(f"{where}: {test_frames} of {count} frames cannot be held out; give another --test-frames")
    return ["train"] * (count - test_frames) + ["test"] * test_frames  # never [:-0], which would be nothing


def summary(splits: list[str]) -> str:
    """One line for a report."""
    return f"{splits.count('train')} train, {splits.count('test')} test frames"


def check_picture(path: Path, mattes: Path) -> None:
    """Is there a picture, and its matte: inside it, or under the same name in `mattes`? Reads no more than the header.

    Raises FileNotFoundError naming what is missing; ValueError for what is no picture.
    """
    if "A" not in read_header(path).getbands() and not (mattes / path.name).is_file():
        raise FileNotFoundError(f"{mattes / path.name} is missing, and {path.name} has no alpha: there is no matte")


def check_size(picture: Image.Image, size: tuple[int, int], where: Path | str) -> None:
    """Raise ValueError, beginning with `where`, if a picture is not of `size` (width, height)."""
    if picture.size != size:
        raise ValueError(
            f"{where} is {picture.width} x {picture.height} px, not {size[0]} x {size[1]}: K would be wrong"
        )


def split_alpha(picture: Image.Image) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"] | None]:
    """Colours as they are stored, and the alpha if there is one."""
    alpha = np.asarray(picture.getchannel("A")) if "A" in picture.getbands() else None
    return np.asarray(picture.convert("RGB")), alpha


def head_codes(**codes: Float[np.ndarray, " _"]) -> dict[str, Float[Tensor, "1 _"]]:
    """Head.forward's keywords from the codes that a tracker has; what is shorter or missing is filled with zeros."""
    params = {name: torch.zeros(1, width) for name, width in WIDTHS.items()}
    for name, code in codes.items():
        params[name][0, : len(code)] = torch.from_numpy(np.asarray(code, np.float32))
    return params
