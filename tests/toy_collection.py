"""Small collections of coloured noise with cameras and codes: the format without the people."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.datasets import Record, index_sequence, whole_folder, write_manifest, write_sequence
from sa0lib.datasets.clip import Clip
from sa0lib.head import WIDTHS

BASIS = "OpenHead 0123456789ab"


def toy_codes(rng: np.random.Generator, shape: np.ndarray) -> dict[str, torch.Tensor]:
    """Codes of one instant: `shape` [1, 300] and small random numbers."""
    codes = {name: 0.3 * rng.normal(size=(1, width)) for name, width in WIDTHS.items()} | {"shape": shape}
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in codes.items()}


def toy_camera(camera_index: int, size: int) -> Camera:
    """Cameras on an arc before the face, 0.2 rad apart."""
    return Camera(intrinsics(2.0 * size, size, size), orbit(0.2 * camera_index, 0.1, 0.9, torch.zeros(3)), size, size)


def toy_records(seed: int, timesteps: int, cameras: int, size: int, split: str = "train") -> Iterator[Record]:
    """All cameras of all instants of one sequence."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(1, WIDTHS["shape"]))
    for timestep in range(timesteps):
        codes = toy_codes(rng, shape)
        for camera_index in range(cameras):
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)  # blocks: PNG finds something to compress
            grain = rng.integers(0, 16, (size, size, 3), dtype=np.uint8)
            image = np.kron(coarse, np.ones((size // 4, size // 4, 1), np.uint8)) // 2 + grain
            mask = np.zeros((size, size), np.uint8)
            mask[size // 8 : -size // 8, size // 4 : -size // 4] = 255
            box = (size / 4, size / 8, size * 3 / 4, size * 7 / 8)
            camera = toy_camera(camera_index, size)
            yield Record(image, mask, camera, codes, box, split, timestep, camera_index)


def write_collection(
    root: Path, sequences: int, timesteps: int, cameras: int = 1, size: int = 16, test: int = 0, people: int = 0
) -> Path:
    """A collection whose last `test` sequences are in the split "test"; its `people` identities take turns."""
    entries = []
    for i in range(sequences):
        name = f"{i:06d}"
        split = "test" if i >= sequences - test else "train"
        with whole_folder(root / name) as part:
            write_sequence(part, toy_records(i, timesteps, cameras, size, split), BASIS)
        entries.append(index_sequence(root, name, f"person{i % (people or sequences)}", {"seed": i}))
    write_manifest(root, {"name": "toy", "seed": 0}, entries)
    return root


def toy_clip(timesteps: int, cameras: int = 1, seed: int = 0) -> Clip:
    """A clip of numbers alone: it cannot be decoded, but drawn from."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(1, WIDTHS["shape"]))
    codes = [toy_codes(rng, shape) for _ in range(timesteps)]
    views = [(t, c) for t in range(timesteps) for c in range(cameras)]
    return Clip(
        name="toy",
        identity="toy",
        basis=BASIS,
        K=torch.stack([toy_camera(c, 16).K for _, c in views]),
        viewmat=torch.stack([toy_camera(c, 16).viewmat for _, c in views]),
        size=torch.full((len(views), 2), 16),
        params={name: torch.cat([codes[t][name] for t, _ in views]) for name in WIDTHS},
        face_box=torch.tensor([4.0, 2, 12, 14]).repeat(len(views), 1),
        timestep=torch.tensor([t for t, _ in views]),
        camera_index=torch.tensor([c for _, c in views]),
        images=[],
        masks=[],
        origin="toy",
    )
