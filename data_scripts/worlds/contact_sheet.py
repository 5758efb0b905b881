"""Pictures to judge the worlds by, and a record of what was made.

    python -m data_scripts.worlds.contact_sheet [--record NAME] [--out FOLDER]

For each world that is there: people side by side, or film strips where a clip tells more. `--record` also writes what
the manifests say to book/results/runs/NAME.json, for chapter 10.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from data_scripts.worlds.worlds import WORLDS, World
from sa0lib.datasets.manifest import Manifest, read_manifest
from sa0lib.ledger import record_run
from sa0lib.paths import DATA, ROOT
from sa0lib.profile import current_profile

TILE = 96  # px of a picture on a sheet
COLUMNS = {"celeb": 16, "studio": 16, "wild": 12, "podium": 12, "subjects": 12}
ROWS = {"celeb": 10, "studio": 6, "wild": 6, "podium": 6, "subjects": 6}
QUALITY = 82  # of the WebP files, so that all five stay within a megabyte


def sheet(root: Path, world: World, manifest: Manifest) -> UInt8[ndarray, "H W 3"]:
    """`celeb`: one frame of many people. `studio`: the cameras of one instant, a person a row. Others: film strips."""
    rows, columns = ROWS[world.name], COLUMNS[world.name]
    names = [entry.name for entry in manifest.sequences]
    tiles = []
    if world.name == "celeb":
        for name in names[: rows * columns]:
            tiles.append(sorted((root / name / "images").iterdir())[0])
    else:
        for name in names[:rows]:
            files = sorted((root / name / "images").iterdir())
            chosen = range(min(columns, len(files)))
            if world.name != "studio":
                chosen = np.linspace(0, len(files) - 1, columns).round().astype(int)
            tiles += [files[i] for i in chosen]
    columns = min(columns, len(tiles))
    pictures = [np.asarray(Image.open(t).resize((TILE, TILE), Image.Resampling.LANCZOS)) for t in tiles]
    pictures += [np.full((TILE, TILE, 3), 255, np.uint8)] * (-len(pictures) % columns)
    lines = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    return np.concatenate(lines)


def facts(manifest: Manifest) -> dict:
    """What a manifest says about its world, in numbers."""
    spans = [(split, span) for entry in manifest.sequences for split, span in entry.splits.items()]
    return manifest.world | {
        "sha256": manifest.sha256,
        "basis": manifest.basis,
        "people": len({entry.identity for entry in manifest.sequences}),
        "clips": len(manifest.sequences),
        "cameras": max(len(span.cameras) for _, span in spans),
        "pictures": {split: sum(s.frames for k, s in spans if k == split) for split in sorted({k for k, _ in spans})},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", metavar="NAME", help="also write book/results/runs/NAME.json")
    parser.add_argument("--out", type=Path, default=ROOT / "book" / "_static", help="folder (default: %(default)s)")
    args = parser.parse_args()
    folder, found = DATA / "worlds" / current_profile().name, {}
    for name, world in WORLDS.items():
        if not (folder / name / "manifest.json").is_file():
            print(f"{folder / name}: not generated yet")
            continue
        manifest = read_manifest(folder / name)
        found[name] = facts(manifest)
        path = args.out / f"world_{name}.webp"
        Image.fromarray(sheet(folder / name, world, manifest)).save(path, quality=QUALITY, method=6)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    if not found:
        sys.exit(f"contact_sheet: no world in {folder}: make worlds")
    if args.record:
        seconds = sum(world["seconds"]["wall"] for world in found.values())
        print(record_run(args.record, {"worlds": found}, seed=WORLDS["celeb"].seed, seconds=seconds))


if __name__ == "__main__":
    main()
