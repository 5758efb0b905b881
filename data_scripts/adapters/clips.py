"""From clips to sequences: cut each one out, have it tracked, keep the frames that count. Resumable clip by clip.

The datasets of web videos hold pixels and boxes, no codes. So each clip goes through three steps:

1. cut: the clip's span and square become OUT/clips/NAME.mp4 (a clip that is a video of its own is used as it is);
2. codes: the tracker of `make track` follows it, or --tracked names a folder with a dataset per clip, for example what
   `python -m data_scripts.adapters gagavatar_track` made of GAGAvatar_track's output for these videos;
3. take: evenly spaced frames of it, all in one split, become the dataset OUT/NAME, bit for bit.

OUT/clips.jsonl gets a line per clip and run. A second run goes on where the first stopped: a clip that is written is
left alone unless it is now of another split or --frames or there are codes of another origin, one that failed is not
tried again without --retry. OUT/manifest.json lists the datasets, for `sa0lib.datasets.Collection`. OUT/clips may be
deleted when all is written.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from math import inf
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_scripts.adapters.fields import read_picture
from data_scripts.adapters.files import safe_name
from data_scripts.adapters.report import counted
from data_scripts.adapters.videos import Crop, frame_rate, numbered_pictures, read_span, write_video
from data_scripts.track.__main__ import track_video
from data_scripts.track.choose import TRACK_PYTHON
from data_scripts.track.dataset import write_dataset
from sa0lib.datasets import Sequence, check_replaceable, index_sequence, whole_folder, write_manifest
from sa0lib.datasets.layout import SPLITS, inside
from sa0lib.datasets.manifest import NAME, SequenceEntry, Span
from sa0lib.head import load_head
from sa0lib.paths import ASSETS

FOLDER, LOG = "clips", "clips.jsonl"
FPS = Fraction(25)  # of clips that come as pictures: their folders do not say, and only smoothing in time depends on it
KEPT = ("canonical_flame_param.npz", "report.json", "contact_sheet.png")  # files of a tracked clip worth keeping


@dataclass(frozen=True)
class ListedClip:
    """One clip of a dataset. Raises ValueError for a name that cannot be a folder's."""

    name: str  # of the dataset below OUT
    source: Path  # a video, or a folder of numbered pictures
    identity: str  # who is seen, as far as the dataset tells: clips of one video share it
    start: float = 0.0  # s
    end: float = inf  # s
    crop: Crop | None = None  # None keeps whole pictures
    split: str = "train"  # where all of its frames go

    def __post_init__(self):
        if safe_name(self.name, "clip") == FOLDER or not NAME.fullmatch(self.name):
            raise ValueError(f"a clip cannot be called {self.name!r}: no dots, and {FOLDER!r} holds the cut videos")

    @property
    def whole(self) -> bool:
        """Is the source this clip and nothing else?"""
        return self.source.is_file() and self.crop is None and (self.start, self.end) == (0.0, inf)


@dataclass(frozen=True)
class ClipOptions:
    """Where codes come from, and how many frames are kept. Raises ValueError if that is none."""

    frames: int | None = None  # evenly spaced frames of each clip; None keeps all
    tracked: Path | None = None  # a dataset per clip, made elsewhere
    python: Path = TRACK_PYTHON  # interpreter with MediaPipe, for the tracker of this project
    head: Path = ASSETS / "open_head.npz"  # the head that it fits
    retry: bool = False  # try clips again that failed before

    def __post_init__(self):
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"--frames must be positive, not {self.frames}")

    @property
    def can_track(self) -> bool:
        return self.python.is_file()

    @cached_property
    def model(self):
        return load_head(self.head)


def add_arguments(parser: argparse.ArgumentParser, frames: int) -> None:
    """The options that all datasets of clips share, and below them the steps of their way."""
    parser.epilog = __doc__
    parser.add_argument("--frames", type=int, default=frames, help=f"evenly spaced frames a clip; default {frames}")
    parser.add_argument("--tracked", type=Path, help="a folder with a dataset per clip, instead of tracking here")
    parser.add_argument("--python", type=Path, default=TRACK_PYTHON, help="interpreter with MediaPipe, for tracking")
    parser.add_argument("--head", type=Path, default=ASSETS / "open_head.npz", help="OpenHead's npz, for tracking")
    parser.add_argument("--retry", action="store_true", help="try again what failed in an earlier run")


def cut(clip: ListedClip, folder: Path) -> Path:
    """The clip as a video of its own: lossless from pictures, visually lossless from a video. Kept if it is there.

    Raises FileNotFoundError; ValueError for damaged, missing or too few frames, or a square outside the picture.
    """
    path = folder / f"{clip.name}.mp4"
    if clip.whole:
        return clip.source
    if path.is_file():
        return path
    if clip.source.is_dir():
        pictures = (np.asarray(read_picture(p).convert("RGB")) for p in numbered_pictures(clip.source))
        write_video(path, pictures, FPS, clip.crop, lossless=True)
    else:
        frames = read_span(clip.source, clip.start, clip.end)
        write_video(path, frames, frame_rate(clip.source), clip.crop, lossless=False)
    return path


def take(tracked: Path, part: Path, split: str, frames: int | None) -> int:
    """Copy evenly spaced frames of a dataset, of all its splits, into the one `split` of `part`; returns how many."""
    splits = [name for name in SPLITS if (tracked / f"transforms_{name}.json").is_file()]
    entries = [entry for name in splits for entry in Sequence(tracked, name).entries]  # checks: paths stay in `tracked`
    entries.sort(key=lambda entry: (entry["timestep_index"], entry.get("camera_index", 0)))
    count = min(frames or len(entries), len(entries))
    chosen = [entries[i] for i in np.linspace(0, len(entries) - 1, count).round().astype(int)]
    for entry in chosen:
        for name in ("file_path", "fg_mask_path", "flame_param_path"):
            path = inside(tracked, entry[name], name)  # without .. and not absolute, which would lead out of `part`
            entry[name] = path.relative_to(tracked.resolve()).as_posix()
            (part / entry[name]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tracked / entry[name], part / entry[name])
    for name in KEPT:
        if (tracked / name).is_file():
            shutil.copyfile(tracked / name, part / name)
    for name in SPLITS:
        text = json.dumps({"frames": chosen if name == split else []}, indent=1)
        (part / f"transforms_{name}.json").write_text(text)
    return len(chosen)


def _last(log: Path) -> dict[str, dict]:
    """Clip -> its last line in the log. A line that an interruption cut off does not count."""
    lines = {}
    for line in log.read_text(encoding="utf8").splitlines() if log.is_file() else ():
        try:
            entry = json.loads(line)
            lines[entry["clip"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def _entry(line: dict) -> SequenceEntry:
    """What a log line keeps for the manifest, so that no dataset is hashed twice."""
    spans = {split: Span(**(span | {"cameras": tuple(span["cameras"])})) for split, span in line["splits"].items()}
    return SequenceEntry(**(line | {"splits": spans}))


def dataset_of(clip: ListedClip, tracked: Path) -> Path | None:
    """A clip's dataset in --tracked: NAME, or NAME/NAME as GAGAvatar_track's adapter nests its videos."""
    places = (tracked / clip.name, tracked / clip.name / clip.name)
    return next((place for place in places if (place / "transforms_train.json").is_file()), None)


def _carry(clip: ListedClip, out: Path, codes: ClipOptions) -> dict:
    """Take one clip as far as possible; returns its log line. Raises ValueError, FileNotFoundError, FileExistsError."""
    tracked = dataset_of(clip, codes.tracked) if codes.tracked else None
    if tracked is None:
        video = cut(clip, out / FOLDER)
        if codes.tracked or not codes.can_track:
            return {"clip": clip.name, "state": "cut", "video": str(video)}
    with tempfile.TemporaryDirectory(dir=out, prefix=".tracking-") as folder:
        if tracked is None:
            tracked = Path(folder) / clip.name
            write_dataset(track_video(video, codes.model, codes.python), video, tracked, codes.model, with_video=False)
        with whole_folder(out / clip.name) as part:
            take(tracked, part, clip.split, codes.frames)
    entry = index_sequence(out, clip.name, clip.identity, extra={"source": clip.source.name})
    return {"clip": clip.name, "state": "written", **_asked(clip, codes), "entry": asdict(entry)}


def _asked(clip: ListedClip, codes: ClipOptions) -> dict:
    """What a written clip must agree with, or it is written anew.

    An old split would leak test videos into training, and codes of several heads make no collection. Where there are no
    other codes, those that it has stay.
    """
    origin = codes.model.basis if codes.can_track else None
    if codes.tracked:
        origin = dataset_of(clip, codes.tracked.resolve())
    return {"split": clip.split, "frames": codes.frames} | ({"codes": str(origin)} if origin else {})


def convert_clips(world: str, clips: list[ListedClip], out: Path, codes: ClipOptions) -> list[Path]:
    """Take every clip as far as possible; returns the datasets that exist now and the videos that wait for codes.

    A clip that cannot be cut or tracked is logged with its reason and does not stop the others. `world` is the
    manifest's name of the collection.

    Raises FileNotFoundError if there is no clip; FileExistsError if `out` holds something else than an earlier run;
    ValueError if two clips have one name, nothing came of any clip, or the codes belong to different heads;
    RuntimeError if the tracker itself does not work.
    """
    log = out / LOG
    check_replaceable(out, LOG)
    if not clips:
        raise FileNotFoundError("none of the listed clips' videos is here: a dry run says what is missing")
    names = [clip.name for clip in clips]
    if len(set(names)) < len(names):
        raise ValueError(f"two clips are called {next(n for n in names if names.count(n) > 1)!r}; remove one")
    if codes.can_track and not codes.tracked:
        codes.model  # noqa: B018  a missing head must stop the run, not fail every clip
        torch.set_num_threads(1)  # the tracker solves thousands of small systems: threads would wait for each other
    out.mkdir(parents=True, exist_ok=True)
    last, entries, waiting, reasons = _last(log), [], [], []
    with open(log, "a", encoding="utf8") as file:
        file.write("\n" if file.tell() and not log.read_bytes().endswith(b"\n") else "")  # after a cut-off line
        for clip in tqdm(clips, "clips", unit="clip", disable=len(clips) < 2):
            line = last.get(clip.name, {})
            written = (out / clip.name / "transforms_train.json").is_file() and line.get("state") == "written"
            written = written and line.items() >= _asked(clip, codes).items()
            if not written and (line.get("state") != "failed" or codes.retry):
                try:
                    line = _carry(clip, out, codes)
                except (ValueError, FileNotFoundError, FileExistsError) as error:  # others are not the clip's fault
                    line = {"clip": clip.name, "state": "failed", "why": str(error)}
                file.write(json.dumps(line) + "\n")
                file.flush()
            if line["state"] == "failed":
                reasons.append(f"{clip.name}: {line['why']}")
            elif line["state"] == "cut":
                waiting.append(Path(line["video"]))
            else:
                entries.append(_entry(line["entry"]))
    if reasons:
        failed = f"{len(reasons)} of {counted(len(clips), 'clip')} failed"
        print(f"{failed} (--retry tries again), the first is {reasons[0]}")
    if not entries and not waiting:
        raise ValueError(f"{out}: nothing came of {counted(len(clips), 'clip')}; {reasons[0]}")
    if waiting:
        print(f"{counted(len(waiting), 'clip')} cut, not tracked: {hint(codes)}")
    if entries:
        write_manifest(out, {"name": world}, entries)
    return [out / entry.name for entry in entries] + waiting


def hint(codes: ClipOptions) -> str:
    """What brings codes to clips that are cut."""
    if codes.tracked:
        return f"{codes.tracked} has no dataset for some clips; track their videos, then run the same command again"
    return (
        f"{codes.python} is missing: `make .venv-track/installed` creates it, then the same command goes on; or track "
        f"the videos in OUT/{FOLDER} with GAGAvatar_track, convert that with its adapter and give --tracked"
    )
