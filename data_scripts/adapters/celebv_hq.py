"""CelebV-HQ: the list of clips, and the videos of it that you have, become a dataset per clip.

You need a folder with `celebvhq_info.json` (from the project's page; non-commercial research only, not to be passed
on) and videos that you obtained yourself: `raw/<ytb_id>.mp4` as uploaded, or `processed/<clip id>.mp4` as the
project's script cuts them (both may also lie in the folder itself). Many of the uploads are gone; a dry run lists what
is here and what is not. Nothing is downloaded.

A clip is cut where its frames' times lie in start_sec <= t < end_sec, and cropped as the project's script does it: the
box grown by 0.02 on each side, in whole pixels, then the largest square in its middle (so the longer side loses), at
even pixels as FFmpeg crops 4:2:0 video. The tracker then chooses its own square within. The list names no identities,
only videos: the held-out clips are those of a share of the videos, drawn by a checksum of their id, so that no video
is on both sides. The paper's own held-out slice and its frames per clip are not public.
"""

import argparse
from functools import partial
from math import inf
from pathlib import Path
from zlib import crc32

from data_scripts.adapters import clip_report, clips
from data_scripts.adapters.clips import ClipOptions, ListedClip
from data_scripts.adapters.fields import field, numbers
from data_scripts.adapters.files import safe_name, unique_json
from data_scripts.adapters.report import Report, counted
from data_scripts.adapters.videos import Square

NAME = "celebv_hq"
INFO = "celebvhq_info.json"
MARGIN = 0.02  # of the picture, added to each side of a box
SIDES = ("top", "bottom", "left", "right")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this adapter."""
    clips.add_arguments(parser, frames=32)
    parser.add_argument("--held-out", type=float, default=0.01, help="share of the videos for the test split; 0.01")


def square(box: tuple[float, float, float, float], width: int, height: int) -> Square:
    """The project's crop of a picture in px, from a box (top, bottom, left, right) in shares of the picture."""
    top, bottom = round(max(box[0] - MARGIN, 0) * height), round(min(box[1] + MARGIN, 1) * height)
    left, right = round(max(box[2] - MARGIN, 0) * width), round(min(box[3] + MARGIN, 1) * width)
    half = min(bottom - top, right - left) // 2
    x0, y0 = int((left + right) / 2 - half), int((top + bottom) / 2 - half)
    return x0 - x0 % 2, y0 - y0 % 2, 2 * half


def read_info(path: Path) -> dict[str, tuple[str, float, float, tuple[float, float, float, float]]]:
    """Clip id -> (video id, start s, end s, box). Raises FileNotFoundError; ValueError naming clip and field."""
    table = {}
    entries = field(unique_json(path), "clips", str(path))
    if not isinstance(entries, dict):
        raise ValueError(f"{path}: clips must be an object with a clip per id")
    for name, entry in entries.items():
        where = f"{path}: clips.{name}"
        safe_name(name, f"{path}: clips")
        video = safe_name(field(entry, "ytb_id", where), f"{where}.ytb_id")
        span, box = field(entry, "duration", where), field(entry, "bbox", where)
        start, end = (
            float(numbers(field(span, k, f"{where}.duration"), (), f"{where}.duration.{k}"))
            for k in ("start_sec", "end_sec")
        )
        if not 0 <= start < end:
            raise ValueError(f"{where}.duration is {start} to {end} s: it must begin at 0 or later and end after that")
        sides = [float(numbers(field(box, k, f"{where}.bbox"), (), f"{where}.bbox.{k}")) for k in SIDES]
        for k, value in zip(SIDES, sides, strict=True):
            if not 0 <= value <= 1:
                raise ValueError(f"{where}.bbox.{k} is {value}: boxes are in shares of the picture, 0 to 1")
        if sides[0] >= sides[1] or sides[2] >= sides[3]:
            raise ValueError(f"{where}.bbox is inverted or empty: {dict(zip(SIDES, sides, strict=True))}")
        table[name] = (video, start, end, tuple(sides))
    return table


def find_clips(source: Path, held_out: float) -> tuple[Report, list[ListedClip]]:
    """The listed clips whose video is here. Raises FileNotFoundError; ValueError for a malformed list."""
    if not 0 <= held_out <= 1:
        raise ValueError(f"--held-out must be a share from 0 to 1, not {held_out}")
    table, found, gone = read_info(source / INFO), [], []
    for name, (video, start, end, box) in table.items():
        cut = next((p for f in ("processed", ".") if (p := source / f / f"{name}.mp4").is_file()), None)
        raw = next((p for f in ("raw", ".") if (p := source / f / f"{video}.mp4").is_file()), None)
        split = "test" if crc32(video.encode()) < held_out * 2**32 else "train"
        if cut is not None:
            found.append(ListedClip(name, cut, video, 0.0, inf, None, split))
        elif raw is not None:
            found.append(ListedClip(name, raw, video, start, end, partial(square, box), split))
        else:
            gone.append(name)
    videos = counted(len({video for video, *_ in table.values()}), "video")
    report = Report(found=[f"{INFO}: {counted(len(table), 'clip')} of {videos}"])
    if gone:
        report.found.append(clip_report.not_here(gone, len(table)))
    return report, found


def inspect(source: Path, held_out: float = 0.01, **options) -> Report:
    """What is here and what is missing. Raises ValueError for a malformed list."""
    report, found = find_clips(source, held_out)
    return clip_report.inspect_clips(found, report, ClipOptions(**options))


def convert(source: Path, out: Path, held_out: float = 0.01, **options) -> list[Path]:
    """A dataset per clip below `out`, or its video if there is no tracker; see `clips.convert_clips`."""
    _, found = find_clips(source, held_out)
    return clips.convert_clips(NAME, found, out, ClipOptions(**options))
