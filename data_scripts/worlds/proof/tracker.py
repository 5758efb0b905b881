"""Does `make track` get back, from a film of a generated person, the codes and the camera that the film was made with?

Pictures do not tell everything: head size and distance change together, distance and focal length almost, the neutral
face and a constant expression do. What they do tell is compared: where landmarks are, how the face moves over time
without the head's motion, how the head turns, and the neutral face up to size.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor
from tqdm import tqdm

from data_scripts.track.landmarks import GROUPS
from data_scripts.track.video import MIN_FRAMES, write_frames
from data_scripts.worlds.proof.faces import open_sequences, skull_turn
from data_scripts.worlds.worlds import WORLDS
from sa0lib.camera import Camera, intrinsics
from sa0lib.datasets import Sequence
from sa0lib.head import Head
from sa0lib.paths import ROOT

FPS = 1 / Fraction(str(WORLDS["subjects"].seconds))  # the pace at which it was acted
MEASURES = {  # distances between iBUG points, and means of several, that say what a face does
    "mouth opening": ((61, 67), (62, 66), (63, 65)),
    "mouth width": ((48, 54),),
    "jaw drop": ((33, 8),),
    "right eye opening": ((37, 41), (38, 40)),
    "left eye opening": ((43, 47), (44, 46)),
    "brow height": ((19, 36), (21, 39), (22, 42), (24, 45)),
}
# What moves with a smaller standard deviation does not move, and has no correlation.
STILL_MM, STILL_DEGREES, STILL_DEPTH = 0.2, 0.5, 0.002
TOWARDS = np.diag([1.0, -1.0, -1.0])  # camera axes to those of a head that looks into the camera


def clip_frames(folder: Path, head: Head, count: int) -> list[tuple[Sequence, int]]:
    """The first frames of a sequence's first camera, in order of time. Raises ValueError if they are too few."""
    frames = [(s, i) for s in open_sequences(folder, head) for i in range(len(s))]
    first = min((s.camera_index(i) for s, i in frames), default=0)
    frames = [(s, i) for s, i in frames if s.camera_index(i) == first]
    frames = sorted(frames, key=lambda frame: frame[0].timestep(frame[1]))[:count]
    if len(frames) < MIN_FRAMES:
        raise ValueError(f"{folder}: {len(frames)} frames; the tracker needs {MIN_FRAMES}")
    return frames


def video_size(camera: Camera) -> tuple[int, int]:
    """Width and height of a film, px: H.264 wants even numbers, so a last column or row may go."""
    return camera.width // 2 * 2, camera.height // 2 * 2


def film_frames(frames: list[tuple[Sequence, int]]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Pictures for a film."""
    width, height = video_size(frames[0][0].camera(frames[0][1]))
    for sequence, i in tqdm(frames, "film", unit="frame"):
        image = (sequence[i].image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()  # [H, W, 3]
        yield image[:height, :width]


def track_video(video: Path, out: Path, python: Path) -> None:
    """`python -m data_scripts.track`. Raises RuntimeError with its last words if it gives up."""
    command = [sys.executable, "-m", "data_scripts.track", str(video), str(out), "--python", str(python)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    if child.returncode:
        raise RuntimeError((child.stderr.strip().splitlines() or ["the tracker failed"])[-1])


class Film:
    """What a set of codes and cameras says about a film: the true set, or the tracked one.

    Args:
        params: Head.forward's keywords for all T frames.
        cameras: one a frame.
    """

    @torch.no_grad()
    def __init__(self, head: Head, params: dict[str, Tensor], cameras: list[Camera]):
        frames = [({name: v[i : i + 1] for name, v in params.items()}, camera) for i, camera in enumerate(cameras)]
        seen = [camera.project(head.landmarks(head(**p))[0]) for p, camera in frames]
        self.xy = torch.stack([xy for xy, _ in seen]).numpy()  # [T, 68, 2] px
        self.depth = torch.stack([depth.mean() for _, depth in seen]).numpy()  # [T] m
        self.focal = np.array([float(camera.K[0, 0]) for camera in cameras])  # [T] px
        turns = torch.stack([skull_turn(p, camera) for p, camera in frames]).numpy()  # [T, 3, 3]
        self.turn = Rotation.from_matrix(TOWARDS @ turns)  # [T], none: straight into the camera
        face = head.region == head.region_names.index("face")
        at_rest = head(shape=params["shape"], expr=params["expr"], jaw=params["jaw"])  # [T, V, 3] m
        self.landmarks = head.landmarks(at_rest).numpy()  # [T, 68, 3]
        self.face = at_rest[:, face].numpy()  # [T, W, 3]
        self.neutral = head(shape=params["shape"][:1])[0, face].numpy()  # [W, 3]
        self.mean_face = head.v_template[face].numpy()  # [W, 3] of all people
        self.jaw, self.eyes = params["jaw"].numpy(), params["eyes"].numpy()

    def gap(self, pairs: tuple[tuple[int, int], ...]) -> Float[np.ndarray, " T"]:
        """Mean distance of pairs of iBUG points, m."""
        a, b = self.landmarks[:, np.array(pairs)].transpose(2, 0, 1, 3)  # [T, pairs, 3] each
        return np.linalg.norm(a - b, axis=-1).mean(1)


def stacked_params(frames: list[tuple[Sequence, int]]) -> dict[str, Tensor]:
    """Head.forward's keywords of some frames as one batch."""
    params = [sequence.params(i) for sequence, i in frames]
    return {name: torch.cat([p[name] for p in params]) for name in params[0]}


def true_film(head: Head, frames: list[tuple[Sequence, int]]) -> Film:
    """The film as it was made."""
    return Film(head, stacked_params(frames), [sequence.camera(i) for sequence, i in frames])


def tracked_film(head: Head, folder: Path, width: int, height: int) -> tuple[Film, list[int]]:
    """(The film as the tracker saw it in px of the video, the video's frames that it kept)."""
    frames = [(s, i) for s in open_sequences(folder, head) for i in range(len(s))]
    # The dataset's own K is that of a crop; the tracker takes the video's principal point to be in the middle.
    K = intrinsics(json.loads((folder / "report.json").read_text())["focal_px"], width, height)
    cameras = [Camera(K, sequence.camera(i).viewmat, width, height) for sequence, i in frames]
    return Film(head, stacked_params(frames), cameras), [s.entries[i]["video_frame"] for s, i in frames]


def agreement(truth: Float[np.ndarray, " T *D"], other: Float[np.ndarray, " T *D"], still: float) -> dict:
    """How `other` follows the truth over time, each column about its mean, all columns together.

    Pearson's correlation, the slope of `other` on the truth (below 1: the motion is underrated) and the truth's
    standard deviation; None for both where that is not above `still`.
    """
    a, b = truth - truth.mean(0), other - other.mean(0)
    common, power, other_power = (float((x * y).sum()) for x, y in ((a, b), (a, a), (b, b)))
    moves = a.std() > still
    return {
        "correlation": common / np.sqrt(power * other_power) if moves and other_power > 0 else None,
        "slope": common / power if moves else None,
        "true_sd": float(a.std()),
    }


def align(points: Float[np.ndarray, "P 3"], truth: Float[np.ndarray, "P 3"]) -> tuple[float, float]:
    """(Scale, RMS distance left) of the similarity that brings the points closest to the truth."""
    a, b = points - points.mean(0), truth - truth.mean(0)
    turn, _ = Rotation.align_vectors(b, a)
    a = turn.apply(a)
    scale = float((a * b).sum() / (a * a).sum())
    return scale, float(np.sqrt(((scale * a - b) ** 2).sum(1).mean()))


def compare(truth: Film, tracked: Film) -> dict:
    """Errors of a tracked film against the true one, the same frames in both; mm are those of the true head."""
    error = np.linalg.norm(tracked.xy - truth.xy, axis=-1)  # [T, 68] px
    scale, neutral_error = align(tracked.neutral, truth.neutral)
    expression = {
        f"{name} (mm)": agreement(1e3 * truth.gap(pairs), 1e3 * scale * tracked.gap(pairs), STILL_MM)
        for name, pairs in MEASURES.items()
    }
    for name, part in (("landmarks", "landmarks"), ("face vertices", "face")):
        a, b = 1e3 * getattr(truth, part), 1e3 * scale * getattr(tracked, part)  # [T, P, 3] mm, the head at rest
        expression[f"{name}, as seen from the front (mm)"] = agreement(a[..., :2], b[..., :2], STILL_MM)
        expression[f"{name}, in depth (mm)"] = agreement(a[..., 2], b[..., 2], STILL_MM)
    angles = {"jaw": (truth.jaw[:, 0], tracked.jaw[:, 0])}
    for name, part in (("gaze up and down", [0, 3]), ("gaze left and right", [1, 4])):
        angles[name] = (truth.eyes[:, part].mean(1), tracked.eyes[:, part].mean(1))
    for name, pair in angles.items():
        expression[f"{name} (degrees)"] = agreement(*np.rad2deg(pair), STILL_DEGREES)
    off = truth.turn.inv() * tracked.turn  # on the skull's side, where another idea of "straight" is a constant
    euler = [film.turn.as_euler("YXZ", degrees=True) for film in (truth, tracked)]  # [T, 3]
    focal, depth = (float(np.median(getattr(tracked, n) / getattr(truth, n))) for n in ("focal", "depth"))
    relative = [film.depth / film.depth.mean() for film in (truth, tracked)]
    return {
        "landmarks_px": {
            "median": float(np.median(error)),
            "p95": float(np.quantile(error, 0.95)),
            "median_by_group": {name: float(np.median(error[:, part])) for name, part in GROUPS.items()},
            "face_height": float(np.median(np.ptp(truth.xy[..., 1], axis=1))),
        },
        "expression": expression,
        "head_turn": {
            "constant_degrees": float(np.rad2deg(off.mean().magnitude())),
            "median_about_it_degrees": float(np.median(np.rad2deg((off * off.mean().inv()).magnitude()))),
        }
        | {
            f"{name} (degrees)": agreement(euler[0][:, k], euler[1][:, k], STILL_DEGREES)
            for k, name in enumerate(("yaw", "pitch", "roll"))
        },
        "camera": {  # tracked over true; pictures determine well only how large a head appears: size x focal / depth
            "focal_ratio": focal,
            "depth_ratio": depth,
            "head_size_ratio": 1 / scale,
            "apparent_size_ratio": focal / depth / scale,
            "depth_over_time": agreement(relative[0], relative[1], STILL_DEPTH),
        },
        "neutral_face_mm": {
            "tracked": 1e3 * neutral_error,
            "mean_head": 1e3 * align(truth.mean_face, truth.neutral)[1],
        },
    }


def prove_tracker(head: Head, folder: Path, count: int, python: Path, scratch: Path) -> dict:
    """Film one sequence, track it, compare.

    Raises ValueError if the sequence makes no video, RuntimeError if the tracker gives up.
    """
    frames = clip_frames(folder, head, count)
    video, out = scratch / f"{folder.name}.mp4", scratch / folder.name
    write_frames(video, film_frames(frames), FPS)
    track_video(video, out, python)
    tracked, kept = tracked_film(head, out, *video_size(frames[0][0].camera(frames[0][1])))
    truth = true_film(head, [frames[k] for k in kept])
    return {"frames": len(frames), "kept": len(kept), **compare(truth, tracked)}
