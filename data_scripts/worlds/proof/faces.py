"""Do face detectors find the generated faces, and find them where codes and camera say they are?

A picture counts if its face ought to be seen: turned no further than `TURN` from the camera, and inside the frame. It
is found if a detector's box overlaps the box of the true landmarks. That also proves that picture, codes and camera
belong together.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from tqdm import tqdm

from sa0lib.camera import Camera
from sa0lib.datasets import Sequence
from sa0lib.datasets.layout import SPLITS
from sa0lib.datasets.manifest import MANIFEST, read_manifest
from sa0lib.faces import detect, detect_frontal
from sa0lib.head import Head
from sa0lib.rotation import axis_angle_to_matrix

TURN = np.deg2rad(60)  # rad between where the face looks and the camera: beyond, one eye is hidden
OVERLAP = 0.4  # intersection over union: detectors agree on a face, not on where it ends
DETECT = Path(__file__).with_name("detect.py")
MISSES = 12  # files named for each detector that misses some


@dataclass
class World:
    """A generated world on disk."""

    sha256: str  # of all that it holds
    people: dict[str, list[Path]]  # who -> folders of their sequences

    @property
    def folders(self) -> list[Path]:
        """Of all sequences."""
        return [folder for folders in self.people.values() for folder in folders]


@dataclass
class Case:
    """One picture of a world and where its face truly is."""

    sequence: Sequence
    index: int  # in the sequence
    landmarks: Float[np.ndarray, "478 2"]  # px
    turn: float  # rad between where the face looks and the camera

    @property
    def file(self) -> Path:
        return self.sequence.files(self.index)[0]

    @property
    def box(self) -> Float[np.ndarray, "4"]:
        """Around the true landmarks, px x0 y0 x1 y1."""
        return box_of(self.landmarks)

    @property
    def visible(self) -> bool:
        """Is this a face that anyone would find?"""
        camera = self.sequence.camera(self.index)
        inside = (self.box[:2] >= 0).all() and (self.box[2:] <= (camera.width, camera.height)).all()
        return bool(inside and self.turn <= TURN)

    def picture(self) -> UInt8[np.ndarray, "H W 3"]:
        """Decoded anew each time."""
        image = self.sequence[self.index].image  # [3, H, W]
        return (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def box_of(points: Float[np.ndarray, "... P 2"]) -> Float[np.ndarray, "... 4"]:
    """The smallest box x0 y0 x1 y1 around points."""
    return np.concatenate([points.min(-2), points.max(-2)], -1)


def iou(a: Float[np.ndarray, "... 4"], b: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "..."]:
    """Intersection over union of boxes x0 y0 x1 y1; 0 where one of them is NaN or both are empty."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return np.nan_to_num(common / np.where(union > 0, union, np.inf))


def find_worlds(root: Path) -> dict[str, World]:
    """The worlds of a tree `root/<world>/manifest.json`, by name.

    Raises FileNotFoundError if there is none; ValueError for a damaged manifest.
    """
    worlds = {}
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        manifest, people = read_manifest(path.parent), {}
        for entry in manifest.sequences:
            people.setdefault(entry.identity, []).append(path.parent / entry.name)
        worlds[path.parent.name] = World(manifest.sha256, people)
    if not worlds:
        raise FileNotFoundError(f"{root} holds no <world>/{MANIFEST}: generate the worlds first, with `make worlds`")
    return worlds


def open_sequences(folder: Path, head: Head) -> list[Sequence]:
    """The splits of one sequence that hold pictures. Raises ValueError if its codes belong to another head."""
    sequences = [Sequence(folder, split) for split in SPLITS if (folder / f"transforms_{split}.json").is_file()]
    sequences = [sequence for sequence in sequences if len(sequence)]
    for sequence in sequences:
        head.require_basis(sequence.basis, str(folder))
    return sequences


def spread(items: list, count: int) -> list:
    """At most `count` of the items, evenly spread."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in chosen]


def skull_turn(params: dict[str, torch.Tensor], camera: Camera) -> Float[torch.Tensor, "3 3"]:
    """Rotation of the skull in camera axes; the skull hangs on the neck joint."""
    turns = axis_angle_to_matrix(torch.cat([params["rotation"], params["neck"]]))  # [2, 3, 3]
    return camera.viewmat[:3, :3] @ turns[0] @ turns[1]


@torch.no_grad()
def cases_of(head: Head, sequence: Sequence, indices: list[int]) -> list[Case]:
    """Cases of some frames of a sequence."""
    cases = []
    for i in indices:
        camera, params = sequence.camera(i), sequence.params(i)
        points = head.landmarks(head(**params), "478")[0]  # [478, 3]
        xy, _ = camera.project(points)
        to_camera = torch.nn.functional.normalize(camera.center - points.mean(0), dim=0) @ camera.viewmat[:3, :3].T
        turn = torch.arccos((skull_turn(params, camera)[:, 2] @ to_camera).clamp(-1, 1))
        cases.append(Case(sequence, i, xy.numpy(), float(turn)))
    return cases


def world_cases(head: Head, world: World, count: int) -> list[Case]:
    """Cases of at most `count` pictures of a world, evenly spread."""
    frames = [(s, i) for folder in world.folders for s in open_sequences(folder, head) for i in range(len(s))]
    return [case for s, i in spread(frames, count) for case in cases_of(head, s, [i])]


def run_mediapipe(files: list[Path], python: Path) -> Float[np.ndarray, "N 478 2"]:
    """MediaPipe's points in pictures, px; NaN where it finds no face. RuntimeError with its last words if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        pictures, points = Path(folder) / "pictures.json", Path(folder) / "points.npy"
        pictures.write_text(json.dumps([str(file) for file in files]), encoding="utf8")
        command = [str(python), str(DETECT), str(pictures), str(points)]
        child = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if child.returncode:
            words = child.stderr.strip().splitlines()[-3:]
            raise RuntimeError("MediaPipe failed:\n  " + "\n  ".join(words))
        return np.load(points)


def prove_faces(cases: list[Case], python: Path | None) -> dict:
    """Shares of the visible faces that each detector finds; without `python` MediaPipe is left out.

    `dlib_frontal` is dlib's HOG detector, `dlib` the same with its network where HOG finds nothing.
    """
    visible = [case for case in cases if case.visible]
    result: dict = {"pictures": len(cases), "visible": len(visible)}
    if not visible:
        return result
    truth = np.stack([case.box for case in visible])  # [N, 4]
    found: dict[str, list[bool] | np.ndarray] = {"dlib_frontal": [], "dlib": []}
    for case in tqdm(visible, "dlib", unit="picture"):
        picture = case.picture()
        boxes = detect_frontal(picture)
        for name, some in (("dlib_frontal", boxes), ("dlib", boxes if len(boxes) else detect(picture))):
            found[name].append(bool((iou(some, case.box) >= OVERLAP).any()))
    if python is not None:
        points = run_mediapipe([case.file for case in visible], python)  # [N, 478, 2]
        found["mediapipe"] = iou(box_of(points), truth) >= OVERLAP
        off = np.linalg.norm(points - np.stack([case.landmarks for case in visible]), axis=-1)  # [N, 478] px
        off = np.median(off, 1) / (truth[:, 3] - truth[:, 1])
        seen = off[found["mediapipe"]]
        result["mediapipe_off_in_face_heights"] = float(np.median(seen)) if len(seen) else None
    result["found"] = {name: float(np.mean(flags)) for name, flags in found.items()}
    names = np.array([str(case.file.relative_to(case.sequence.root.resolve().parent)) for case in visible])
    missed = {name: names[~np.array(flags)].tolist() for name, flags in found.items()}
    result["missed"] = {name: spread(files, MISSES) for name, files in missed.items() if files}
    return result
