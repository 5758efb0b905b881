"""INSTA's actors: `transforms_*.json` with pictures, mattes, and FLAME codes as text files.

What you need: an actor from the dataset page of INSTA (Zielon/INSTA, non-commercial), or a video of your own that you
ran through metrical-tracker and INSTA's `generate.sh`. SOURCE is an actor's folder with `transforms.json` in it, or a
folder of such folders.

What is in it, and what becomes of it:
 - `transform_matrix` is camera-to-world. The field's habit would be OpenGL axes, but INSTA's `scripts/transforms.py`
   inverts the OpenCV pose and flips nothing: `--axes opencv` is the default, and matrices that put the head behind the
   camera are refused. The head does not turn in the codes: rotation, neck and translation are zero, the camera moves.
 - `flame/exp` 100, `flame/shape` 300, `flame/jaw` 6, `flame/eyes` 12 (left then right, by their order in the tracker's
   skinning): FLAME 2020 codes, rotations as two matrix rows (6D). Where a folder is missing, as in data made with the
   published script, `checkpoint/*.frame` (written by torch.save, read by the safe unpickler) has the same numbers. The
   tracker holds the shape fixed, so the first frame's is everyone's.
 - `flame/eyelids` 2 moves two blendshapes that FLAME does not have: they stay out of the codes, and beside every frame
   as `eyelids` in the written transforms.
 - `images/` are RGBA: alpha is the matte without clothes, colours are not multiplied by it. If they have no alpha, that
   of `matted/` is taken. `seg_mask/`, `depth/` and `meshes/` are not used. There is no face box: it is the matte's.
 - `transforms_train.json` and `transforms_test.json` are the published split (test: the last 350 frames);
   `transforms_val.json` repeats 20 test frames and is left out. With `--test-frames N`, or where the two files are
   missing, the split is made anew from `transforms.json`. Entries are put in the order of their frame numbers: the
   script writes them as its workers finish.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from data_scripts.adapters.fields import field, matte_box, numbers, read_picture
from data_scripts.adapters.files import require, rigid, unique_json
from data_scripts.adapters.frames import check_picture, check_size, head_codes, hold_out, split_alpha, subjects, summary
from data_scripts.adapters.report import Report, counted
from sa0lib.camera import Camera, from_opengl_c2w, invert_rigid
from sa0lib.datasets import Record, whole_folder, write_sequence
from sa0lib.datasets.layout import inside
from sa0lib.datasets.splits import HELD_OUT
from sa0lib.rotation import matrix_to_axis_angle, rotation_6d_to_matrix
from sa0lib.safe_pickle import load_torch

NAME = "insta"
BASIS = "FLAME 2020"
CODES = {"exp": 100, "shape": 300, "jaw": 6, "eyes": 12}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test-frames", type=int, help="hold out this many frames at the end, whatever the files say")
    parser.add_argument(
        "--axes", choices=("opencv", "opengl"), default="opencv", help="of the camera in transform_matrix"
    )


def inspect(source: Path, test_frames: int | None = None, axes: str = "opencv") -> Report:
    """What is there and what is missing. Raises FileNotFoundError or ValueError where a file cannot be read at all."""
    found = subjects(source, "transforms.json")
    report = Report(places=list(found))
    for name, root in found.items():
        splits, entries = frames(root, test_frames)
        codes = code_source(root, entries[0])
        report.found.append(f"{root}: {counted(len(entries), 'frame')}, codes from {codes}")
        try:
            read_shape(root, entries)
        except FileNotFoundError as error:
            report.missing.append(str(error))
        for entry in entries:
            camera(entry, axes)
            try:
                read_codes(root, entry)
                check_picture(inside(root, entry["file_path"], f"{entry['where'].name} file_path"), root / "matted")
            except FileNotFoundError as error:
                report.missing.append(str(error))
        report.will_write.append(f"{name or 'the actor'}: {summary(splits)}")
    return report


def convert(source: Path, out: Path, test_frames: int | None = None, axes: str = "opencv") -> list[Path]:
    """Write every actor; with several, each in its own folder below `out`. Raises as `inspect`; FileExistsError."""
    require(inspect(source, test_frames, axes), out)
    written = []
    for name, root in subjects(source, "transforms.json").items():
        with whole_folder(out / name) as part:
            write_sequence(part, records(root, test_frames, axes), BASIS)
        written.append(out / name)
    return written


def frames(root: Path, test_frames: int | None) -> tuple[list[str], list[dict]]:
    """(split, entry) of every frame, train before test, each in the order of frame numbers.

    An entry is that of the file with the camera's fields put in, its frame's `number`, and `where` it stands.
    """
    paths = {split: root / f"transforms_{split}.json" for split in ("train", "test")}
    if test_frames is None and all(path.is_file() for path in paths.values()):
        parts = {split: read_entries(path) for split, path in paths.items()}
        splits = [split for split, entries in parts.items() for _ in entries]
        entries = [entry for entries in parts.values() for entry in entries]
    else:
        entries = read_entries(root / "transforms.json")
        splits = hold_out(len(entries), HELD_OUT if test_frames is None else test_frames, root / "transforms.json")
    numbers_seen: dict[int, dict] = {}
    for entry in entries:
        if (first := numbers_seen.setdefault(entry["number"], entry)) is not entry:
            raise ValueError(f"{entry['where']}: file_path {entry['file_path']!r} is also that of {first['where']}")
    if "train" not in splits:
        raise ValueError(f"{paths['train']}: frames is empty, nothing is left to train on")
    return splits, entries


def read_entries(path: Path) -> list[dict]:
    tree = unique_json(path)
    entries = field(tree, "frames", path)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: frames is no list")
    shared = {key: value for key, value in tree.items() if key != "frames"}
    checked = []
    for i, entry in enumerate(entries):
        where = path / f"frames[{i}]"
        for name in ("file_path", "exp_path"):
            if not isinstance(field(entry, name, where), str):
                raise ValueError(f"{where}: {name} is no text")
        digits = re.search(r"\d+$", Path(entry["file_path"]).stem)
        if digits is None:
            raise ValueError(f"{where}: file_path {entry['file_path']!r} ends in no frame number")
        checked.append({**shared, **entry, "number": int(digits[0]), "where": where})
    return sorted(checked, key=lambda entry: entry["number"])


def camera(entry: dict, axes: str) -> Camera:
    """Raises ValueError naming file and field if a number is missing, no number, or the head behind the camera."""
    where = entry["where"]
    values = {}
    for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        values[name] = float(numbers(field(entry, name, where), (), f"{where}: {name}"))
        if values[name] <= 0 and name not in ("cx", "cy"):
            raise ValueError(f"{where}: {name} must be positive, not {values[name]}")
    c2w = torch.from_numpy(rigid(field(entry, "transform_matrix", where), f"{where}: transform_matrix"))
    viewmat = from_opengl_c2w(c2w) if axes == "opengl" else invert_rigid(c2w)
    if viewmat[2, 3] <= 0:
        other = "opencv" if axes == "opengl" else "opengl"
        raise ValueError(f"{where}: transform_matrix with {axes} axes puts the head behind the camera; --axes {other}?")
    K = torch.eye(3, dtype=torch.float64)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = (values[name] for name in ("fl_x", "fl_y", "cx", "cy"))
    return Camera(K, viewmat, int(values["w"]), int(values["h"]))


def code_path(root: Path, entry: dict, name: str) -> Path:
    """flame/exp/00012.txt of the entry's exp_path, and the same of the other codes beside it."""
    exp = Path(entry["exp_path"])
    return inside(
        root, str(exp if name == "exp" else exp.parent.parent / name / exp.name), f"{entry['where'].name} exp_path"
    )


def frame_path(root: Path, entry: dict) -> Path:
    return root / "checkpoint" / f"{code_path(root, entry, 'exp').stem}.frame"


def code_source(root: Path, entry: dict) -> str:
    missing = [name for name in CODES if not code_path(root, entry, name).is_file()]
    found = missing and frame_path(root, entry).is_file()
    return f"flame/, {', '.join(missing)} from checkpoint/" if found else "flame/"


def read_code(root: Path, entry: dict, name: str, width: int) -> np.ndarray:
    """One code [width] from its text file, or from the tracker's file of the frame.

    Raises FileNotFoundError if neither is there; ValueError naming file and field.
    """
    path = code_path(root, entry, name)
    if path.is_file():
        try:
            values = [float(word) for word in path.read_text(encoding="utf8").split()]
        except ValueError as error:
            raise ValueError(f"{path}: {name} is not a list of numbers ({error})") from error
        return numbers(values, (width,), path)
    checkpoint = frame_path(root, entry)
    if not checkpoint.is_file():
        raise FileNotFoundError(f"{path} is missing, and so is {checkpoint}, which would have the same numbers")
    code = field(field(load_torch(checkpoint), "flame", checkpoint), name, f"{checkpoint}: flame")
    return numbers(code, (1, width), f"{checkpoint}: flame {name}")[0]


def read_shape(root: Path, entries: list[dict]) -> np.ndarray:
    """Everyone's shape [300]: that of the first frame. Raises as `read_code`."""
    return read_code(root, min(entries, key=lambda entry: entry["number"]), "shape", CODES["shape"])


def read_codes(root: Path, entry: dict) -> dict[str, np.ndarray]:
    """expr, jaw and eyes of a frame as FLAME takes them (rotations as axis-angle), and eyelids where there are any."""
    jaw, eyes = (read_code(root, entry, name, CODES[name]) for name in ("jaw", "eyes"))
    matrices = rotation_6d_to_matrix(torch.from_numpy(np.concatenate([jaw, eyes]).reshape(3, 6)))  # [3, 3, 3]
    for name, det in zip(("jaw", "left of eyes", "right of eyes"), torch.linalg.det(matrices), strict=True):
        if det < 0.999:  # rows of no length, or along each other
            raise ValueError(f"{entry['where']}: the two rows of {name} span no rotation; leave this frame out")
    turns = matrix_to_axis_angle(matrices).numpy()  # [3, 3]
    codes = {"expr": read_code(root, entry, "exp", CODES["exp"]), "jaw": turns[0], "eyes": turns[1:].reshape(6)}
    if code_path(root, entry, "eyelids").is_file():
        codes["eyelids"] = read_code(root, entry, "eyelids", 2)
    return codes


def picture_and_matte(root: Path, entry: dict) -> tuple[np.ndarray, np.ndarray]:
    """RGB [H, W, 3] and matte [H, W], uint8. Raises FileNotFoundError or ValueError naming the file."""
    size = tuple(int(field(entry, name, entry["where"])) for name in ("w", "h"))
    path = inside(root, entry["file_path"], f"{entry['where'].name} file_path")
    picture = read_picture(path)
    check_size(picture, size, path)
    image, matte = split_alpha(picture)
    if matte is None:
        path = root / "matted" / path.name
        matted = read_picture(path)
        check_size(matted, size, path)
        matte = split_alpha(matted)[1]
        if matte is None:
            raise ValueError(f"{path} has no alpha, and neither has {entry['file_path']}: there is no matte")
    return image, matte


def records(root: Path, test_frames: int | None, axes: str) -> Iterator[Record]:
    splits, entries = frames(root, test_frames)
    shape = read_shape(root, entries)
    for split, entry in zip(splits, entries, strict=True):
        codes = read_codes(root, entry)
        eyelids = codes.pop("eyelids", None)
        image, matte = picture_and_matte(root, entry)
        yield Record(
            image=image,
            mask=matte,
            camera=camera(entry, axes),
            params=head_codes(shape=shape, **codes),
            face_box=matte_box(matte, str(root / entry["file_path"])),
            split=split,
            timestep=entry["number"],
            extra={} if eyelids is None else {"eyelids": eyelids.tolist()},
        )
