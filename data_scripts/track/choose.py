"""Which frames of a video can be used, and why the others cannot; running the detector that tells."""

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import ConvexHull
from tqdm import tqdm

from data_scripts.track.video import MIN_FRAMES, VideoInfo, check_count, read_frames
from sa0lib.paths import ROOT

TRACK_PYTHON = ROOT / ".venv-track" / "bin" / "python"
DETECT = Path(__file__).with_name("detect.py")
REQUIREMENTS = Path(__file__).with_name("requirements.txt")

SECOND_FACE = 0.4  # a second face of this height relative to the first is a second person, not a poster
SECOND_FACE_FRAMES = 0.02  # share of the frames that may show one before the video is refused
MIN_FACE = 60  # px: a smaller face has no eyelids to track
HAND_MARGIN = 0.3  # s around a hand before the face: it comes and goes blurred, unseen by the detector
OUTSIDE = 0.03  # share of face points that may lie outside the picture
HEAD_GROWTH = 1.25  # the face oval grown by this is the head that a hand may not touch
NECK = 0.45  # of the face's height, below the chin, belongs to it as well


def run_detector(info: VideoInfo, python: Path = TRACK_PYTHON) -> dict[str, np.ndarray]:
    """Stream a video through `detect.py` in its own environment; returns its arrays.

    Raises what `detect_frames` does, and ValueError for a damaged, cut-off or too short video.
    """
    decoded = 0

    def frames() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        nonlocal decoded
        for frame in tqdm(read_frames(info.path), "detect", info.frames or None, unit="frame"):
            yield frame
            decoded += 1

    found = detect_frames(frames(), info.width, info.height, python)
    check_count(info, decoded)
    return found


def detect_frames(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]], width: int, height: int, python: Path = TRACK_PYTHON
) -> dict[str, np.ndarray]:
    """Stream pictures of one size through `detect.py`.

    Raises FileNotFoundError without its environment, RuntimeError with its last words if it fails.
    """
    if not Path(python).is_file():
        raise FileNotFoundError(
            f"{python}: the tracker's own environment is missing. `make track` creates it; by hand: "
            f"python3.11 -m venv {ROOT / '.venv-track'} && pip install -r {REQUIREMENTS} with its pip"
        )
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+b") as log:
        out = Path(folder) / "detections.npz"
        command = [str(c) for c in (python, DETECT, out, "--width", width, "--height", height)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            for frame in frames:
                child.stdin.write(np.ascontiguousarray(frame).data)
            child.stdin.close()
            failed = child.wait() != 0
        except BrokenPipeError:
            failed = child.wait() is not None
        finally:
            child.kill()
            child.wait()
        if failed:
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines()[-5:]
            raise RuntimeError("the face detector failed:\n  " + "\n  ".join(words))
        with np.load(out) as file:
            return {key: file[key] for key in file.files}


def overlaps(points: Float[np.ndarray, "P 2"], polygon: Float[np.ndarray, "Q 2"]) -> bool:
    """Whether the convex hulls of two point sets meet: no edge normal of either separates them."""
    for hull in (ConvexHull(points), ConvexHull(polygon)):
        normals = hull.equations[:, :2]  # [E, 2]
        a, b = points @ normals.T, polygon @ normals.T  # [P, E], [Q, E]
        if ((a.min(0) > b.max(0)) | (b.min(0) > a.max(0))).any():
            return False
    return True


def head_region(face: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, "N 2"]:
    """The face's outline grown to the head, and a piece of neck below it along the face's own axis."""
    oval = face[ConvexHull(face).vertices]  # [E, 2]
    center = face.mean(0)
    down = face[152] - face[10]  # forehead to chin
    return np.concatenate([center + HEAD_GROWTH * (oval - center), oval + NECK * down])


def widen(flags: Bool[np.ndarray, " N"], margin: int) -> Bool[np.ndarray, " N"]:
    """Every flag spread to `margin` neighbours on both sides."""
    return np.convolve(flags, np.ones(2 * margin + 1), "full")[margin : margin + len(flags)] > 0.5


def left_out(
    faces: Float[np.ndarray, "N 2 478 2"], hands: Float[np.ndarray, "N H 21 2"], info: VideoInfo
) -> list[str | None]:
    """For every frame the reason why it cannot be used, or None.

    Raises ValueError if no frame has a face, if a second person is in the picture, or if the face is too small.
    """
    heights = np.ptp(faces[..., 1], axis=2)  # [N, 2]
    seen = ~np.isnan(heights[:, 0])
    if not seen.any():
        raise ValueError(f"{info.path}: no face in any of its {len(faces)} frames; give a video of one frontal face")
    if np.median(heights[seen, 0]) < MIN_FACE:
        raise ValueError(
            f"{info.path}: the face is {np.median(heights[seen, 0]):.0f} px high, at least {MIN_FACE} are needed; "
            "crop the video around it, or use a higher resolution"
        )
    centers = faces.mean(2)  # [N, 2, 2]
    apart = np.abs(centers[:, 1] - centers[:, 0]).max(-1) > 0.5 * heights[:, 0]  # else one face found twice
    second = np.nan_to_num(heights[:, 1] / heights[:, 0]) * apart > SECOND_FACE
    if second.mean() > SECOND_FACE_FRAMES:
        raise ValueError(
            f"{info.path}: two faces in {second.sum()} frames, first in frame {second.argmax()} "
            f"({second.argmax() / info.fps:.1f} s); cut or crop the video so that one person is in it"
        )
    size = np.array([info.width, info.height])
    outside = ((faces[:, 0] < 0) | (faces[:, 0] > size)).any(-1).mean(-1)  # [N]
    hand = np.zeros(len(faces), bool)
    for i in np.flatnonzero(seen):
        region = head_region(faces[i, 0])
        hand[i] = any(overlaps(points, region) for points in hands[i] if not np.isnan(points).any())
    near_hand = widen(hand, round(HAND_MARGIN * info.fps))
    reasons: list[str | None] = []
    for i in range(len(faces)):
        if not seen[i]:
            reasons.append("no face")
        elif second[i]:
            reasons.append("second face")
        elif hand[i]:
            reasons.append("hand before the head")
        elif near_hand[i]:
            reasons.append("hand just before or after")
        elif outside[i] > OUTSIDE:
            reasons.append("face leaves the picture")
        else:
            reasons.append(None)
    return reasons


def check_kept(reasons: list[str | None], info: VideoInfo) -> None:
    """Raise ValueError, with the count of every reason, if too few frames are left for a dataset."""
    kept = sum(reason is None for reason in reasons)
    if kept < MIN_FRAMES:
        counts = ", ".join(f"{count} {reason}" for reason, count in Counter(filter(None, reasons)).items())
        raise ValueError(
            f"{info.path}: only {kept} of {len(reasons)} frames can be used, {MIN_FRAMES} are needed ({counts})"
        )


def summary(reasons: list[str | None]) -> str:
    """One line: frames kept, and how many were left out for which reason."""
    counts = Counter("kept" if reason is None else reason for reason in reasons)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
