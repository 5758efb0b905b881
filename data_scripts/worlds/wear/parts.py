"""Triangle meshes beside the head's own: clothes, glasses, caps; and the motion of the skull that carries some."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int32
from numpy import ndarray
from scipy.spatial.transform import Rotation

from sa0lib.head import Head

Material = Literal["skin", "cloth", "metal", "plastic", "glass"]


@dataclass(frozen=True, eq=False)  # compared by identity: it holds arrays
class Part:
    """A triangle mesh of one material on the neutral person, metres. Faces turn counter-clockwise seen from outside."""

    name: str
    vertices: Float32[ndarray, "V 3"]
    faces: Int32[ndarray, "F 3"]
    material: Material
    color: Float32[ndarray, "V 3"]  # linear RGB, 0 to 1; of glass, what it lets through
    uv: Float32[ndarray, "V 2"] | None = None  # of skin: where its colour lies in the head's own chart


def grid_faces(rows: int, columns: int, closed: bool) -> Int32[ndarray, "F 3"]:
    """Triangles of a grid of vertices numbered row by row; `closed` joins the last column to the first."""
    last = columns if closed else columns - 1
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    quads = np.stack([a, c, d, a, d, b], -1)  # [rows - 1, last, 6]
    return quads.reshape(-1, 3).astype(np.int32)


def kabsch(source: Float[ndarray, "N 3"], target: Float[ndarray, "N 3"]) -> tuple[Rotation, Float[ndarray, "3"]]:
    """Rotation R and shift t for which R source + t is nearest to target in the mean of squares (Kabsch)."""
    source, target = source.astype(np.float64), target.astype(np.float64)
    R = Rotation.align_vectors(target - target.mean(0), source - source.mean(0))[0]
    return R, target.mean(0) - R.apply(source.mean(0))


def skull_motion(
    neutral: Float[ndarray, "V 3"], posed: Float[ndarray, "V 3"], head: Head
) -> tuple[Rotation, Float[ndarray, "3"]]:
    """The rigid motion of the scalp from one set of the head's vertices to another: rotation and shift in metres."""
    scalp = head.region.numpy() == head.region_names.index("scalp")
    return kabsch(neutral[scalp], posed[scalp])


def carried(
    parts: list[Part], neutral: Float[ndarray, "V 3"], posed: Float[ndarray, "V 3"], head: Head
) -> dict[str, Float32[ndarray, "_ 3"]]:
    """Vertices of each part, by name, after the skull has carried it along; for what is worn on the head."""
    R, t = skull_motion(neutral, posed, head)
    return {part.name: (R.apply(part.vertices) + t).astype(np.float32) for part in parts}
