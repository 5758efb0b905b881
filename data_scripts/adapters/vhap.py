"""Reading the folder that VHAP's exporter writes: codes, and where its world lies in the calibration's.

VHAP tracks in a world whose axes are the mean of the cameras' axes, and its exporter then subtracts the mean of the
translations. Neither motion is stated in the files. But the export holds camera poses, and the same cameras' poses in
the calibration differ from them by exactly that motion.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_scripts.adapters.fields import field, numbers
from data_scripts.adapters.files import rigid, unique_json
from sa0lib.camera import from_opengl_c2w
from sa0lib.datasets.layout import inside, read_params

BASES = ("FLAME 2023", "FLAME 2020", "FLAME 2023 Open")  # VHAP's default first
SPREAD = 1e-3  # largest difference between the motions that single cameras give


@dataclass
class Export:
    """What is used of an export."""

    basis: str  # owner of the codes
    params: dict[int, dict[str, Float[Tensor, "1 _"]]]  # number in VHAP's extraction -> Head.forward's keywords
    motion: Float[np.ndarray, "4 4"]  # from the calibration's world to that of the codes
    static_offset: Float[np.ndarray, "1 V 3"] | None  # m on the template; None if zero everywhere

    def add_offset(self, root: Path) -> None:
        """Put the offset, which is no code, beside the codes of a written sequence, where its reader looks for it."""
        if self.static_offset is None:
            return
        for path in [*(root / "flame_param").glob("*.npz"), root / "canonical_flame_param.npz"]:
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
            np.savez(path, **arrays, static_offset=self.static_offset)


def read_export(folder: Path, basis: str, w2c: dict[str, Float[np.ndarray, "4 4"]]) -> Export:
    """An export whose cameras are among `w2c` (world to camera of the calibration, OpenCV axes).

    Raises FileNotFoundError for a missing file; ValueError naming file and field for a damaged one, for NaN, an unknown
    or another basis than `basis`, moving offsets, or cameras that are not those of the calibration.
    """
    if basis not in BASES:
        raise ValueError(f"unknown FLAME version {basis!r}; codes may belong to {', '.join(BASES)}")
    paths = [p for p in [folder / "transforms.json"] if p.is_file()]
    paths = paths or [p for s in ("train", "val", "test") if (p := folder / f"transforms_{s}.json").is_file()]
    if not paths:
        raise FileNotFoundError(f"{folder}: no transforms*.json; give the folder of VHAP's export_as_nerf_dataset")
    files, motions = {}, {}
    for path in paths:
        frames = field(unique_json(path), "frames", str(path))
        if not isinstance(frames, list):
            raise ValueError(f"{path}: frames is no list")
        for i, frame in enumerate(frames):
            where = f"{path}: frame {i}"
            number, serial = str(field(frame, "timestep_id", where)), str(field(frame, "camera_id", where))
            if not number.isdecimal():
                raise ValueError(f"{where}, timestep_id {number!r} is not a number as VHAP writes it")
            if serial not in w2c:
                raise ValueError(f"{where}, camera_id {serial!r} is not in the calibration")
            relative = field(frame, "flame_param_path", where)
            if not isinstance(relative, str):
                raise ValueError(f"{where}, flame_param_path must be a path in quotes, not {relative!r}")
            if files.setdefault(int(number), relative) != relative:
                raise ValueError(f"{where}, two flame_param files for timestep_id {number}")
            if serial not in motions:
                pose = field(frame, "transform_matrix", where)
                c2w = torch.from_numpy(rigid(pose, f"{where}, transform_matrix"))
                motions[serial] = np.linalg.inv(from_opengl_c2w(c2w).numpy()) @ w2c[serial]
    if not files:
        raise ValueError(f"{paths[0]}: frames is empty")
    motion = next(iter(motions.values()))
    spread = {serial: float(np.abs(m - motion).max()) for serial, m in motions.items()}
    if max(spread.values()) > SPREAD:
        raise ValueError(
            f"{paths[0]}: transform_matrix of {max(spread, key=spread.get)} differs from the calibration otherwise "
            f"than that of {next(iter(motions))} does: the export was made with another calibration or participant"
        )
    params, offset = {}, None
    for number, relative in files.items():
        path = inside(folder, relative, "flame_param_path")
        params[number], others = read_params(path)
        stated = str(others.get("codes_basis", basis))
        if stated != basis:
            raise ValueError(f"{path}: codes_basis is {stated!r}, not {basis!r}: bases must not be mixed, give --basis")
        if np.any(others.get("dynamic_offset", 0)):
            raise ValueError(f"{path}: dynamic_offset is not zero; track without per-frame offsets")
        if np.any(others.get("static_offset", 0)):
            raw = others["static_offset"]
            offset = numbers(raw, (1, raw.shape[-2], 3) if raw.ndim > 1 else (1, 1, 3), f"{path}: static_offset")
    return Export(basis, params, motion, offset if offset is None else offset.astype(np.float32))
