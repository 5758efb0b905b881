"""NeRSemble v2: one sequence of one participant, seen by up to sixteen synchronised cameras.

You need
- the participant's folder `<pid>` of NeRSemble v2 (access form on the dataset's page; non-commercial research):
  calibration/camera_params.json, calibration/color_calibration.json, sequences/<SEQ>/images/cam_<serial>.mp4;
- FLAME codes: they are not part of the dataset. --flame takes the folder that VHAP's exporter wrote for this sequence
  (VHAP: CC-BY-NC-SA-4.0 and a notice of its makers). VHAP turns the rig about the origin before it tracks, and its
  exporter moves the origin into the head: this adapter finds that motion by comparing the export's cameras with the
  calibration, and then uses it for all cameras, exported or not. The export's pictures and intrinsics are not used;
- mattes: not part of the dataset either. --mattes takes a folder of cam_<serial>.mp4 (as the NeRSemble benchmark
  ships them) or of cam_<serial>_<number>.png or .jpg (as VHAP's preprocessing writes them); without it,
  sequences/<SEQ>/alpha_maps.

What is written: pictures with their colours corrected (VHAP means to do this for v2 too, but keeps the uncorrected
ones), cameras in VHAP's world, train and val (front camera) from the first 70 % of the timesteps, test (all cameras)
from the rest, as VHAP splits a single sequence. The camera's index is its place in the list of serials below,
whatever the order in the files; 8 is the front.

Facts that are public only as source code: the calibration is for pictures 2200 wide and 3208 high (VHAP's setting; if
the file states `width` and `height`, they count). VHAP's preprocessing reads the video through FFmpeg's `fps` filter at
--vhap-fps (its --target_fps); that filter gives as picture n the last frame whose rounded time is n, so it starts with
a later frame than the first when the rate is lowered. VHAP's files do not say which FLAME was used: --basis does.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_scripts.adapters.colour import correct
from data_scripts.adapters.fields import matte_box, read_header, read_matte
from data_scripts.adapters.files import require, safe_name
from data_scripts.adapters.report import Report, counted
from data_scripts.adapters.rig import FRONT, SERIALS, Rig, camera, check_aspect, read_rig
from data_scripts.adapters.vhap import BASES, Export, read_export
from data_scripts.adapters.videos import pick, resize
from data_scripts.track.video import VideoInfo, probe, read_frames
from sa0lib.datasets import Record, whole_folder, write_sequence

NAME = "nersemble"
TRAIN_SHARE = 0.7  # of the timesteps
SIZE = 802  # px, what VHAP and GaussianAvatars work at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this adapter."""
    parser.add_argument("--sequence", required=True, help="folder below sequences/, for example EXP-1-head")
    parser.add_argument("--flame", type=Path, help="folder written by VHAP's export_as_nerf_dataset")
    parser.add_argument("--vhap-fps", type=int, help="--target_fps of VHAP's preprocess_video (its default is 25)")
    parser.add_argument("--basis", choices=BASES, default=BASES[0], help="the FLAME that VHAP was given")
    parser.add_argument("--mattes", type=Path, help="folder of mattes; default sequences/<SEQ>/alpha_maps")
    parser.add_argument("--cameras", nargs="+", metavar="SERIAL", help="only these; default all that have a video")
    parser.add_argument("--size", type=int, default=SIZE, help="px, longer side of the pictures; default %(default)s")
    parser.add_argument(
        "--all-train", action="store_true", help="hold nothing out, as Phase 2 learns from all 16 cameras; else as VHAP"
    )
    parser.add_argument("--raw-colour", action="store_true", help="leave the colours as the cameras gave them")


def find_videos(folder: Path, cameras: list[str] | None) -> dict[str, VideoInfo]:
    """Serial -> video in the order of SERIALS. Raises ValueError for an unknown serial or unequal frame counts."""
    found = {path.stem.removeprefix("cam_"): path for path in sorted(folder.glob("cam_*.mp4"))}
    for serial in [*found, *(cameras or ())]:
        if serial not in SERIALS:
            raise ValueError(f"{folder}: {serial!r} is no camera of this rig, those are {', '.join(SERIALS)}")
    wanted = [s for s in SERIALS if (s in cameras if cameras else s in found)]
    videos = {serial: probe(found.get(serial, folder / f"cam_{serial}.mp4")) for serial in wanted}
    counts = {video.path.name: video.frames for video in videos.values()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{folder}: cameras are synchronised, but their videos have unequal frame counts: {counts}")
    return videos


def video_frame(number: int, video_fps: Fraction, fps: int) -> int:
    """Frame of the video that FFmpeg's `fps` filter gives as its picture `number`."""
    return ceil((number + Fraction(1, 2)) * video_fps / fps) - 1


def _mattes(folder: Path, serial: str, chosen: dict[int, int]) -> Iterator[UInt8[np.ndarray, "H W"]]:
    """Mattes of the chosen video frames (frame -> number in VHAP's extraction), in the order of time."""
    video = folder / f"cam_{serial}.mp4"
    if video.is_file():
        yield from (picture[..., 0] for _, picture in pick(read_frames(video), chosen, video))
        return
    for number in chosen.values():
        yield np.asarray(read_matte(_matte_picture(folder, serial, number)))


def _matte_picture(folder: Path, serial: str, number: int) -> Path:
    """The matte of one number of VHAP's extraction, as PNG or as JPEG."""
    path = folder / f"cam_{serial}_{number:06d}.png"
    return path if path.is_file() or not path.with_suffix(".jpg").is_file() else path.with_suffix(".jpg")


def _inspect_mattes(folder: Path, serial: str, video: VideoInfo, chosen: dict[int, int], report: Report) -> None:
    """List the mattes of a camera that are missing. Raises ValueError for one of another aspect than the video."""
    film, paths = folder / f"cam_{serial}.mp4", [_matte_picture(folder, serial, number) for number in chosen.values()]
    if film.is_file():
        found = probe(film)
        sizes = {film: (found.width, found.height)}
    elif absent := [path.name for path in paths if not path.is_file()]:
        mattes = f"{counted(len(absent), 'matte')} of camera {serial}"
        report.missing.append(f"{folder}: {mattes}, the first is {absent[0]} (or .jpg); every timestep needs one")
        return
    else:
        sizes = {path: read_header(path).size for path in paths}
    for path, size in sizes.items():
        check_aspect(path, size, (video.width, video.height), "its video has")


def split(t: int, count: int, index: int, several: bool) -> str:
    """VHAP's: the first 70 % of the timesteps train, and validate with the front camera; the rest tests."""
    if t >= ceil(count * TRAIN_SHARE):
        return "test"
    return "val" if several and index == FRONT else "train"


def _mattes_folder(source: Path, sequence: str, mattes: Path | None) -> Path:
    return mattes or source / "sequences" / sequence / "alpha_maps"


def inspect(source: Path, **options) -> Report:
    """What is there and what is missing; reads headers and tables only. Raises ValueError for what is malformed."""
    report, _ = _plan(source, **options)
    return report


@dataclass
class Plan:
    """Everything `convert` needs, checked."""

    rig: Rig
    videos: dict[str, VideoInfo]
    export: Export
    chosen: dict[int, int]  # video frame -> number in VHAP's extraction, in the order of time
    size: int  # px, longer side of the pictures written
    all_train: bool  # nothing is held out


def _plan(
    source: Path,
    sequence: str,
    flame: Path | None = None,
    vhap_fps: int | None = None,
    basis: str = BASES[0],
    mattes: Path | None = None,
    cameras: list[str] | None = None,
    size: int = SIZE,
    all_train: bool = False,
    raw_colour: bool = False,
) -> tuple[Report, Plan | None]:
    report, calibration = Report(), source / "calibration"
    safe_name(sequence, "--sequence")
    if size < 1 or (vhap_fps is not None and vhap_fps < 1):
        raise ValueError(f"--size {size} and --vhap-fps {vhap_fps} must be positive")
    for name in ("camera_params.json", *(() if raw_colour else ("color_calibration.json",))):
        if not (calibration / name).is_file():
            hint = " (or --raw-colour)" if name.startswith("color") else ""
            report.missing.append(f"{calibration / name}: comes with each participant of NeRSemble v2{hint}")
    videos = find_videos(source / "sequences" / sequence / "images", cameras)
    folder = _mattes_folder(source, sequence, mattes)
    if not videos:
        report.missing.append(f"{source / 'sequences' / sequence / 'images'}: no cam_<serial>.mp4 in it")
    for serial in videos:
        if not (folder / f"cam_{serial}.mp4").is_file() and not any(folder.glob(f"cam_{serial}_*")):
            report.missing.append(f"{folder}: no matte of camera {serial}; VHAP's preprocess_video can make them")
    if flame is None:
        report.missing.append("--flame: no codes. Track this sequence with VHAP and give the folder of its export")
    elif vhap_fps is None:
        report.missing.append("--vhap-fps: give the --target_fps of VHAP's preprocess_video, 25 if you gave it none")
    if report.missing:
        return report, None
    rig = read_rig(calibration, raw_colour)
    for serial in videos:
        if serial not in rig.w2c:
            raise ValueError(f"{calibration / 'camera_params.json'}: world_2_cam has no {serial}, but there is a video")
        if not raw_colour and serial not in rig.colour:
            raise ValueError(f"{calibration / 'color_calibration.json'} has no {serial}, but there is a video of it")
    export, first = read_export(flame, basis, rig.w2c), next(iter(videos.values()))
    report.found = [
        f"{len(videos)} of {len(SERIALS)} cameras" + (", the front one too" if SERIALS[FRONT] in videos else ""),
        f"{counted(first.frames, 'frame')} at {first.fps:.5g} fps",
        f"codes of {counted(len(export.params), 'timestep')}, {basis}",
        "no colour correction" if raw_colour else f"colour polynomials of {counted(len(rig.colour), 'camera')}",
    ]
    rate = Fraction(first.fps).limit_denominator(1001)
    chosen = {video_frame(number, rate, vhap_fps): number for number in sorted(export.params)}
    if len(chosen) < len(export.params) or (first.frames and max(chosen) >= first.frames):
        raise ValueError(
            f"{flame}: {len(export.params)} timesteps up to number {max(export.params)} do not fit {first.frames} "
            f"frames at {first.fps:.5g} fps read at {vhap_fps} fps; correct --vhap-fps"
        )
    for serial, video in videos.items():
        check_aspect(video.path, (video.width, video.height), rig.size, "the calibration is for")
        _inspect_mattes(folder, serial, video, chosen, report)
    count = counted(len(videos) * len(chosen), "picture")
    report.will_write = [f"{source.name} {sequence}: {count} of {counted(len(chosen), 'timestep')}"]
    return report, Plan(rig, videos, export, chosen, size, all_train)


def _records(plan: Plan, folder: Path) -> Iterator[Record]:
    several = len(plan.videos) > 1
    for serial, video in plan.videos.items():
        index, view = SERIALS.index(serial), camera(plan.rig, serial, video, plan.export.motion, plan.size)
        polynomial = plan.rig.colour.get(serial)
        pictures = pick(read_frames(video.path), plan.chosen, video.path)
        mattes = _mattes(folder, serial, plan.chosen)
        for t, ((frame, picture), matte) in enumerate(zip(pictures, mattes, strict=True)):
            matte = resize(np.ascontiguousarray(matte), view.width, view.height)
            picture = resize(picture, view.width, view.height)
            yield Record(
                image=picture if polynomial is None else correct(picture, polynomial),
                mask=matte,
                camera=view,
                params=plan.export.params[plan.chosen[frame]],
                face_box=matte_box(matte, f"{folder}, camera {serial}, frame {frame}"),
                split="train" if plan.all_train else split(t, len(plan.chosen), index, several),
                timestep=t,
                camera_index=index,
                extra={"camera_id": serial, "video_frame": frame},
            )


def convert(source: Path, out: Path, **options) -> list[Path]:
    """Write the sequence to `out`, whole or not at all.

    Raises FileNotFoundError with everything that is missing; ValueError for what is malformed; FileExistsError if
    `out` holds something else than a dataset.
    """
    report, plan = _plan(source, **options)
    require(report, out)
    folder = _mattes_folder(source, options["sequence"], options.get("mattes"))
    with whole_folder(out) as part:
        write_sequence(part, _records(plan, folder), plan.export.basis)
        plan.export.add_offset(part)
    return [out]
