"""Turn the committed tracking result and the clip into data/clip, the dataset that `make track` would write.

python -m data_scripts.unpack_clip
"""

import argparse
import hashlib
import sys
from pathlib import Path

from data_scripts.track.dataset import write_dataset
from data_scripts.track.track import unpack
from sa0lib.head import load_head
from sa0lib.paths import ASSETS, DATA

PACKED = Path(__file__).with_name("track") / "real_clip.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ASSETS / "clip.mp4")
    parser.add_argument("--out", type=Path, default=DATA / "clip", help="an earlier dataset there is replaced")
    parser.add_argument("--head", type=Path, default=ASSETS / "open_head.npz", help="OpenHead's npz")
    parser.add_argument("--packed", type=Path, default=PACKED)
    parser.add_argument("--overlay", action="store_true", help="also draw overlay.mp4, which takes longer")
    args = parser.parse_args()
    try:
        if not args.clip.is_file():
            raise FileNotFoundError(f"{args.clip} is missing: python -m data_scripts.get_assets obtains it")
        head = load_head(args.head)
        track = unpack(args.packed, head)
        if hashlib.sha256(args.clip.read_bytes()).hexdigest() != track.meta["sha256"]:
            raise ValueError(f"{args.clip} is not the video that {args.packed} was made from: obtain it again")
        told = write_dataset(track, args.clip, args.out, head, with_video=args.overlay)
    except (ValueError, OSError) as error:
        sys.exit(f"unpack_clip: {error}")
    print(f"{args.out}: {told['summary']}, reprojection {told['reprojection_px']['median']:.2f} px median")


if __name__ == "__main__":
    main()
