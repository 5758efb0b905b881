"""A track and its video become the dataset on disk, with pictures to judge it by."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_scripts.track.choose import summary
from data_scripts.track.landmarks import GROUPS
from data_scripts.track.matte import SIZE, crop, enlarge
from data_scripts.track.track import Track
from data_scripts.track.video import read_frames, write_frames
from sa0lib.datasets import Record, whole_folder, write_sequence
from sa0lib.head import Head
from sa0lib.mesh import overlay

HELD_OUT = 0.2  # share of the kept frames, at the end, that refinement never sees
SHEET = (4, 6)  # frames of the contact sheet
SHEET_SIZE = 256  # px of a picture on it
BEHIND = (0, 158, 115)  # what shows through the matte there


def report(track: Track) -> dict:
    """Everything worth knowing about a track, as JSON: report.json."""
    errors, reasons = track.errors, track.meta["reasons"]
    medians = dict(zip(track.kept.tolist(), np.median(errors, axis=1).tolist(), strict=True))
    return {
        **{key: value for key, value in track.meta.items() if key != "reasons"},
        "summary": summary(reasons),
        "focal_px": track.fit.focal,
        "reprojection_px": {
            "scale": f"{SIZE} x {SIZE} crop, {errors.shape[1]} iBUG points",
            "median": float(np.median(errors)),
            "p95": float(np.quantile(errors, 0.95)),
            "median_by_group": {name: float(np.median(errors[:, part])) for name, part in GROUPS.items()},
        },
        "frames": [
            {"frame": i, "kept": True, "median_px": medians[i]} if reason is None else
            {"frame": i, "kept": False, "reason": reason}
            for i, reason in enumerate(reasons)
        ],
    }  # fmt: skip


def records(track: Track, video: Path) -> Iterator[Record]:
    """The dataset's entries: the last `HELD_OUT` of the kept frames are the test split."""
    first_test = round(len(track.kept) * (1 - HELD_OUT))
    place = {int(frame): i for i, frame in enumerate(track.kept)}
    for k, frame in enumerate(read_frames(video)):
        if k not in place:
            continue
        i = place[k]
        yield Record(
            image=np.asarray(crop(frame, track.squares[i])),
            mask=enlarge(track.mattes[i]),
            camera=track.camera(i),
            params=track.params(i),
            face_box=tuple(track.face_boxes[i]),
            split="train" if i < first_test else "test",
            timestep=i,
            extra={"video_frame": int(track.kept[i])},
        )


def with_mesh(track: Track, head: Head, folder: Path, i: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame as it was written, and with the fitted mesh half-transparent over it."""
    picture = np.asarray(Image.open(folder / "images" / f"{i:05d}_00.png"))
    vertices, colors = head(**track.params(i))[0], getattr(head, "vertex_color", None)
    return picture, overlay(picture, vertices, head.faces, track.camera(i), colors, opacity=0.5, samples=1)


def write_dataset(track: Track, video: Path, out: Path, head: Head, with_video: bool) -> dict:
    """Write `out` whole or not at all; returns the report. `with_video` adds overlay.mp4.

    Raises FileExistsError if `out` is something else than an earlier dataset; ValueError for a damaged video.
    """
    with whole_folder(out) as part:
        progress = tqdm(records(track, video), "write frames", len(track.kept), unit="frame")
        write_sequence(part, progress, head.basis)
        contact_sheet(track, head, part).save(part / "contact_sheet.png")
        if with_video:
            write_overlay(track, head, part)
        summary = report(track)
        (part / "report.json").write_text(json.dumps(summary, indent=1))
    return summary


def contact_sheet(track: Track, head: Head, folder: Path) -> Image.Image:
    """Pairs of pictures, evenly spread: the mesh over the frame, and the frame cut out by its matte."""
    rows, columns = SHEET
    chosen = np.linspace(0, len(track.kept) - 1, rows * columns).round().astype(int)
    sheet = Image.new("RGB", (columns * SHEET_SIZE, 2 * rows * SHEET_SIZE))
    for k, i in enumerate(chosen):
        picture, mesh = with_mesh(track, head, folder, i)
        alpha = enlarge(track.mattes[i])[..., None] / 255
        cut = (picture * alpha + np.array(BEHIND) * (1 - alpha)).astype(np.uint8)
        for row, tile in enumerate((mesh, cut)):
            small = Image.fromarray(tile).resize((SHEET_SIZE, SHEET_SIZE), Image.Resampling.BOX)
            sheet.paste(small, (k % columns * SHEET_SIZE, (2 * (k // columns) + row) * SHEET_SIZE))
    return sheet


def write_overlay(track: Track, head: Head, folder: Path) -> None:
    """overlay.mp4: frames and the mesh over them side by side; frames left out are simply missing."""
    count = len(track.kept)
    with ThreadPoolExecutor(2) as pool:
        drawn = pool.map(lambda i: np.concatenate(with_mesh(track, head, folder, i), 1), range(count))
        rate = Fraction(track.meta["fps"]).limit_denominator(1001)
        write_frames(folder / "overlay.mp4", tqdm(drawn, "write overlay.mp4", count, unit="frame"), rate)
