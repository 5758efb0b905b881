"""Writer of a sequence on disk (layout: `sa0lib/datasets/layout.py`)."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from sa0lib.camera import Camera, to_opengl_c2w
from sa0lib.datasets.layout import KEYS, LARGEST, SPLITS, check_face_box
from sa0lib.datasets.pictures import check_matte
from sa0lib.head import WIDTHS

SEQUENCE = "flame_param"  # tells a sequence (transforms_train.json does not: INSTA's originals have one too)
CANONICAL_JAW = 0.3  # rad: VHAP opens the canonical jaw so that the mouth's inside is seen


@dataclass
class Record:
    """One picture to be written."""

    image: UInt8[np.ndarray, "H W 3"]  # with its background
    mask: UInt8[np.ndarray, "H W"]  # matte, 255 = subject
    camera: Camera
    params: dict[str, Tensor]  # Head.forward's keywords, any shape that holds the right number of values
    face_box: tuple[float, float, float, float]  # px x0 y0 x1 y1
    split: str  # "train", "val" or "test"
    timestep: int
    camera_index: int = 0
    extra: dict = field(default_factory=dict)  # further JSON values for this entry of transforms_*.json


def check_replaceable(path: Path | str, marker: str = SEQUENCE) -> None:
    """Raise FileExistsError if `path` holds something other than an earlier dataset, which has `marker` in it.

    Likewise if a sequence would come to lie within another one, or be lost with the one around it.
    """
    path = Path(path)
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (path / marker).exists():
        raise FileExistsError(f"{path} exists and is no dataset: choose another folder, nothing was changed")
    for around in path.resolve().parents:
        if (around / SEQUENCE).exists():
            raise FileExistsError(f"{path} lies within the sequence {around}: choose a folder beside it")
    for within in path.rglob(SEQUENCE) if (path / SEQUENCE).exists() else ():
        if within.parent != path:
            raise FileExistsError(f"{path} has another sequence in it, {within.parent}: move that out, or it is lost")


@contextmanager
def whole_folder(path: Path | str, marker: str = SEQUENCE) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block succeeds, and vanishes when it fails.

    Raises FileExistsError before any work if `path` holds something other than an earlier dataset, as `marker` tells.
    """
    path = Path(path)
    check_replaceable(path, marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    part.chmod(0o755)  # mkdtemp makes it private to the user
    try:
        yield part
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.replace(path, old)
            os.replace(part, path)
            shutil.rmtree(old)
        else:
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_sequence(root: Path, records: Iterable[Record], basis: str) -> None:
    """Write pictures, mattes, codes and the three transforms files into `root` (use `whole_folder` around it).

    `records` may be a generator: pictures are written as they come. `basis` is `Head.basis`, the owner of the
    codes. Shape codes of the first record are the subject's. Raises ValueError if a record's picture, matte and
    camera differ in size, if a value is of the wrong type or width or not finite, if a matte is of zeros and ones, if a
    face box is empty or beside the picture, if two records have the same timestep and camera or one timestep and
    different codes, or if there is no record.
    """
    for folder in ("images", "fg_masks", "flame_param"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[dict]] = {split: [] for split in SPLITS}
    codes: dict[int, dict[str, np.ndarray]] = {}  # by timestep: all cameras share one file
    shape, shown = None, set()
    with ThreadPoolExecutor(2) as pool:
        jobs = []
        for record in records:
            _check(record)
            if (record.timestep, record.camera_index) in shown:
                raise ValueError(f"{_where(record)} comes twice: number timesteps and cameras apart")
            shown.add((record.timestep, record.camera_index))
            entry = _entry(record)
            jobs.append(pool.submit(_save_pictures, root, entry, record.image, record.mask))
            if len(jobs) > 8:  # pictures in flight: a generator must not run ahead of the disk
                jobs.pop(0).result()
            params = {name: np.asarray(record.params[name], np.float32).flatten() for name in WIDTHS}
            if record.timestep not in codes:
                _save_params(root / entry["flame_param_path"], params, basis)
            for name, value in codes.setdefault(record.timestep, params).items():
                if not np.array_equal(value, params[name]):
                    raise ValueError(f"{_where(record)}: {name} differs from another camera's, but they share a file")
            shape = record.params["shape"] if shape is None else shape
            splits[record.split].append(entry)
        for job in jobs:
            job.result()
    if shape is None:
        raise ValueError(f"{root}: no frame to write")
    canonical = {name: torch.zeros(WIDTHS[name]) for name in KEYS} | {"shape": shape}
    canonical["jaw"] = torch.tensor([CANONICAL_JAW, 0.0, 0.0])
    _save_params(root / "canonical_flame_param.npz", canonical, basis)
    for split, entries in splits.items():
        (root / f"transforms_{split}.json").write_text(json.dumps({"frames": entries}, indent=1))


def _where(record: Record) -> str:
    return f"timestep {record.timestep}, camera {record.camera_index}"


def _check(record: Record) -> None:
    where, shape = _where(record), np.shape(record.mask)
    if record.split not in SPLITS:
        raise ValueError(f"{where}: split must be one of {SPLITS}, not {record.split!r}")
    for name in ("timestep", "camera_index"):
        if not isinstance(getattr(record, name), int | np.integer) or not 0 <= getattr(record, name) <= LARGEST:
            raise ValueError(f"{where}: {name} must be an integer from 0 to {LARGEST}")
    for name in ("image", "mask"):
        if getattr(record, name).dtype != np.uint8:
            raise ValueError(f"{where}: {name} must be uint8, not {getattr(record, name).dtype}")
    seen = (record.camera.height, record.camera.width)
    if len(shape) != 2 or record.image.shape != (*shape, 3) or seen != shape:
        raise ValueError(f"{where}: picture {record.image.shape}, matte {shape} and camera {seen} differ in size")
    check_matte(record.mask, f"{where}: mask")
    if not (record.camera.K.isfinite().all() and record.camera.viewmat.isfinite().all()):
        raise ValueError(f"{where}: K or viewmat of the camera holds NaN or infinity")
    if len(record.face_box) != 4 or not np.isfinite(record.face_box).all():
        raise ValueError(f"{where}: face_box must be four finite numbers, not {record.face_box}")
    check_face_box(record.face_box, (record.camera.width, record.camera.height), f"{where}: face_box")
    for name, width in WIDTHS.items():
        if name not in record.params:
            raise ValueError(f"{where}: params has no {name!r}; it needs {list(WIDTHS)}")
        value = np.asarray(record.params[name])
        if value.size != width or value.dtype.kind not in "fiu":
            raise ValueError(f"{where}: {name} must hold {width} numbers, not {value.shape} of {value.dtype}")


def _entry(record: Record) -> dict:
    K, name = record.camera.K, f"{record.timestep:05d}_{record.camera_index:02d}.png"
    return {
        "timestep_index": record.timestep,
        "camera_index": record.camera_index,
        "camera_id": f"{record.camera_index:02d}",
        "w": record.camera.width,
        "h": record.camera.height,
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
        "camera_angle_x": 2 * float(np.arctan(record.camera.width / 2 / float(K[0, 0]))),
        "camera_angle_y": 2 * float(np.arctan(record.camera.height / 2 / float(K[1, 1]))),
        "transform_matrix": to_opengl_c2w(record.camera.viewmat).tolist(),
        "file_path": f"images/{name}",
        "fg_mask_path": f"fg_masks/{name}",
        "flame_param_path": f"flame_param/{record.timestep:05d}.npz",
        "face_box": [round(float(v), 3) for v in record.face_box],
        **record.extra,
    }


def _save_pictures(root: Path, entry: dict, image: np.ndarray, mask: np.ndarray) -> None:
    Image.fromarray(image).save(root / entry["file_path"], compress_level=1)  # lossless, and quick to write
    Image.fromarray(mask).save(root / entry["fg_mask_path"], compress_level=1)


def _save_params(path: Path, params: dict[str, Tensor], basis: str) -> None:
    arrays = {key: np.asarray(params[name], np.float32).reshape(-1, WIDTHS[name]) for name, key in KEYS.items()}
    for key, value in arrays.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{path.name}: {key} holds NaN or infinity; such a frame must be left out")
    np.savez(path, **(arrays | {"shape": arrays["shape"][0]}), codes_basis=np.array(basis))
