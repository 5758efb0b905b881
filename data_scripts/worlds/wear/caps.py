"""Caps and beanies: a shell around the upper head, in directions seen from its middle."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from data_scripts.worlds.skin.noise import gradient
from data_scripts.worlds.wear.parts import Part, grid_faces
from sa0lib.head import Head

COLUMNS, ROWS = 120, 40  # of the shell: around the head, from the band to the top
DYES = [(0.015, 0.015, 0.018), (0.02, 0.03, 0.10), (0.30, 0.02, 0.025), (0.05, 0.09, 0.04), (0.45, 0.40, 0.32),
        (0.60, 0.58, 0.54), (0.10, 0.10, 0.11), (0.08, 0.20, 0.32)]  # fmt: skip  # linear RGB
UNDER = 1.5e-3  # metres by which pressed hair stays under the shell
VISOR = np.radians(62.0)  # half of the band that the visor takes up


def cap(rng: np.random.Generator, head: Head, vertices: Float[ndarray, "V 3"]) -> list[Part]:
    """A baseball cap or a beanie for a person's neutral vertices in metres; the shell is the first part.

    Its band dips into the skin all around, so that nothing shows below it. Hair has to go under it: see `tuck`.
    """
    beanie = bool(rng.random() < 0.4)
    color = np.clip(np.array(DYES[rng.integers(len(DYES))]) * rng.uniform(0.8, 1.2, 3), 0, 0.85)
    other = np.clip(np.array(DYES[rng.integers(len(DYES))]) * rng.uniform(0.8, 1.2, 3), 0, 0.85)
    seed = int(rng.integers(2**31))
    azimuth = 2 * np.pi * np.arange(COLUMNS) / COLUMNS  # 0 front, then by the subject's left
    middle, reach = _skin_reach(head, vertices)
    band = _band(rng, head, vertices, middle, beanie)(azimuth)  # [C] elevation, radians
    u = np.linspace(0, 1, ROWS)[:, None]
    elevation = band + (np.pi / 2 - band) * u**1.1  # [R, C]
    a = np.broadcast_to(azimuth, elevation.shape)
    direction = _direction(a, elevation)
    skin = reach(direction)  # [R, C]
    smooth = gaussian_filter(skin, (3, 5), mode=("nearest", "wrap"))
    if beanie:
        slack = rng.uniform(0.0, 0.03)
        cuff = rng.uniform(0.22, 0.32)  # share of the height that is turned up
        gap = 0.006 + 0.004 * (1 / (1 + np.exp((u - cuff) / 0.012))) + slack * u**3
        gap = (
            gap
            + 0.0009 * np.sin(COLUMNS / 4 * a) * (1 - u)
            + 0.002 * gradient((0.1 * direction).reshape(-1, 3), 0.05, seed).reshape(a.shape) * u * (1 - u) * 4
        )
        paint = np.where((u < cuff)[..., None], 0.9 * color, color * (0.92 + 0.08 * np.sin(COLUMNS / 4 * a))[..., None])
    else:
        tall = np.exp(-(((a + np.pi) % (2 * np.pi) - np.pi) ** 2) / 1.2)  # the stiff front panels
        gap = 0.004 + 0.006 * np.sin(np.pi * np.minimum(u, 0.5)) + 0.011 * tall * np.sin(np.pi * u)
        seam = np.abs((a * 6 / (2 * np.pi) + 0.5) % 1 - 0.5) * COLUMNS / 6 < 0.6
        gap = gap - 0.0007 * seam
        panels = np.abs((a + np.pi) % (2 * np.pi) - np.pi) < np.pi / 3 if rng.random() < 0.25 else np.zeros_like(a) > 0
        paint = np.where(panels[..., None], other, color) * np.where(seam, 0.7, 1.0)[..., None]
    radius = np.maximum(smooth, skin) + gap
    radius[-1] = radius[-1].mean()  # one point at the top
    radius[0] = skin[0] - 0.004
    radius[1] = skin[1] + 0.5 * gap[1]
    shell = (middle + radius[..., None] * direction).reshape(-1, 3)
    parts = [Part("cap", np.float32(shell), grid_faces(ROWS, COLUMNS, True)[:, ::-1].copy(), "cloth",
                  np.float32(paint.reshape(-1, 3)))]  # fmt: skip
    return parts if beanie else [*parts, _visor(rng, parts[0], middle, color if rng.random() < 0.7 else other)]


def tuck(parts: list[Part], points: Float[ndarray, "S P 3"]) -> Float32[ndarray, "S P 3"]:
    """Hair points of the neutral person pressed under the cap: those above its band that would stick out come in."""
    grid = parts[0].vertices.reshape(ROWS, COLUMNS, 3).astype(np.float64)
    middle = grid[0].mean(0)
    shell = (grid - middle).reshape(-1, 3)
    radius = np.linalg.norm(shell, axis=1)
    toward = points.reshape(-1, 3) - middle
    length = np.maximum(np.linalg.norm(toward, axis=1), 1e-9)
    _, near = cKDTree(shell / radius[:, None]).query(toward / length[:, None])
    covered = near >= COLUMNS  # in directions below the cap, the nearest vertex is one of the band's first row
    limit = np.where(covered, radius[near] - UNDER, np.inf)
    return np.float32(middle + toward * np.minimum(1, limit / length)[:, None]).reshape(points.shape)


def _direction(azimuth, elevation) -> Float[ndarray, "... 3"]:
    flat = np.cos(elevation)
    return np.stack([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], -1)


def _skin_reach(head: Head, vertices):
    """The middle of the skull, and how far the skin is from it in given directions [..., 3], ears left out."""
    region = head.region.numpy()
    scalp = vertices[region == head.region_names.index("scalp")].astype(np.float64)
    eyes = vertices[region == head.region_names.index("eye_left")][:, 1].mean()
    middle = np.array([0.5 * (scalp[:, 0].min() + scalp[:, 0].max()), eyes + 0.01, 0.0])
    middle[2] = 0.5 * (scalp[:, 2].min() + vertices[region == head.region_names.index("face"), 2].max() - 0.02)
    rows = np.isin(region, [head.region_names.index(name) for name in ("scalp", "face")])
    offset = vertices[rows].astype(np.float64) - middle
    length = np.linalg.norm(offset, axis=1)
    unit = offset / length[:, None]
    above = unit[:, 1] > -0.75
    # Seen from straight below, the upper head is a disc without a seam.
    plane = unit[above][:, [0, 2]] / (1 + unit[above][:, 1:2])
    table = LinearNDInterpolator(plane, length[above])
    return middle, lambda d: table(d[..., [0, 2]] / (1 + d[..., 1:2]))


def _band(rng, head: Head, vertices, middle, beanie: bool):
    """Elevation of the band by azimuth: across the forehead, above the ears, low at the back."""
    points = head.landmarks(torch.from_numpy(np.float32(vertices))[None])[0].numpy()
    brow, top = points[17:27, 1].max(), vertices[:, 1].max()
    ears = vertices[head.region.numpy() == head.region_names.index("ears")]
    front = brow + (rng.uniform(0.16, 0.30) if beanie else rng.uniform(0.22, 0.34)) * (top - brow)
    side = max(ears[:, 1].max() + 0.006, 0.5 * (front + middle[1]))
    back = middle[1] + (rng.uniform(-0.035, -0.015) if beanie else rng.uniform(-0.015, 0.005))
    depth = np.array([0.085, 0.078, 0.085])  # metres from the middle to the skin: front, side, back; near enough
    up = np.arctan2(np.array([front, side, back]) - middle[1], depth)

    def elevation(azimuth):
        c = np.cos(azimuth)
        return up[1] + np.where(c > 0, (up[0] - up[1]) * c**2, (up[2] - up[1]) * c**2)

    return elevation


def _visor(rng, shell: Part, middle, color) -> Part:
    """A bent plate from the front of the band, rounded, sloping down at its sides."""
    grid = shell.vertices.reshape(ROWS, COLUMNS, 3).astype(np.float64)
    long, slope, bend = rng.uniform(0.055, 0.072), rng.uniform(0.05, 0.26), rng.uniform(1.5, 4.5)
    s = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 61))
    around = (VISOR * s / (2 * np.pi) * COLUMNS) % COLUMNS
    low = np.floor(around).astype(int)
    share = (around - low)[:, None]
    rim = grid[1, low] * (1 - share) + grid[1, (low + 1) % COLUMNS] * share  # [61, 3]
    rim = rim - 0.003 * (rim - middle) / np.linalg.norm(rim - middle, axis=1, keepdims=True)
    v = np.linspace(0, 1, 14)[:, None]
    out = long * np.sqrt(np.maximum(1 - s**2, 0)) ** 1.2 * v  # [14, 61]
    top = rim + np.stack([0 * out, -slope * out, out], -1)
    top[..., 1] -= bend * v * (rim[:, 0] ** 2) * (out / long)
    below = top - [0, 0.0022, 0]
    rows = np.concatenate([top, below[::-1]])  # around the front edge, back to the band
    faces = grid_faces(len(rows), rows.shape[1], False)
    paint = np.broadcast_to(np.float32(color), (rows.shape[0] * rows.shape[1], 3)).copy()
    return Part("visor", np.float32(rows.reshape(-1, 3)), faces, "cloth", paint)
