"""Track a video of one person and write it as a dataset.

    python -m data_scripts.track my.mp4 data/my

One person, one camera, mostly frontal; hands before the face and lost frames are left out with a report. The result
is a dataset in the VHAP layout with overlay.mp4, contact_sheet.png and report.json beside it: look at those first.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_scripts.track import matte
from data_scripts.track.choose import TRACK_PYTHON, check_kept, left_out, run_detector, summary
from data_scripts.track.dataset import write_dataset
from data_scripts.track.fit import fit
from data_scripts.track.landmarks import IBUG
from data_scripts.track.rig import LandmarkRig
from data_scripts.track.track import Track, pack, rounded
from data_scripts.track.video import probe, read_frames
from sa0lib.datasets import check_replaceable
from sa0lib.head import Head, load_head
from sa0lib.paths import ASSETS
from sa0lib.rotation import axis_angle_to_matrix

BAD_FIT = 3.0  # a frame whose median error exceeds this many times the video's is left out
FACE_MARGIN = 0.1  # of the face's size, added around it to make its box


def make_mattes(track: Track, head: Head, found: dict[str, np.ndarray], video: Path) -> np.ndarray:
    """Refined mattes of the kept frames, ending at the neck, uint8 [N, M, M]."""
    loop, size = matte.neck_loop(head), matte.MATTE
    place = {int(frame): i for i, frame in enumerate(track.kept)}
    kept = np.isin(np.arange(len(found["matte"])), track.kept)
    out = np.zeros((len(track.kept), size, size), np.uint8)
    for k, frame in enumerate(tqdm(read_frames(video), "mattes", len(kept), unit="frame")):
        if not kept[k]:
            continue
        i = place[k]
        square, params = track.squares[i], track.params(i)
        guide = np.asarray(matte.crop(frame, square, size), np.float32) / 255
        soft = matte.guided_filter(guide, matte.steady(found["matte"], found["window"], square, k, kept))
        rim, _ = track.camera(i).resized(size, size).project(head(**params)[0, loop])
        up = axis_angle_to_matrix(params["rotation"])[0, :2, 1].numpy()  # the head's up axis, seen from the front
        out[i] = np.rint(255 * soft * matte.neck_cut(rim.numpy(), np.array([-up[0], up[1]]), size))
    return out


@torch.no_grad()
def track_video(video: Path, head: Head, python: Path) -> Track:
    """Detect, choose, fit and cut out. Raises ValueError with the fix for a video that cannot be tracked."""
    seconds, clock = {}, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = round(time.perf_counter() - clock, 2)
        clock = time.perf_counter()

    info = probe(video)
    found = run_detector(info, python)
    lap("detect")
    reasons = left_out(found["faces"], found["hands"], info)
    check_kept(reasons, info)
    face, squares = found["faces"][:, 0], matte.crop_path(found["faces"][:, 0], info)
    zoom = matte.SIZE / squares[:, 2]
    kept = np.flatnonzero([reason is None for reason in reasons])
    as_float = [torch.from_numpy(a[kept]).float() for a in (face, zoom)]
    result = fit(head, *as_float, torch.from_numpy(kept), info.width, info.height)
    points = result.landmarks(LandmarkRig(head, "68"), info.width, info.height).numpy()  # [N, 68, 2]
    errors = np.linalg.norm(points - face[kept][:, IBUG], axis=-1) * zoom[kept, None]  # crop px
    good = np.median(errors, 1) <= BAD_FIT * np.median(errors)
    for i in kept[~good]:
        reasons[i] = "the fit is off"
    check_kept(reasons, info)
    result, errors, kept = result.select(torch.from_numpy(np.flatnonzero(good))), errors[good], kept[good]
    lap("fit")
    low, high = ((bound - squares[kept, :2]) * zoom[kept, None] for bound in (face[kept].min(1), face[kept].max(1)))
    margin = FACE_MARGIN * (high - low)
    track = Track(
        meta={
            "source": video.name,
            "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "basis": head.basis,
            "reasons": reasons,
            "seconds": seconds,
        },
        kept=kept,
        squares=squares[kept],
        face_boxes=np.concatenate([low - margin, high + margin], 1).clip(0, matte.SIZE),
        errors=errors,
        mattes=np.zeros((len(kept), matte.MATTE, matte.MATTE), np.uint8),
        fit=result,
    )
    track.mattes = make_mattes(track, head, found, video)
    lap("mattes")
    return rounded(track)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path, help="folder to write; an earlier dataset there is replaced")
    parser.add_argument("--head", type=Path, default=ASSETS / "open_head.npz", help="OpenHead's npz")
    parser.add_argument("--python", type=Path, default=TRACK_PYTHON, help="interpreter with MediaPipe")
    parser.add_argument("--pack", type=Path, help="also write the track, without pictures, to this npz")
    args = parser.parse_args()
    torch.set_num_threads(1)  # thousands of small products: threads would wait for each other
    start = time.perf_counter()
    try:
        check_replaceable(args.out)  # now, not after minutes of work
        head = load_head(args.head)
        track = track_video(args.video, head, args.python)
        told = write_dataset(track, args.video, args.out, head, with_video=True)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"track: {error}")
    if args.pack:
        pack(track, head, args.pack)
    frames, seconds = len(track.meta["reasons"]), time.perf_counter() - start
    error = told["reprojection_px"]
    print(f"{args.out}: {summary(track.meta['reasons'])}")
    print(f"reprojection {error['median']:.2f} px median, {error['p95']:.2f} px 95 %, {error['scale']}")
    print(f"{seconds:.0f} s, {seconds / frames:.3f} s a frame; look at {args.out / 'contact_sheet.png'}")


if __name__ == "__main__":
    main()
