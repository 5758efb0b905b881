"""VFHQ: folders of pictures become a dataset per clip; made for the test split.

You need the folder that holds folders like `Clip+<video id>+P0+C1+F4196-4320` with 00000000.png and so on (from the
project's page, whose terms of use could not be read when this was written: look there).

The test split is 50 clips with 50 frames each in what is published about evaluations on it, although papers count 100
clips. Only the clips right below the folder count, so that copies elsewhere in a download do not, and where they lie
deeper, a dry run names the folders to choose from. Which 50 frames of a longer clip were used is not
public: here they are evenly spaced. All go into the test split; the first frame is the source, and in the order of
names the next clip drives. Pictures reach the tracker without loss, as a video of 25 frames a second, as the folders
do not state a rate.
"""

import argparse
import re
from pathlib import Path

from data_scripts.adapters import clip_report, clips
from data_scripts.adapters.clips import ClipOptions, ListedClip
from data_scripts.adapters.report import Report, counted
from data_scripts.adapters.videos import numbered_pictures

NAME = "vfhq"
TEST_CLIPS, TEST_FRAMES = 50, 50
FOLDER = re.compile(r"Clip\+(?P<video>.+)\+P\d+\+C\d+\+F\d+-\d+")  # video, person, clip, first and last frame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this adapter."""
    clips.add_arguments(parser, frames=TEST_FRAMES)


def find_clips(source: Path) -> tuple[Report, list[ListedClip]]:
    """The clips right below `source`. Raises FileNotFoundError; ValueError for a gap in a clip's numbers."""
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder")
    folders = sorted(p for p in source.iterdir() if p.is_dir() and FOLDER.fullmatch(p.name))
    report = Report()
    if not folders:
        deeper = sorted({str(p.parent) for p in source.glob("*/**/Clip+*") if FOLDER.fullmatch(p.name)})
        where = f"; choose one of {clip_report.listed(deeper)}" if deeper else ""
        report.missing.append(f"{source}: no folder Clip+<video>+P<n>+C<n>+F<n>-<n> right below it{where}")
    else:
        counts = [len(numbered_pictures(folder)) for folder in folders]
        for folder, count in zip(folders, counts, strict=True):
            if not count:
                raise ValueError(f"{folder}: no 00000000.png and so on in it")
        span = counted(max(counts), "frame")
        span = span if min(counts) == max(counts) else f"{min(counts)} to {span}"
        report.found.append(f"{counted(len(folders), 'clip')} of {span} each; the test split has {TEST_CLIPS}")
        if len(folders) < TEST_CLIPS:
            gone = f"{TEST_CLIPS - len(folders)} of the test split's {TEST_CLIPS} clips"
            report.found.append(f"not here: {gone}; the conversion leaves them out")
    named = {folder: FOLDER.fullmatch(folder.name).group("video") for folder in folders}
    return report, [ListedClip(folder.name, folder, video, split="test") for folder, video in named.items()]


def inspect(source: Path, **options) -> Report:
    """What is here and what is missing. Raises FileNotFoundError; ValueError for gaps in a clip's numbers."""
    report, found = find_clips(source)
    return clip_report.inspect_clips(found, report, ClipOptions(**options))


def convert(source: Path, out: Path, **options) -> list[Path]:
    """A dataset per clip below `out`, or its video if there is no tracker; see `clips.convert_clips`.

    Raises FileNotFoundError if there is no clip right below `source`.
    """
    report, found = find_clips(source)
    if not found:
        raise FileNotFoundError(report.missing[0])
    return clips.convert_clips(NAME, found, out, ClipOptions(**options))
