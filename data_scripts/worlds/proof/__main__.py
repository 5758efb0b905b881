"""Measure whether the generated worlds are good enough to mean something.

    python -m data_scripts.worlds.proof [--worlds DIR] [--record NAME]

Do detectors find the faces, where codes and camera say they are? Are people told apart? Does the tracker get codes and
camera back? MediaPipe and the tracker need `make .venv-track/installed`; without it they are skipped, and the rest is
measured.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from data_scripts.track.choose import REQUIREMENTS, TRACK_PYTHON
from data_scripts.worlds.proof.faces import World, find_worlds, prove_faces, world_cases
from data_scripts.worlds.proof.identity import prove_identity
from data_scripts.worlds.proof.tracker import prove_tracker
from sa0lib.head import Head, load_head
from sa0lib.ledger import record_run
from sa0lib.paths import DATA, ROOT, RUNS
from sa0lib.profile import current_profile

TRACKED = "subjects"  # the world of long videos


@dataclass(frozen=True)
class ProofConfig:
    """How much is measured."""

    pictures: int = 1_000  # of each world, evenly spread, that the detectors look at
    people: int = 40  # of each world, evenly spread, that are told apart
    pictures_each: int = 8  # of each of these people
    draws: int = 1_000  # bootstrap samples of people
    film: int = 120  # frames of each film that is tracked
    seed: int = 0  # of the bootstrap


def prove(head: Head, worlds: dict[str, World], python: Path | None, out: Path, config: ProofConfig) -> dict:
    """Everything measured; without `python` neither MediaPipe nor the tracker."""
    result: dict = {"config": asdict(config), "worlds": {}, "tracker": {}}
    for name, world in worlds.items():
        print(f"{name}: {len(world.people)} people", flush=True)
        faces = prove_faces(world_cases(head, world, config.pictures), python)
        result["worlds"][name] = {"sha256": world.sha256, "faces": faces}
        if len(world.people) > 1:
            identity = prove_identity(head, world, config.people, config.pictures_each, config.draws, config.seed)
            result["worlds"][name]["identity"] = identity
    result["found"] = total(world["faces"] for world in result["worlds"].values())
    for folder in worlds[TRACKED].folders if python and TRACKED in worlds else []:
        print(f"film {folder.name}: {TRACKED}", flush=True)
        try:
            result["tracker"][folder.name] = prove_tracker(head, folder, config.film, python, out)
        except (ValueError, RuntimeError) as error:  # too small to be filmed, as on the lowest rung; or it gave up
            result["tracker"][folder.name] = {"failed": str(error)}
    return result


def total(faces) -> dict[str, float]:
    """Shares of the visible faces of all worlds that were found."""
    faces = [world for world in faces if world["visible"]]
    weights = [world["visible"] for world in faces]
    names = faces[0]["found"] if faces else ()
    return {name: float(np.average([world["found"][name] for world in faces], weights=weights)) for name in names}


def tell(result: dict) -> None:
    """The main numbers as text."""
    for name, world in result["worlds"].items():
        faces = world["faces"]
        shares = ", ".join(f"{detector} {share:.1%}" for detector, share in faces.get("found", {}).items())
        print(f"{name}: {faces['visible']} of {faces['pictures']} faces ought to be seen; found: {shares or 'none'}")
        for detector, files in faces.get("missed", {}).items():
            print(f"  {detector} missed {', '.join(files)}")
        if (identity := world.get("identity", {})).get("auc") is not None:
            low, high = identity["auc_interval"]
            print(f"  identity AUC {identity['auc']:.3f} [{low:.3f}, {high:.3f}], {identity['people']} people")
    for name, film in result["tracker"].items():
        if "failed" in film:
            print(f"film {name}: not tracked ({film['failed']})")
            continue
        px = film["landmarks_px"]
        print(f"film {name}: landmarks {px['median']:.2f} px off in a face of {px['face_height']:.0f} px")
        camera, face = film["camera"], film["neutral_face_mm"]
        size, focal = camera["apparent_size_ratio"], camera["focal_ratio"]
        print(f"  tracked over true: apparent size {size:.3f}, focal length {focal:.2f}")
        print(f"  neutral face {face['tracked']:.1f} mm off, the mean head {face['mean_head']:.1f} mm")
        turns = {f"head's {name}": v for name, v in film["head_turn"].items() if isinstance(v, dict)}
        for measure, value in (film["expression"] | turns).items():
            r = "still" if value["correlation"] is None else f"{value['correlation']:.3f}"
            print(f"  {measure}: correlation {r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rung = current_profile().name
    parser.add_argument("--worlds", type=Path, default=DATA / "worlds" / rung, help="folder of worlds")
    parser.add_argument("--out", type=Path, default=DATA / "proof" / rung, help="where films and their tracks are left")
    parser.add_argument("--python", type=Path, default=TRACK_PYTHON, help="interpreter with MediaPipe")
    parser.add_argument("--record", metavar="NAME", help="write the result to book/results/runs/NAME.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # thousands of small products: threads would wait for each other
    start, config = time.perf_counter(), ProofConfig()
    python = arguments.python.absolute() if arguments.python.is_file() else None  # the tracker runs in another folder
    if python is None:
        print(
            f"{arguments.python} is missing, so MediaPipe and the tracker are skipped. `make .venv-track/installed` "
            f"creates it; or install {REQUIREMENTS.relative_to(ROOT)} elsewhere and give that interpreter to --python"
        )
    try:
        worlds = find_worlds(arguments.worlds)
        arguments.out.mkdir(parents=True, exist_ok=True)
        result = prove(load_head(), worlds, python, arguments.out.absolute(), config)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"proof: {error}")
    name, folder = arguments.record or "proof", RUNS if arguments.record else arguments.out
    path = record_run(name, result, config.seed, time.perf_counter() - start, folder)
    tell(result)
    print(f"recorded: {path}")


if __name__ == "__main__":
    main()
