"""NeRSemble benchmark, monocular FLAME avatar task: one participant with the tracking that it ships.

You need `mono_flame_avatar/<pid>` of the benchmark's download (access form as for NeRSemble; only for research):
calibration/camera_params.json and, for each sequence, images/cam_222200037.mp4, alpha_maps/cam_222200037.mp4 and
tracking/flame2023_tracking_v2.npz (or flame2023_tracking.npz). Of four of the 22 sequences only the tracking is
public: their pictures stay with the benchmark, so nothing is written for them.

The tracking belongs to FLAME 2023 and says so only in its file's name; codes of FLAME 2020 have another expression
basis, so a file of another version is refused. Its rigid motion is not FLAME's root joint: the model is evaluated
without a root rotation, then x -> scale R x + translation about the origin. R is given by the intrinsic XYZ Euler
angles of `rotation` (that is how the benchmark's own code uses them; axis-angle would be wrong), and again as
`rotation_matrices`. Here that motion, and with it the scale, goes into each frame's camera, which is exact and needs
no FLAME file: `rotation` and `translation` of the codes are zero, as in the tracker that the paper uses. All found
sequences become one dataset; the timesteps run on.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from data_scripts.adapters.fields import field, matte_box, numbers
from data_scripts.adapters.files import read_npz, require, rigid, unique_json
from data_scripts.adapters.report import Report, counted
from data_scripts.adapters.rig import FRONT, SERIALS, intrinsics
from data_scripts.adapters.videos import pick
from data_scripts.track.video import VideoInfo, probe, read_frames
from sa0lib.camera import Camera
from sa0lib.datasets import Record, whole_folder, write_sequence
from sa0lib.head import N_EXPR, N_SHAPE

NAME = "nersemble_benchmark"
SERIAL = SERIALS[FRONT]  # the only camera whose pictures are published for this task
BASIS = "FLAME 2023"
TRACKING = ("flame2023_tracking_v2.npz", "flame2023_tracking.npz")
SIZE = 512  # px, of the pictures that the intrinsics belong to
DISAGREEMENT = 1e-3  # between rotation and rotation_matrices, and between the parts of a rotation matrix


@dataclass
class Tracking:
    """One sequence's codes and rigid motion; T frames."""

    frames: list[int]  # T numbers in the video
    params: dict[str, Float[np.ndarray, "T _"]]  # Head.forward's keywords without rotation and translation
    R: Float[np.ndarray, "T 3 3"]
    translation: Float[np.ndarray, "T 3"]  # world units
    scale: float  # world units per metre of FLAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this adapter."""
    parser.add_argument(
        "--held-out", nargs="+", default=[], metavar="SEQ", help="sequences that become the test split; default none"
    )


def read_tracking(path: Path) -> Tracking:
    """A flame2023_tracking*.npz. Raises FileNotFoundError; ValueError naming file and field for what is malformed."""
    arrays = read_npz(path)
    if "expression" not in arrays:
        raise ValueError(f"{path}: no field 'expression'; it holds {sorted(arrays)}")
    T = len(np.atleast_1d(arrays["expression"]))

    def read(name: str, *shape: int) -> np.ndarray:
        return numbers(field(arrays, name, str(path)), shape, f"{path}: {name}")

    frames = read("frames", T)
    if (np.diff(frames) <= 0).any() or (T and frames[0] < 0) or (frames != frames.round()).any():
        raise ValueError(f"{path}: frames must be whole numbers that grow")
    R = Rotation.from_euler("XYZ", read("rotation", T, 3)).as_matrix() if T else np.zeros((0, 3, 3))
    if "rotation_matrices" in arrays:
        error = np.abs(read("rotation_matrices", T, 3, 3) - R).max(initial=0)
        if error > DISAGREEMENT:
            raise ValueError(
                f"{path}: rotation (as XYZ Euler angles) and rotation_matrices differ by up to {error:.3g}: "
                "damaged, or of a version that this adapter does not know"
            )
    scale = float(read("scale", 1, 1)[0, 0])
    if scale <= 0:
        raise ValueError(f"{path}: scale must be positive, not {scale}")
    params = {
        "shape": np.repeat(read("shape", 1, N_SHAPE), T, 0),
        "expr": read("expression", T, N_EXPR),
        "neck": read("neck", T, 3),
        "jaw": read("jaw", T, 3),
        "eyes": read("eyes", T, 6),
    }
    return Tracking([int(k) for k in frames], params, R, read("translation", T, 3), scale)


def camera(
    K: Float[np.ndarray, "3 3"], w2c: Float[np.ndarray, "4 4"], tracking: Tracking, t: int, video: VideoInfo
) -> Camera:
    """The camera of frame t as FLAME in metres sees it: world to camera after model to world, all over the scale."""
    viewmat = np.eye(4)
    viewmat[:3, :3] = w2c[:3, :3] @ tracking.R[t]
    viewmat[:3, 3] = (w2c[:3, :3] @ tracking.translation[t] + w2c[:3, 3]) / tracking.scale
    at_size = Camera(torch.from_numpy(K).float(), torch.from_numpy(viewmat).float(), SIZE, SIZE)
    return at_size.resized(video.width, video.height)


@dataclass
class Part:
    """One sequence that can be written."""

    name: str
    video: VideoInfo
    mattes: Path
    tracking: Path


def read_calibration(path: Path) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Intrinsics and world-to-camera of the task's camera. Raises FileNotFoundError; ValueError naming the field."""
    params = unique_json(path)
    return tuple(
        check(field(field(params, name, str(path)), SERIAL, f"{path}: {name}"), f"{path}: {name}.{SERIAL}")
        for name, check in (("intrinsics", intrinsics), ("world_2_cam", rigid))
    )


def _plan(source: Path, held_out: list[str] = ()) -> tuple[Report, list[Part]]:
    report, parts = Report(), []
    folders = sorted(p for p in (source / "sequences").glob("*") if p.is_dir())
    for folder in folders:
        video, mattes = (folder / kind / f"cam_{SERIAL}.mp4" for kind in ("images", "alpha_maps"))
        tracking = next((p for name in TRACKING if (p := folder / "tracking" / name).is_file()), None)
        others = sorted(p.name for p in (folder / "tracking").glob("*.npz"))
        if tracking is None and others:
            raise ValueError(f"{folder / 'tracking'}: {others} is of an unknown FLAME version, known are {TRACKING}")
        if not video.is_file():
            report.found.append(f"{folder.name}: no pictures ({'held out by the benchmark' if tracking else 'empty'})")
            continue
        for path, what in ((mattes, "matte video"), (tracking or folder / "tracking" / TRACKING[0], "tracking")):
            if not path.is_file():
                report.missing.append(f"{path}: the {what} of {folder.name}; download the benchmark's assets again")
        if tracking and mattes.is_file():
            count = counted(len(read_tracking(tracking).frames), "tracked frame")
            report.found.append(f"{folder.name}: {count}, {tracking.name}")
            info = probe(video)
            if info.width != info.height:
                raise ValueError(f"{video} is {info.width} x {info.height} px, the task's pictures are square")
            parts.append(Part(folder.name, info, mattes, tracking))
    unknown = sorted(set(held_out) - {part.name for part in parts})
    if unknown:
        report.missing.append(f"--held-out {unknown[0]}: no such sequence with pictures in {source / 'sequences'}")
    calibration = source / "calibration" / "camera_params.json"
    if calibration.is_file():
        read_calibration(calibration)
    else:
        report.missing.append(f"{calibration}: comes with each participant")
    if not parts:
        report.missing.append(f"{source / 'sequences'}: no sequence with pictures, mattes and tracking")
    if not report.missing:
        test = sum(part.name in held_out for part in parts)
        train = counted(len(parts) - test, "sequence")
        report.will_write = [f"{source.name}: {train} for training, {test} for test, {BASIS}"]
    return report, parts


def inspect(source: Path, **options) -> Report:
    """What is there and what is missing. Raises ValueError for malformed tracking."""
    return _plan(source, **options)[0]


def _records(source: Path, parts: list[Part], held_out: list[str]) -> Iterator[Record]:
    K, w2c = read_calibration(source / "calibration" / "camera_params.json")
    timestep, zero = 0, torch.zeros(1, 3)
    for part in parts:
        tracking = read_tracking(part.tracking)
        pictures, mattes = (pick(read_frames(p), tracking.frames, p) for p in (part.video.path, part.mattes))
        for t, ((frame, picture), (_, matte)) in enumerate(zip(pictures, mattes, strict=True)):
            codes = {name: torch.from_numpy(values[t : t + 1]).float() for name, values in tracking.params.items()}
            yield Record(
                image=picture,
                mask=np.ascontiguousarray(matte[..., 0]),
                camera=camera(K, w2c, tracking, t, part.video),
                params=codes | {"rotation": zero, "translation": zero},
                face_box=matte_box(matte[..., 0], f"{part.mattes}, frame {frame}"),
                split="test" if part.name in held_out else "train",
                timestep=timestep,
                camera_index=0,
                extra={"camera_id": SERIAL, "sequence": part.name, "video_frame": frame},
            )
            timestep += 1


def convert(source: Path, out: Path, held_out: list[str] = ()) -> list[Path]:
    """Write all sequences of the participant as one dataset to `out`, whole or not at all.

    Raises FileNotFoundError with everything that is missing; ValueError for what is malformed; FileExistsError if
    `out` holds something else than a dataset.
    """
    report, parts = _plan(source, held_out)
    require(report, out)
    with whole_folder(out) as part:
        write_sequence(part, _records(source, parts, held_out), BASIS)
    return [out]
