"""HDTF: the lists of talking-head clips, and the videos of it that you have, become a dataset per clip.

You need a folder with the lists of the project's repository (CC-BY-4.0; in it or in HDTF_dataset/ below it): RD_, WDA_
and WRA_ `video_url.txt`, `annotion_time.txt`, `crop_wh.txt` and `resolution.txt`; and videos that you obtained
yourself: `_videos_raw/<SET>_<video>.mp4` as uploaded, or `<SET>_<video>_<clip:03d>.mp4` cut and cropped already (so
the repository's script names them; `<video>.mp4` and `<video>_<clip>.mp4`, as its readme has it, are found too).
Nothing is downloaded.

Times are minutes:seconds from the video's beginning, a clip's number is its place in the line of times, and a crop is
x, width, y, height in pixels of the listed resolution (a height): for a video of another height it is scaled. By
default only the 19 clips of the published evaluations are made, 100 evenly spaced frames each, all in the test split;
how "evenly" was meant there is not public: here the first and the last frame are among them.
"""

import argparse
from functools import partial
from math import inf
from pathlib import Path

from data_scripts.adapters import clip_report, clips
from data_scripts.adapters.clips import ClipOptions, ListedClip
from data_scripts.adapters.files import safe_name
from data_scripts.adapters.report import Report, counted
from data_scripts.adapters.videos import Square

NAME = "hdtf"
SETS = ("RD", "WDA", "WRA")
TEST_FRAMES = 100
ROUNDING = 2  # px by which a scaled crop may stick out of the picture; it is moved in, a larger excess is refused
TEST_CLIPS = (
    "WRA_ReneeEllmers_000", "WRA_GeoffDavis_000", "WDA_MikeDoyle_000", "WRA_JoePitts_000", "WRA_TimScott_000",
    "WRA_JohnThune_000", "WRA_ToddYoung_000", "WRA_RoyBlunt_000", "WDA_CatherineCortezMasto_000",
    "WRA_ErikPaulsen_000", "WRA_TomPrice_000", "WRA_TomCotton_000", "WRA_EricCantor_000", "WRA_RichardShelby_000",
    "WRA_RobPortman_000", "WDA_MartinHeinrich_000", "WRA_DeanHeller_000", "WRA_VickyHartzler_000",
    "WRA_ReincePriebus_000",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this adapter."""
    clips.add_arguments(parser, frames=TEST_FRAMES)
    parser.add_argument("--all", action="store_true", help="every clip of the lists, not only the 19 for tests")


def square(crop: tuple[int, int, int], resolution: int, width: int, height: int) -> Square:
    """The listed crop (x, y, side) in px of a video `resolution` px high, in px of this one."""
    factor = height / resolution
    x, y, side = (round(value * factor) for value in crop)
    x, y = (low - min(max(low + side - bound, 0), ROUNDING) for low, bound in ((x, width), (y, height)))
    return x, y, side - side % 2


def seconds(text: str, where: str) -> float:
    """ "mm:ss" or "hh:mm:ss" in seconds. Raises ValueError, beginning with `where`."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"{where}: {text!r} is no time like 01:30")
    return float(sum(int(part) * 60**i for i, part in enumerate(reversed(parts))))


def read_list(path: Path) -> dict[str, list[str]]:
    """First word of each line, without .mp4 -> the other words. Raises FileNotFoundError; ValueError if one repeats."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it is in the project's repository")
    table: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        name = safe_name(words[0].removesuffix(".mp4"), f"{path}, line {number}")
        if name in table:
            raise ValueError(f"{path}, line {number}: {name} stands there twice; keep the right line")
        table[name] = words[1:]
    return table


def read_lists(folder: Path, subset: str) -> dict[str, tuple[str, float, float, tuple[int, int, int], int]]:
    """Clip (`SET_video_000`) -> (url, start s, end s, crop (x, y, side) in px, resolution) of one set.

    Clips without crop or resolution are left out, as the project's own script does.
    """
    urls, times, crops, sizes = (
        read_list(folder / f"{subset}_{kind}.txt") for kind in ("video_url", "annotion_time", "crop_wh", "resolution")
    )
    table = {}
    for video, spans in times.items():
        for i, span in enumerate(spans):
            if f"{video}_{i}" not in crops or video not in sizes:
                continue
            where = f"{folder / f'{subset}_annotion_time.txt'}: {video}"
            if span.count("-") != 1:
                raise ValueError(f"{where}: {span!r} is no span like 00:05-02:55")
            start, end = (seconds(text, where) for text in span.split("-"))
            if start >= end:
                raise ValueError(f"{where}: {span!r} ends before it begins")
            where, crop = f"{folder / f'{subset}_crop_wh.txt'}: {video}_{i}", crops[f"{video}_{i}"]
            if len(crop) != 4 or not all(word.isdecimal() for word in crop) or crop[1] != crop[3] or int(crop[1]) < 2:
                raise ValueError(f"{where}: {crop} must be x, width, y, height in px, with width = height")
            x, side, y, _ = map(int, crop)
            if len(sizes[video]) != 1 or not sizes[video][0].isdecimal() or int(sizes[video][0]) < 1:
                raise ValueError(f"{folder / f'{subset}_resolution.txt'}: {video} has {sizes[video]}, not one height")
            url = " ".join(urls.get(video, ["no address"]))
            table[f"{subset}_{video}_{i:03d}"] = (url, start, end, (x, y, side), int(sizes[video][0]))
    return table


def find_clips(source: Path, everything: bool) -> tuple[Report, list[ListedClip]]:
    """The wanted clips whose video is here. Raises FileNotFoundError; ValueError for a malformed list."""
    folder = source / "HDTF_dataset" if (source / "HDTF_dataset").is_dir() else source
    table = {name: entry for subset in SETS for name, entry in read_lists(folder, subset).items()}
    wanted = list(table) if everything else list(TEST_CLIPS)
    unlisted = [name for name in wanted if name not in table]
    found, gone = [], []
    for name in wanted:
        if name in unlisted:
            continue
        url, start, end, crop, resolution = table[name]
        subset, video, index = name.partition("_")[0], name.split("_", 1)[1][:-4], int(name[-3:])
        cut = (source / f"{name}.mp4", source / f"{video}_{index}.mp4")
        raw = [source / f / f"{stem}.mp4" for f in ("_videos_raw", ".") for stem in (f"{subset}_{video}", video)]
        if path := next((p for p in cut if p.is_file()), None):
            found.append(ListedClip(name, path, video, 0.0, inf, None, "test"))
        elif path := next((p for p in raw if p.is_file()), None):
            found.append(ListedClip(name, path, video, start, end, partial(square, crop, resolution), "test"))
        else:
            gone.append(f"{name} ({url})")
    listed = f"{counted(len(table), 'clip')} with time, crop and resolution"
    report = Report(found=[f"{folder}: {listed}, {len(wanted)} wanted"])
    if unlisted:
        report.found.append(f"not in the lists: {len(unlisted)} of {len(wanted)}, {clip_report.listed(unlisted)}")
    if gone:
        report.found.append(clip_report.not_here(gone, len(wanted)))
    return report, found


def inspect(source: Path, all: bool = False, **options) -> Report:
    """What is here and what is missing. Raises FileNotFoundError for a list; ValueError for a malformed one."""
    report, found = find_clips(source, all)
    return clip_report.inspect_clips(found, report, ClipOptions(**options))


def convert(source: Path, out: Path, all: bool = False, **options) -> list[Path]:
    """A dataset per clip below `out`, or its video if there is no tracker; see `clips.convert_clips`."""
    _, found = find_clips(source, all)
    return clips.convert_clips(NAME, found, out, ClipOptions(**options))
