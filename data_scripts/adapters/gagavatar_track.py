"""What GAGAvatar_track wrote: the paper's own tracker, run by you on your videos, images or LMDB.

What you need: the output of `track_video.py`, `track_image.py` or `track_lmdb.py` (xg-chu/GAGAvatar_track,
CC-BY-NC-4.0; its FLAME is research-only), with the 512 px pictures. SOURCE is a folder with `optim.pkl` in it, or a
folder of such folders. Pictures are in `img_lmdb/` beside it; `track_lmdb.py` leaves them where they were (`--lmdb
DIR`), `track_image.py` puts them into `optim.pkl`.

What is in it, and what becomes of it:
 - `smoothed.pkl` if it is there, else `optim.pkl` (`--codes`): per frame bbox, shapecode 300, expcode 100, posecode 6,
   eyecode 6, transform_matrix. FLAME 2020 codes. Pickles go through the safe unpickler. `base.pkl` is not used.
 - `posecode` is [global rotation, jaw]; the tracker leaves the first three zero, because the head turns in the camera.
 - `transform_matrix` is a PyTorch3D camera for a mesh enlarged five times (`sa0lib.camera.from_gagavatar_track`).
 - `bbox` is in shares of 512 px.
 - Keys are `video_number`; LMDB and pickles sort them as text (10 before 2), here their numbers count, and are the
   timesteps. Frames of several videos become one sequence each; so does every image, whose key is its
   file's name: the sequence is called so without the suffix.
 - `shapecode` is the mean over 1,024 frames taken in text order, so a longer video alternates between several shapes.
   They stay as fitted; `--one-shape` writes their mean instead.
 - Frames are composited on black and no alpha is saved. Mattes come from `--mattes DIR` (`DIR/<key>.png`), or else from
   the segmentation network in the environment that `make track` creates (`--python`), cut where the picture is black
   all around. The black stays in the picture.
The last `--test-frames` are held out, by default none: the tracker knows no split. The frame rate is not written: the
tracker drops every other frame above 50 fps and does not say so.
"""

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from data_scripts.adapters import matting
from data_scripts.adapters.fields import field, numbers, read_picture
from data_scripts.adapters.files import open_lmdb, require, rigid
from data_scripts.adapters.frames import check_size, head_codes, hold_out, subjects, summary
from data_scripts.adapters.report import Report, counted
from data_scripts.track.choose import TRACK_PYTHON
from data_scripts.track.matte import enlarge
from sa0lib.camera import from_gagavatar_track
from sa0lib.datasets import Record, whole_folder, write_sequence
from sa0lib.datasets.manifest import check_name
from sa0lib.safe_pickle import load

NAME = "gagavatar_track"
BASIS = "FLAME 2020"
SIZE = 512  # px, of all its pictures: its camera and its boxes are for no other
FIELDS = {
    "bbox": (4,),
    "shapecode": (300,),
    "expcode": (100,),
    "posecode": (6,),
    "eyecode": (6,),
    "transform_matrix": (3, 4),
}


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    codes: str | None = None  # "optim" or "smoothed": which pickle; None: smoothed if it is there
    lmdb: Path | None = None  # where the pictures are, if not in img_lmdb/
    mattes: Path | None = None  # folder of <key>.png; None: run the network
    python: Path = TRACK_PYTHON  # interpreter with MediaPipe
    one_shape: bool = False  # write the mean shapecode of a video for all of its frames
    test_frames: int = 0  # held out at the end of every video


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--codes", choices=("optim", "smoothed"), help="which pickle (default: smoothed if it is there)"
    )
    parser.add_argument("--lmdb", type=Path, help="folder with data.mdb, if not img_lmdb/ beside the pickles")
    parser.add_argument("--mattes", type=Path, help="folder with a matte KEY.png for every frame")
    parser.add_argument("--python", type=Path, default=TRACK_PYTHON, help="interpreter with MediaPipe, for mattes")
    parser.add_argument("--one-shape", action="store_true", help="one shapecode a video, the mean, for all its frames")
    parser.add_argument("--test-frames", type=int, default=0, help="frames at the end of a video that are held out")


def inspect(source: Path, **options) -> Report:
    """What is there and what is missing. Raises FileNotFoundError or ValueError where a file cannot be read at all."""
    chosen, report, names = Options(**options), Report(), {}
    for name, folder in subjects(source, "optim.pkl").items():
        codes, path = read_codes(folder, chosen)
        report.found.append(f"{path}: {counted(len(codes), 'frame')}")
        inspect_pictures(codes, folder, path, chosen, report)
        for video, keys in videos(codes, path).items():
            names[str(Path(name, video))] = path
            shapes = len({codes[key]["shapecode"].tobytes() for key in keys.values()})
            several = f", {shapes} different shapecodes" if shapes > 1 else ""
            report.will_write.append(f"{video}: {summary(hold_out(len(keys), chosen.test_frames, path))}{several}")
        if chosen.mattes:
            absent = [key for key in codes if not (chosen.mattes / f"{key}.png").is_file()]
            if absent:
                mattes = counted(len(absent), "matte")
                report.missing.append(f"{chosen.mattes}: {mattes}, the first is {absent[0]}.png")
    if len(names) > 1:
        report.places = list(names)
        for name, path in names.items():
            check_name(name, f"{path}: a video's name")
    if not chosen.mattes and not chosen.python.is_file():
        report.missing.append(
            f"mattes: the tracker saves none and {chosen.python} is not there to make them; "
            "run `make .venv-track/installed`, or give --mattes DIR"
        )
    return report


def inspect_pictures(codes: dict, folder: Path, path: Path, chosen: Options, report: Report) -> None:
    if all("image" in record for record in codes.values()):
        report.found.append(f"{path}: the pictures are in it")
        return
    place = chosen.lmdb or folder / "img_lmdb"
    try:
        with open_lmdb(place) as transaction:
            report.found.append(f"{place}: {counted(transaction.stat()['entries'], 'picture')}")
            absent = [key for key in codes if transaction.get(key.encode()) is None]
    except FileNotFoundError as error:
        report.missing.append(str(error))
        return
    if absent:
        report.missing.append(f"{place}: no record {absent[0]!r}, {len(absent)} in all")


def convert(source: Path, out: Path, **options) -> list[Path]:
    """Write every video or image as a sequence: `out` itself if there is one, else each in its own folder below it.

    Raises as `inspect`; FileExistsError if there is something else in the way; RuntimeError if the network fails.
    """
    require(inspect(source, **options), out)
    chosen = Options(**options)
    jobs = {}
    for name, folder in subjects(source, "optim.pkl").items():
        codes, path = read_codes(folder, chosen)
        for video, keys in videos(codes, path).items():
            frames = {number: codes[key] | {"key": key} for number, key in keys.items()}
            jobs[out / name / video] = folder, path, frames
    if len(jobs) == 1:
        jobs = dict(zip([out], jobs.values(), strict=True))
    for place, (folder, path, frames) in jobs.items():
        with whole_folder(place) as part:
            write_sequence(part, records(frames, folder, path, chosen), BASIS)
    return list(jobs)


def read_codes(folder: Path, chosen: Options) -> tuple[dict[str, dict[str, np.ndarray]], Path]:
    """Key -> checked FIELDS (and `image` [3, S, S] in [0, 1] where it has one), and the file they come from."""
    name = chosen.codes or ("smoothed" if (folder / "smoothed.pkl").is_file() else "optim")
    path = folder / f"{name}.pkl"
    table = load(path)
    if not isinstance(table, dict) or not table or not all(isinstance(key, str) and key for key in table):
        raise ValueError(f"{path} is no table of frames: is it from GAGAvatar_track, and did it find a face?")
    codes = {}
    for key, record in table.items():
        where = path / key
        codes[key] = {
            name: numbers(field(record, name, where), shape, f"{where}: {name}") for name, shape in FIELDS.items()
        }
        matrix = codes[key]["transform_matrix"]
        rigid(np.vstack([matrix, [0, 0, 0, 1]]), f"{where}: transform_matrix")
        if matrix[2, 3] <= 0:
            raise ValueError(f"{where}: transform_matrix puts the head behind the camera, the fit failed")
        x0, y0, x1, y1 = codes[key]["bbox"].tolist()
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            raise ValueError(f"{where}: bbox must be x0 y0 x1 y1 in shares of 512 px, not {[x0, y0, x1, y1]}")
        if "image" in record:
            codes[key]["image"] = record["image"]
    return codes, path


def videos(codes: dict[str, dict], path: Path) -> dict[str, dict[int, str]]:
    """Video -> frame number -> key, in the order of the numbers. A key without a number is the file of an image."""
    found: dict[str, dict[int, str]] = {}
    for key in codes:
        video, _, number = key.rpartition("_")
        if not (video and number.isascii() and number.isdigit()):
            video, number = key.removesuffix(Path(key).suffix), "0"
        if video in (".", "..") or Path(video).name != video or "\\" in video:
            raise ValueError(f"{path}: key {key!r} would be written outside the output folder; rename it")
        frames = found.setdefault(video, {})
        if int(number) in frames:
            raise ValueError(f"{path}: {key!r} and {frames[int(number)]!r} are the same frame of {video}")
        frames[int(number)] = key
    return {video: dict(sorted(frames.items())) for video, frames in sorted(found.items())}


def pictures(
    frames: dict[int, dict], folder: Path, path: Path, chosen: Options
) -> Iterator[UInt8[np.ndarray, "S S 3"]]:
    """The frames' pictures in their order. Raises ValueError naming the key of one that is damaged or not 512 px."""
    if all("image" in record for record in frames.values()):
        for record in frames.values():
            where = path / record["key"]
            image = numbers(record["image"], (3, SIZE, SIZE), f"{where}: image").clip(0, 1)
            yield np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        return
    place = chosen.lmdb or folder / "img_lmdb"
    with open_lmdb(place) as transaction:
        for record in frames.values():
            where = f"{place}, record {record['key']!r}"
            picture = read_picture(bytes(transaction.get(record["key"].encode())), where)
            check_size(picture, (SIZE, SIZE), where)
            yield np.asarray(picture.convert("RGB"))


def records(frames: dict[int, dict], folder: Path, path: Path, chosen: Options) -> Iterator[Record]:
    splits = hold_out(len(frames), chosen.test_frames, path)
    mean_shape = np.mean([record["shapecode"] for record in frames.values()], axis=0)
    kept, mattes = np.ones(len(frames), bool), None
    if not chosen.mattes:
        mattes, kept = matting.segment(lambda: pictures(frames, folder, path, chosen), SIZE, chosen.python)
        lost = [record["key"] for record, seen in zip(frames.values(), kept, strict=True) if not seen]
        if len(lost) == len(frames):
            raise ValueError(f"{path}: no face found in any picture, so no matte; make them yourself (--mattes DIR)")
        if lost:
            warnings.warn(f"{path}: left out, no face found to make a matte for: {', '.join(lost)}", stacklevel=2)
    images = tqdm(pictures(frames, folder, path, chosen), "write frames", len(frames), unit="frame")
    for i, (image, (number, record)) in enumerate(zip(images, frames.items(), strict=True)):
        if not kept[i]:
            continue
        if mattes is None:
            matte = matting.from_folder(chosen.mattes, record["key"], SIZE)
        else:
            matte = matting.cut_black(enlarge(mattes[i], SIZE), image)
        yield Record(
            image=image,
            mask=matte,
            camera=from_gagavatar_track(torch.from_numpy(record["transform_matrix"]), SIZE),
            params=head_codes(
                shape=mean_shape if chosen.one_shape else record["shapecode"],
                expr=record["expcode"],
                rotation=record["posecode"][:3],
                jaw=record["posecode"][3:],
                eyes=record["eyecode"],
            ),
            face_box=tuple(record["bbox"] * SIZE),
            split=splits[i],
            timestep=number,
            extra={"source": record["key"]},
        )
