"""NeRSemble's rig: its sixteen cameras, and what a participant's calibration folder says about them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from data_scripts.adapters.colour import MONOMIALS
from data_scripts.adapters.fields import field, numbers
from data_scripts.adapters.files import rigid, unique_json
from data_scripts.track.video import VideoInfo
from sa0lib.camera import Camera
from sa0lib.datasets.layout import integer

SERIALS = (  # in the order that gives the camera index its meaning
    "222200042", "222200044", "222200046", "222200040", "222200036", "222200048", "220700191", "222200041",
    "222200037", "222200038", "222200047", "222200043", "222200049", "222200039", "222200045", "221501007",
)  # fmt: skip
FRONT = SERIALS.index("222200037")
CALIBRATED = (2200, 3208)  # px, width and height of the pictures that the intrinsics belong to
ASPECT = 0.01  # relative difference of aspect at which a video is no longer a resized picture of the rig


@dataclass
class Rig:
    """What the calibration folder says."""

    K: Float[np.ndarray, "3 3"]  # shared by all cameras, px at `size`
    size: tuple[int, int]  # px, width and height
    w2c: dict[str, Float[np.ndarray, "4 4"]]  # serial -> world to camera, OpenCV axes
    colour: dict[str, Float[np.ndarray, "3 T"]]  # serial -> polynomial; empty if colours stay as they are


def intrinsics(value: object, where: str) -> Float[np.ndarray, "3 3"]:
    """A pinhole matrix. Raises ValueError, beginning with `where`, for anything else."""
    K = numbers(value, (3, 3), where)
    if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(K[[1, 2, 2, 2], [0, 0, 1, 2]] - (0, 0, 0, 1)).max() > 1e-6:
        raise ValueError(f"{where} is no matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]]")
    return K


def read_rig(folder: Path, raw_colour: bool = False) -> Rig:
    """The calibration of one participant. Raises FileNotFoundError; ValueError naming file and field."""
    path = folder / "camera_params.json"
    params = unique_json(path)
    K = intrinsics(field(params, "intrinsics", str(path)), f"{path}: intrinsics")
    sides = dict(zip(("width", "height"), CALIBRATED, strict=True))
    size = tuple(integer(params.get(name, side), 1, f"{path}: {name}") for name, side in sides.items())
    poses = field(params, "world_2_cam", str(path))
    if not isinstance(poses, dict):
        raise ValueError(f"{path}: world_2_cam must give a matrix for every serial")
    w2c = {serial: rigid(pose, f"{path}: world_2_cam.{serial}") for serial, pose in poses.items()}
    colour, path = {}, folder / "color_calibration.json"
    for serial, matrix in {} if raw_colour else unique_json(path).items():
        terms = len(matrix[0]) if isinstance(matrix, list) and matrix and isinstance(matrix[0], list) else 0
        if terms not in MONOMIALS:
            raise ValueError(f"{path}: {serial} has {terms} columns, a colour polynomial has one of {list(MONOMIALS)}")
        colour[serial] = numbers(matrix, (3, terms), f"{path}: {serial}")
    return Rig(K, size, w2c, colour)


def check_aspect(path: Path, found: tuple[int, int], wanted: tuple[int, int], what: str) -> None:
    """Raise ValueError, beginning with `path`, if a picture is no resized one of (width, height) `wanted`."""
    if abs(found[0] * wanted[1] / (found[1] * wanted[0]) - 1) > ASPECT:
        raise ValueError(
            f"{path} is {found[0]} x {found[1]} px, {what} {wanted[0]} x {wanted[1]}: "
            "only a resized picture fits, not a cropped or turned one"
        )


def camera(rig: Rig, serial: str, video: VideoInfo, motion: Float[np.ndarray, "4 4"], size: int) -> Camera:
    """The camera of a picture reduced to `size`; `motion` takes the calibration's world to the one of the codes."""
    viewmat = torch.from_numpy(rig.w2c[serial] @ np.linalg.inv(motion)).float()
    factor = size / max(video.width, video.height)
    return Camera(torch.from_numpy(rig.K).float(), viewmat, *rig.size).resized(
        round(video.width * factor), round(video.height * factor)
    )
