"""Write the manifest of a folder of sequences, so that `sa0lib.datasets.Collection` reads them together.

    python -m data_scripts.index_collection data/nersemble --name nersemble

For what is converted one subject or one sequence at a time (NeRSemble, INSTA, SplattingAvatar, GAGAvatar_track): the
adapters of clips and the generated worlds write their own. Every folder below ROOT with a transforms_*.json in it is a
sequence, and the first folder on the way to it says who is seen: 037/EXP-1 and 037/EXP-2 are one person. Run it again
when sequences have come or gone; everything is counted and hashed anew.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from sa0lib.datasets import index_sequence, write_manifest
from sa0lib.datasets.layout import SPLITS
from sa0lib.datasets.manifest import check_name


def sequences(root: Path) -> list[str]:
    """Names of the sequences below `root`, without those in hidden folders, which an interrupted run may have left.

    Raises FileNotFoundError if there is none; ValueError if `root` is one itself, one lies within another, or has a
    name that no manifest takes: all of that before any is hashed.
    """
    folders = {path.parent.relative_to(root) for split in SPLITS for path in root.rglob(f"transforms_{split}.json")}
    if Path() in folders:
        raise ValueError(f"{root} is one sequence: give the folder that holds it and others")
    folders = {folder for folder in folders if not any(part.startswith(".") for part in folder.parts)}
    if not folders:
        raise FileNotFoundError(f"{root}: no transforms_*.json below it; convert something into it first")
    names = sorted(folder.as_posix() for folder in folders)
    for name in names:
        check_name(name, f"{root}: rename the folder")
        if around := folders.intersection(Path(name).parents):
            raise ValueError(f"{root / name} lies within the sequence {root / around.pop()}: move it out of there")
    return names


def index_collection(root: Path, name: str) -> Path:
    """Write `root/manifest.json`; returns its path. Raises what `sequences`, `index_sequence`, `write_manifest` do."""
    found = tqdm(sequences(root), "count and hash", unit="sequence")
    return write_manifest(root, {"name": name}, [index_sequence(root, s, s.split("/")[0]) for s in found])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder that holds the sequences")
    parser.add_argument("--name", required=True, help="what the collection is called in its manifest")
    options = parser.parse_args(arguments)
    try:
        print(index_collection(options.root, options.name))
    except (ValueError, OSError) as error:
        sys.exit(f"index_collection: {error}")


if __name__ == "__main__":
    main()
