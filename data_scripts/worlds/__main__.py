"""Generate the worlds: people, performances and pictures that play the parts of the gated datasets.

    python -m data_scripts.worlds [NAME ...] [--check SHARE]

Sizes are those of SA0_PROFILE; worlds go to data/worlds/<profile>/<name>/, each with a manifest.json. Stop it at any
time: the same command goes on at the picture where it was. `--check 0.1` makes a tenth of the clips a second time,
elsewhere, and compares their hashes with the manifest.
"""

import argparse
import os
import sys

from data_scripts.worlds.produce import check_world, make_world, workers
from data_scripts.worlds.worlds import WORLDS, world_size
from sa0lib.datasets.manifest import read_manifest
from sa0lib.paths import DATA
from sa0lib.profile import current_profile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORLDS)} (default: all)")
    parser.add_argument("--check", type=float, metavar="SHARE", help="compare this share of the clips with a rerun")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="in parallel (default: %(default)s)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(WORLDS):
        parser.error(f"no such world: {', '.join(sorted(unknown))}; there are {', '.join(WORLDS)}")
    if args.check is not None and not 0 < args.check <= 1:
        parser.error("SHARE must lie above 0 and not above 1")
    if args.processes < 1:
        parser.error("--processes must be at least 1")
    wrong = []
    try:
        profile = current_profile()
        for name in args.names or WORLDS:
            world, size = WORLDS[name], world_size(WORLDS[name], profile)
            root = DATA / "worlds" / profile.name / name
            # New processes for each world: in hundreds of clips they grow by gigabytes.
            with workers(args.processes) as pool:
                if args.check:
                    wrong += [f"{name}/{clip}" for clip in check_world(world, size, root, args.check, pool)]
                else:
                    make_world(world, size, root, pool)
                    print(f"{root}: {read_manifest(root).sha256}")
    except (OSError, ValueError, RuntimeError) as error:  # the last: a process that died, or the denoiser
        sys.exit(f"worlds: {error}")
    except KeyboardInterrupt:
        sys.exit("\nworlds: stopped; the same command goes on from here")
    if args.check:
        sys.exit(f"not reproduced: {', '.join(wrong)}" if wrong else "every clip was reproduced to the byte")


if __name__ == "__main__":
    main()
