"""Tubes along paths and pictures of a head's relief: what the fitting of worn things needs."""

import numpy as np
from jaxtyping import Float, Int32
from numpy import ndarray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from data_scripts.worlds.wear.parts import grid_faces
from sa0lib.head import Head
from sa0lib.uv import rasterize_triangles

PIXEL = 0.5e-3  # metres between the samples of a relief
FAR = 1.0  # metres behind everything: where a relief has no surface
AROUND = 10  # vertices around a tube


def tube(
    path: Float[ndarray, "N 3"], reference: Float[ndarray, "3"], radii: tuple[float, float], closed: bool
) -> tuple[Float[ndarray, "V 3"], Int32[ndarray, "F 3"]]:
    """An elliptic tube along a path: `radii` towards the reference direction and across it, metres.

    The path must nowhere run along the reference. An open tube is closed by caps.
    """
    if closed:
        along = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    else:
        along = np.gradient(path, axis=0)
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    first = reference - (along @ reference)[:, None] * along
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    ring = radii[0] * np.cos(angle)[:, None] * first[:, None] + radii[1] * np.sin(angle)[:, None] * second[:, None]
    vertices = (path[:, None] + ring).reshape(-1, 3)  # [N AROUND, 3]
    n = len(path)
    loops = np.concatenate([vertices, vertices[:AROUND]]) if closed else vertices
    faces = grid_faces(len(loops) // AROUND, AROUND, True)[:, ::-1]  # around grows against the outward turn
    if closed:
        return vertices, np.ascontiguousarray(faces % len(vertices), np.int32)
    fan = np.stack([np.zeros(AROUND - 2, int), np.arange(2, AROUND), np.arange(1, AROUND - 1)], 1)
    faces = np.concatenate([faces, fan, (n - 1) * AROUND + fan[:, ::-1]])
    return vertices, np.ascontiguousarray(faces, np.int32)


class Relief:
    """How far the skin reaches along one direction: seen from the front (z) or from one side (x)."""

    def __init__(self, head: Head, vertices: Float[ndarray, "V 3"], regions: tuple[str, ...], view: str):
        numbers = [head.region_names.index(name) for name in regions]
        faces = head.faces.numpy()
        faces = faces[np.isin(head.region.numpy()[faces], numbers).all(1)]
        across, self.sign = {"front": ((0, 1, 2), 1), "left": ((2, 1, 0), 1), "right": ((2, 1, 0), -1)}[view]
        u, v, w = vertices.astype(np.float64)[:, across].T
        used = np.unique(faces)
        low = np.array([u[used].min(), v[used].min()]) - 2 * PIXEL
        width, height = (np.ceil((np.array([u[used].max(), v[used].max()]) - low) / PIXEL) + 2).astype(int)
        xy = np.stack([(u - low[0]) / PIXEL, (v - low[1]) / PIXEL], 1)
        # The rasterizer keeps the nearest, with all depths positive and equal weights in them: far away.
        _, _, depth = rasterize_triangles(xy, 100.0 - self.sign * w, faces, width, height)
        hit = np.isfinite(depth)
        # The hole that an ear left out leaves is bridged by the skin around it.
        nearest = distance_transform_edt(~hit, return_distances=False, return_indices=True)
        reach = np.where(binary_fill_holes(hit), 100.0 - depth[tuple(nearest)], -FAR)
        axes = [low[1] + (np.arange(height) + 0.5) * PIXEL, low[0] + (np.arange(width) + 0.5) * PIXEL]
        self._reach = RegularGridInterpolator(axes, reach, "nearest", bounds_error=False, fill_value=-FAR)

    def at(self, u, v) -> Float[ndarray, "..."]:
        """Reach (metres; from a side, outwards) at x, y (front) or z, y (side); -FAR where there is no skin."""
        return self._reach(np.stack(np.broadcast_arrays(v, u), -1))
