"""Pictures to judge OpenHead by: ten people with six expressions each, and an open mouth from all sides.

python -m data_scripts.open_head.contact_sheet [--asset FILE] [--out FOLDER]
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sa0lib.camera import Camera, intrinsics, look_at
from sa0lib.head import Head, load_head
from sa0lib.mesh import render_mesh
from sa0lib.paths import ASSETS

PEOPLE, SEED = 10, 7
EXPRESSIONS = {
    "neutral": {},
    "jaw open": {"jawOpen": 0.8},
    "smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4},
    "eyes closed": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "pucker, frown": {"mouthPucker": 1.0, "browDownLeft": 1.0, "browDownRight": 1.0},
    "gaze": {"eyeLookInLeft": 0.9, "eyeLookOutRight": 0.9, "browInnerUp": 0.5},
}
YAWS = (0, 25, -25, 45, -45)  # degrees, in turn from person to person
MOUTH_VIEWS = ((0, 0), (35, 0), (70, 0), (0, 30), (0, -30))  # yaw, pitch


def camera(yaw: float, pitch: float, target: tuple[float, float, float], width: float, size: int) -> Camera:
    """Looks at `target` from 0.9 m away, turned by degrees about it; `width` metres fill the picture."""
    yaw, pitch = np.radians([yaw, pitch])
    toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    at = torch.tensor(target, dtype=torch.float64)
    viewmat = look_at(at + 0.9 * torch.from_numpy(toward), at, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    return Camera(intrinsics(0.9 / width * size, size, size).double(), viewmat, size, size)


def pose(head: Head, scores: dict[str, float], shape: Tensor | None = None) -> Tensor:
    """Vertices [V, 3] of a person (a shape code [1, 300]) making the expression with these ARKit scores."""
    row = torch.zeros(1, 52)
    for name, score in scores.items():
        row[0, head.arkit_names.index(name)] = score
    with torch.no_grad():
        return head(shape=shape, **head.arkit(row))[0]


def sheet(tiles: list[list[UInt8]]) -> Image.Image:
    """Rows of equally large pictures as one."""
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in tiles], axis=0))


def people_sheet(head: Head, size: int = 192) -> Image.Image:
    """Ten random people (rows, the first is the mean head) x six expressions (columns)."""
    shapes = torch.randn(PEOPLE, 300, generator=torch.Generator().manual_seed(SEED))
    shapes[0] = 0
    rows = []
    for i, shape in enumerate(tqdm(shapes, desc="people")):
        view = camera(YAWS[i % len(YAWS)], 0, (0.0, 0.0, -0.02), 0.34, size)
        row = [pose(head, scores, shape[None]) for scores in EXPRESSIONS.values()]
        rows.append([render_mesh(v, head.faces, view, head.vertex_color) for v in row])
    return sheet(rows)


def mouth_sheet(head: Head, size: int = 320) -> Image.Image:
    """The open mouth of the mean head (at three openings) and of one person, from five sides."""
    person = torch.randn(1, 300, generator=torch.Generator().manual_seed(SEED + 1))
    rows = []
    for opening, shape in tqdm(((0.3, None), (0.6, None), (1.0, None), (1.0, person)), desc="mouths"):
        vertices = pose(head, {"jawOpen": opening}, shape)
        views = [camera(yaw, pitch, (0.0, -0.065, 0.04), 0.10, size) for yaw, pitch in MOUTH_VIEWS]
        rows.append([render_mesh(vertices, head.faces, view, head.vertex_color) for view in views])
    return sheet(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--asset", type=Path, default=ASSETS / "open_head.npz", help="the model (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the two PNG files (default: %(default)s)")
    args = parser.parse_args()
    head = load_head(args.asset)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, picture in (("open_head_people.png", people_sheet(head)), ("open_head_mouth.png", mouth_sheet(head))):
        beside = args.out / f".{name}"
        picture.save(beside, format="PNG")
        os.replace(beside, args.out / name)
        print(args.out / name)


if __name__ == "__main__":
    main()
