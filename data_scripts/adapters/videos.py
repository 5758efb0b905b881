"""Frames out of videos and folders of pictures, squares out of frames, and clips back into videos."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_scripts.track.video import write_frames

SLACK = 0.5  # s by which a video may end before a clip does: time stamps are rounded, a re-upload is another length

Square = tuple[int, int, int]  # px: x0, y0, side
Crop = Callable[[int, int], Square]  # (width, height) of a picture -> the square to be kept


def pick(frames: Iterable[np.ndarray], wanted: Iterable[int], path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted of a video's frames, with their numbers. Raises ValueError if it ends before the last."""
    left = set(wanted)
    for k, frame in enumerate(frames):
        if k in left:
            left.remove(k)
            yield k, frame
        if not left:
            return
    raise ValueError(f"{path}: it ends before frame {min(left)}, which the codes belong to; is it cut off?")


def resize(picture: UInt8[np.ndarray, "H W *C"], width: int, height: int) -> UInt8[np.ndarray, "h w *C"]:
    """Area average, as the reader of datasets reduces pictures."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def numbered_pictures(folder: Path) -> list[Path]:
    """The folder's NNNNNNNN.png or .jpg in the order of their numbers. Raises ValueError for a gap or a second file."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if re.fullmatch(r"\d+\.(png|jpg)", path.name):
            if int(path.stem) in found:
                raise ValueError(f"{path} and {found[int(path.stem)].name} have the same number; remove one")
            found[int(path.stem)] = path
    if found:
        gaps = [k for k in range(min(found), max(found) + 1) if k not in found]
        if gaps:
            raise ValueError(f"{folder}: picture number {gaps[0]} is missing of {min(found)} to {max(found)}")
    return [found[k] for k in sorted(found)]


def read_span(path: Path, start: float, end: float) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """RGB frames of a video shown at start <= t < end, in seconds from its beginning.

    Raises FileNotFoundError; ValueError for a damaged video, or one that ends before the span does (a re-upload under
    the same name often has another length).
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    last = -1.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            zero = (container.start_time or 0) / av.time_base  # FFmpeg counts from the first time stamp, so do lists
            container.seek(int((start + zero) * av.time_base), backward=True)
            for frame in container.decode(stream):
                if frame.is_corrupt or frame.time is None:
                    raise ValueError(f"{path}: the frame after {max(last, 0):.2f} s is damaged; get the video again")
                last = frame.time - zero
                if last >= end - 1e-6:
                    return
                if last >= start - 1e-6:
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
    except av.FFmpegError as error:
        raise ValueError(f"{path}: cannot be decoded after {max(last, 0):.2f} s ({error}); get it again") from error
    if np.isfinite(end) and last < end - SLACK:
        raise ValueError(f"{path} ends at {last:.2f} s, the clip at {end:.2f} s: it is cut off or another upload")


def frame_rate(path: Path) -> Fraction:
    """Frames per second of a video. Raises ValueError if it is none."""
    try:
        with av.open(str(path)) as container:
            return Fraction(container.streams.video[0].average_rate or 25)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} cannot be opened as a video ({error}); get it again") from error


def write_video(path: Path, frames: Iterable[np.ndarray], fps: Fraction, crop: Crop | None, lossless: bool) -> int:
    """Write frames, cropped to a square, as MP4, whole or not at all; returns how many.

    `lossless` keeps every RGB value; otherwise 4:2:0, see the tests for what it costs. Raises ValueError if there is
    no frame, the square does not fit into one, or one is of another size than the first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    def squares() -> Iterator[UInt8[np.ndarray, "S S 3"]]:
        for frame in frames:
            height, width = frame.shape[:2]
            x0, y0, side = crop(width, height)
            if x0 < 0 or y0 < 0 or side < 2 or x0 + side > width or y0 + side > height:
                raise ValueError(f"{path.stem}: the square {x0, y0, side} px leaves a {width} x {height} picture")
            yield frame[y0 : y0 + side, x0 : x0 + side]

    with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        part = Path(folder, path.name)
        count = write_frames(part, squares() if crop else frames, fps, lossless)
        os.replace(part, path)
    return count
