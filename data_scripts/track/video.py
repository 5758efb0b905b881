"""Videos with PyAV: the reader of the tracker and of the unpacking of its committed result, and a writer for all."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

MIN_SIDE = 128  # px: a smaller picture holds no face worth fitting
MIN_FRAMES = 24  # fewer give no split into training and held-out frames
FINE = 10  # libx264's CRF at which its own errors do not show


@dataclass
class VideoInfo:
    """What a file says about itself, after rotation."""

    path: Path
    width: int  # px
    height: int  # px
    fps: float
    frames: int  # as the container states it; 0 where it does not


def probe(path: Path | str) -> VideoInfo:
    """Open a video and decode its first frame.

    Raises FileNotFoundError if there is no such file; ValueError if it is no video, or its pictures are too small.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video stream: give a file with pictures in it")
            stream = container.streams.video[0]
            fps, frames = float(stream.average_rate or stream.guessed_rate or 25), stream.frames
        height, width = next(read_frames(path)).shape[:2]
    except (av.FFmpegError, StopIteration) as error:
        raise ValueError(f"{path} cannot be decoded ({error}): convert it to H.264 MP4 and try again") from error
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{path} is {width} x {height}: at least {MIN_SIDE} pixels a side are needed")
    return VideoInfo(path, width, height, fps, frames)


def read_frames(path: Path | str) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """RGB frames in order of presentation, turned upright as the file's rotation tag asks.

    Raises ValueError at the first frame that is damaged or of another size than the first.
    """
    shape, index = None, -1
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for index, frame in enumerate(container.decode(video=0)):
                if frame.is_corrupt:
                    raise ValueError(f"{path}: frame {index} is damaged; cut the video before it or convert it again")
                picture = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                shape = shape or picture.shape
                if picture.shape != shape:
                    raise ValueError(f"{path}: frame {index} is {picture.shape[1::-1]}, the first {shape[1::-1]} px")
                yield np.ascontiguousarray(picture)
    except av.FFmpegError as error:
        raise ValueError(f"{path}: decoding stops after frame {index} ({error}); convert the video again") from error


def write_frames(
    path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], fps: Fraction, lossless: bool = False
) -> int:
    """Write an H.264 MP4; returns how many frames. `lossless` keeps every RGB value, otherwise 4:2:0 at FINE.

    Raises ValueError if there is no frame, or one is of another size than the first (it would be stretched without a
    word).
    """
    count = 0
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast"} | ({"qp": "0"} if lossless else {"crf": str(FINE)})
        stream = container.add_stream("libx264rgb" if lossless else "libx264", fps, options=options)
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        for count, frame in enumerate(frames, 1):
            height, width = frame.shape[:2]
            if count == 1:
                stream.width, stream.height = width, height
            if (width, height) != (stream.width, stream.height):
                raise ValueError(
                    f"{path.stem}: frame {count - 1} is {width} x {height} px, the first {stream.width} x "
                    f"{stream.height}"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        if not count:
            raise ValueError(f"{path.stem}: no frame to write")
        container.mux(stream.encode())
    return count


def check_count(info: VideoInfo, decoded: int) -> None:
    """Raise ValueError if a video is too short, or ended before the number of frames that its header states."""
    if decoded < 0.95 * info.frames:
        raise ValueError(
            f"{info.path}: only {decoded} of {info.frames} frames decode, the file is cut off: copy it again"
        )
    if decoded < MIN_FRAMES:
        raise ValueError(f"{info.path} has {decoded} frames: too short, at least {MIN_FRAMES} are needed")
