"""SplattingAvatar's ten subjects and IMavatar's own videos: `flame_params.json` beside its pictures.

What you need: the preprocessed subjects that the SplattingAvatar repository (initialneil/SplattingAvatar, CC-BY-NC-SA)
links to, or a video that you ran through IMavatar's preprocessing (zhengyuf/IMavatar, MIT; the FLAME inside is
research-only). SOURCE is a subject's folder with `flame_params.json` in it, or a folder of such folders.

What is in it, and what becomes of it:
 - `intrinsics` fx fy cx cy are shares of the picture's width and height, and fx is negative; IMavatar's oldest files
   have them in pixels of a 512 px picture instead.
 - `world_mat` is world-to-camera with OpenGL axes (its last two rows are negated here), made for a FLAME mesh enlarged
   four times: translations are divided by 4. The head turns in the codes, not in the camera.
 - `shape_params` 100 and `expression` 50 are FLAME 2020 codes, filled up with zeros to 300 and 100. `pose` 15 is
   global, neck, jaw, left eye, right eye.
 - Pictures are RGBA whose alpha is the matte; RGB pictures need IMavatar's `mask/` folder. Colours are taken as not
   multiplied by alpha: neither repository says. Picture names are not padded (2.png, 10.png): the order is the JSON's.
 - `bbox` goes from -1 to 1 across the picture (read in IMavatar's code) and becomes the face box; without one it is the
   matte's bounding box.
The last 350 frames are the test split (`--test-frames`), as in SplattingAvatar's configuration.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from data_scripts.adapters.fields import field, matte_box, numbers, read_matte, read_picture
from data_scripts.adapters.files import require, rigid, unique_json
from data_scripts.adapters.frames import check_picture, check_size, head_codes, hold_out, split_alpha, subjects, summary
from data_scripts.adapters.report import Report, counted
from sa0lib.camera import Camera
from sa0lib.datasets import Record, whole_folder, write_sequence
from sa0lib.datasets.layout import inside
from sa0lib.datasets.splits import HELD_OUT

NAME = "splatting_avatar"
BASIS = "FLAME 2020"
MESH_SCALE = 4.0  # IMavatar's FLAME is this many times larger than life
OLD_SIZE = 512  # px: the picture that the oldest files give intrinsics for
FIELDS = {"world_mat": (3, 4), "expression": (50,), "pose": (15,)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test-frames", type=int, default=HELD_OUT, help="frames at the end that are held out")


def inspect(source: Path, test_frames: int) -> Report:
    """What is there and what is missing. Raises FileNotFoundError or ValueError where a file cannot be read at all."""
    found = subjects(source, "flame_params.json")
    report = Report(places=list(found))
    for name, root in found.items():
        path = root / "flame_params.json"
        fields = read_fields(path)
        report.found.append(f"{path}: {counted(len(fields['frames']), 'frame')}")
        for i, entry in enumerate(fields["frames"]):
            try:
                check_picture(picture_path(root, entry, i), mask_path(root, entry, i).parent)
            except FileNotFoundError as error:
                report.missing.append(str(error))
        splits = hold_out(len(fields["frames"]), test_frames, path)
        report.will_write.append(f"{name or 'the subject'}: {summary(splits)}")
    return report


def convert(source: Path, out: Path, test_frames: int) -> list[Path]:
    """Write every subject; with several, each in its own folder below `out`. Raises as `inspect`; FileExistsError."""
    require(inspect(source, test_frames), out)
    written = []
    for name, root in subjects(source, "flame_params.json").items():
        with whole_folder(out / name) as part:
            write_sequence(part, records(root, test_frames), BASIS)
        written.append(out / name)
    return written


def read_fields(path: Path) -> dict:
    """The checked contents: intrinsics [4], shape_params [100], per frame the arrays of FIELDS and file_path."""
    tree = unique_json(path)
    fields = {
        "intrinsics": numbers(field(tree, "intrinsics", path), (4,), f"{path}: intrinsics"),
        "shape_params": numbers(field(tree, "shape_params", path), (100,), f"{path}: shape_params"),
        "frames": field(tree, "frames", path),
    }
    if not fields["intrinsics"].all():
        raise ValueError(f"{path}: intrinsics hold a zero, no focal length and no middle of a picture is that")
    if not isinstance(fields["frames"], list) or not fields["frames"]:
        raise ValueError(f"{path}: frames must be a list with at least one frame")
    for i, entry in enumerate(fields["frames"]):
        where = path / f"frames[{i}]"
        for name, shape in FIELDS.items():
            entry[name] = numbers(field(entry, name, where), shape, f"{where}: {name}")
        rigid(np.vstack([entry["world_mat"], [0, 0, 0, 1]]), f"{where}: world_mat")
        if entry["world_mat"][2, 3] >= 0:
            raise ValueError(f"{where}: world_mat puts the head behind the camera; IMavatar's looks along -z")
        if "bbox" in entry:
            entry["bbox"] = numbers(entry["bbox"], (4,), f"{where}: bbox")
            x0, y0, x1, y1 = box = entry["bbox"].tolist()
            if not (x0 < x1 and y0 < y1 and x0 < 1 and y0 < 1 and x1 > -1 and y1 > -1):
                raise ValueError(f"{where}: bbox must be x0 y0 x1 y1, -1 to 1 across the picture, not {box}")
        if not isinstance(field(entry, "file_path", where), str):
            raise ValueError(f"{where}: file_path is no text")
    return fields


def picture_path(root: Path, entry: dict, i: int) -> Path:
    """`file_path` has no suffix, and says image/ where some copies have images/."""
    relative = entry["file_path"] + ".png"
    path = inside(root, relative, f"frames[{i}] file_path")
    other = inside(root, relative.replace("/image/", "/images/"), f"frames[{i}] file_path")
    return path if path.is_file() or not other.is_file() else other


def mask_path(root: Path, entry: dict, i: int) -> Path:
    return inside(root, f"mask/{Path(entry['file_path']).name}.png", f"frames[{i}] file_path")


def camera(world_mat: np.ndarray, intrinsics: np.ndarray, width: int, height: int) -> Camera:
    """The Camera for a mesh in metres of a `world_mat` [3, 4] and of `intrinsics` [4] as the file has them."""
    fx, fy, cx, cy = np.abs(intrinsics) / (OLD_SIZE if intrinsics[3] > 1 else 1)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3] = torch.from_numpy(world_mat * np.array([[1], [-1], [-1]]))
    viewmat[:3, 3] /= MESH_SCALE
    K = torch.tensor([[fx * width, 0, cx * width], [0, fy * height, cy * height], [0, 0, 1]], dtype=torch.float64)
    return Camera(K, viewmat, width, height)


def records(root: Path, test_frames: int) -> Iterator[Record]:
    path = root / "flame_params.json"
    fields = read_fields(path)
    size = None
    for i, split in enumerate(hold_out(len(fields["frames"]), test_frames, path)):
        entry = fields["frames"][i]
        file = picture_path(root, entry, i)
        picture = read_picture(file)
        size = size or picture.size
        check_size(picture, size, file)
        image, matte = split_alpha(picture)
        if matte is None:
            file = mask_path(root, entry, i)
            mask = read_matte(file)
            check_size(mask, size, file)
            matte = np.asarray(mask)
        box = matte_box(matte, str(file))
        if "bbox" in entry:
            box = (entry["bbox"].clip(-1, 1) + 1) / 2 * np.array([*size, *size])
        pose = entry["pose"]
        yield Record(
            image=image,
            mask=matte,
            camera=camera(entry["world_mat"], fields["intrinsics"], *size),
            params=head_codes(
                shape=fields["shape_params"],
                expr=entry["expression"],
                rotation=pose[:3],
                neck=pose[3:6],
                jaw=pose[6:9],
                eyes=pose[9:],
            ),
            face_box=tuple(box),
            split=split,
            timestep=i,
            extra={"source": entry["file_path"]},
        )
