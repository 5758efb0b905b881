"""Glasses and headwear, fitted to a person through landmarks and the relief of the skin, so that nothing pierces it.

All of it rides on the skull: see `parts.carried`.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from data_scripts.worlds.wear.caps import cap, tuck
from data_scripts.worlds.wear.parts import Part
from data_scripts.worlds.wear.sweep import Relief, tube
from sa0lib.head import Head

__all__ = ["cap", "glasses", "tuck"]

# Rims as superellipses: width and height in shares of the distance between the eyes, exponent, and how much a rim
# droops outwards below (an aviator's teardrop).
SHAPES = {
    "round": (0.74, 0.70, 2.0, 0.0),
    "oval": (0.80, 0.56, 2.3, 0.0),
    "rectangular": (0.86, 0.56, 4.0, 0.0),
    "aviator": (0.90, 0.76, 2.5, 0.16),
}
PLASTICS = [(0.012, 0.012, 0.012), (0.07, 0.028, 0.012), (0.16, 0.02, 0.025), (0.02, 0.04, 0.10), (0.35, 0.33, 0.30)]
METALS = [(0.75, 0.58, 0.30), (0.65, 0.66, 0.68), (0.10, 0.10, 0.11), (0.70, 0.45, 0.36)]
RIM_POINTS, TEMPLE_POINTS = 56, 120
PANTO, WRAP = np.radians(7.0), 0.16  # a lens leans forward at its top; radius of the frame's curve, metres
LENS_GAP = 12e-3  # metres from the cornea to the lens, at least: lashes must fit between
SKIN_GAP = 0.8e-3  # metres between any part of the frame and the skin, at least
OUTER = ("face", "scalp", "neck", "sockets", "eye_left", "eye_right")  # what a frame must not touch


def glasses(rng: np.random.Generator, head: Head, vertices: Float[ndarray, "V 3"]) -> list[Part]:
    """Rims, bridge and temples of metal or plastic, and two lenses, for a person's neutral vertices in metres.

    Lenses are clear, sometimes tinted, seldom dark. They are single sheets: a material that does not refract.
    """
    shape = str(rng.choice(list(SHAPES), p=[0.25, 0.25, 0.33, 0.17]))
    metal = shape == "aviator" or rng.random() < 0.4
    colors = METALS if metal else PLASTICS
    color = np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.85, 1.1, 3)
    thick, deep = (0.8e-3, 0.8e-3) if metal else (rng.uniform(1.2e-3, 2.2e-3), rng.uniform(1.4e-3, 1.9e-3))
    tint = np.array([0.97, 0.98, 0.97])
    dark = rng.random()
    if dark < 0.2:
        tint = tint * (rng.uniform(0.05, 0.15) if dark < 0.08 else rng.uniform(0.35, 0.7)) * rng.uniform(0.85, 1, 3)

    points = head.landmarks(torch.from_numpy(np.float32(vertices))[None])[0].numpy().astype(np.float64)
    eyes = np.stack([points[[36, 39]].mean(0), points[[42, 45]].mean(0)])  # [2, 3] right, left
    apart = float(eyes[1, 0] - eyes[0, 0])
    wide, high, power, droop = np.array(SHAPES[shape]) * [rng.uniform(0.95, 1.05), rng.uniform(0.95, 1.05), 1, 1]
    half = np.array([0.5 * apart * wide, 0.5 * apart * high])
    middle = eyes.mean(0)
    # Lenses sit a little wider apart than the eyes and lower, with room for the bridge between them.
    center = np.array([max(0.515 * apart, half[0] + 0.0075), -0.06 * apart])
    outline = _outline(half, power, droop)  # [N, 2] of the left lens, about its own centre

    def place(x, y, z0):
        """Points of the frame's curved and tilted front (x, y from the middle between the eyes)."""
        return np.stack([middle[0] + x, middle[1] + y, z0 + np.tan(PANTO) * y - x**2 / (2 * WRAP)], -1)

    front = Relief(head, vertices, OUTER, "front")
    inner = [center + s * outline for s in (0.0, 0.35, 0.7, 1.0, 1 + deep / half.min())]
    x, y = np.concatenate(inner).T
    x, y = np.concatenate([x, -x]), np.concatenate([y, y])
    flat = place(x, y, 0.0)
    z0 = float((front.at(flat[:, 0], flat[:, 1]) - flat[:, 2]).max()) + deep + SKIN_GAP
    z0 = max(z0, float(vertices[_rows(head, "eye_left", "eye_right"), 2].max()) + LENS_GAP)

    parts = []
    for name, side in (("right", -1), ("left", 1)):
        ring = place(side * (center[0] + outline[:, 0]), center[1] + outline[:, 1], z0)
        parts.append(_solid(f"rim_{name}", tube(ring, np.array([0, 0, 1.0]), (deep, thick), True), metal, color))
        parts.append(_lens(f"lens_{name}", place, side, center, outline, z0, tint))
        parts.append(_solid(f"temple_{name}", _temple(head, vertices, ring, side, metal), metal, color))
    heights = (0.18, 0.8) if shape == "aviator" else (rng.uniform(0.25, 0.5),)
    for k, height in enumerate(heights):
        near = outline[np.argmin(np.abs(outline[:, 1] - height * half[1]) + 10 * (outline[:, 0] > 0))]
        x = np.linspace(-1, 1, 21) * (center[0] + near[0])
        path = place(x, center[1] + near[1] + 0.0022 * (1 - (x / x[0]) ** 2), z0)
        need = front.at(path[:, 0], path[:, 1]) + deep + SKIN_GAP - path[:, 2]
        path[:, 2] += np.maximum(need.max(), 0.001) * (1 - (x / x[0]) ** 4)  # an arch over the nose
        sizes = (0.9 * thick + 0.4e-3, deep)
        parts.append(_solid(f"bridge_{k}", tube(path, np.array([0, 1.0, 0]), sizes, False), metal, color))
    return parts


def _rows(head: Head, *names: str) -> ndarray:
    return np.isin(head.region.numpy(), [head.region_names.index(name) for name in names])


def _solid(name: str, mesh, metal: bool, color) -> Part:
    vertices, faces = mesh
    paint = np.broadcast_to(np.float32(np.clip(color, 0, 1)), vertices.shape).copy()
    return Part(name, np.float32(vertices), faces, "metal" if metal else "plastic", paint)


def _outline(half, power: float, droop: float) -> Float[ndarray, "N 2"]:
    """A lens's edge about its centre: a superellipse whose lower part may lean outwards, evenly spaced along it."""
    angle = np.linspace(0, 2 * np.pi, 721)
    s, c = np.sin(angle), np.cos(angle)
    x = half[0] * np.sign(c) * np.abs(c) ** (2 / power)
    y = half[1] * np.sign(s) * np.abs(s) ** (2 / power)
    x = x * (1 - droop * np.clip(-y / half[1], 0, 1)) + droop * half[0] * np.clip(-y / half[1], 0, 1) * 0.6
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    at = np.linspace(0, length[-1], RIM_POINTS, endpoint=False)
    return np.stack([np.interp(at, length, x), np.interp(at, length, y)], 1)


def _lens(name: str, place, side: int, center, outline, z0: float, tint) -> Part:
    rings = [place(side * (center[0] + s * outline[:, 0]), center[1] + s * outline[:, 1], z0) for s in (1, 0.66, 0.33)]
    vertices = np.concatenate([*rings, place(np.array([side * center[0]]), np.array([center[1]]), z0)])
    n, faces = len(outline), []
    i = np.arange(n)
    j = (i + 1) % n
    for k in range(2):
        a, b, c, d = k * n + i, k * n + j, (k + 1) * n + i, (k + 1) * n + j
        faces += [np.stack([a, b, d], 1), np.stack([a, d, c], 1)]
    faces.append(np.stack([2 * n + i, 2 * n + j, np.full(n, 3 * n)], 1))
    faces = np.concatenate(faces)[:, ::side]  # towards +z on both sides
    paint = np.broadcast_to(np.float32(tint), vertices.shape).copy()
    return Part(name, np.float32(vertices), np.ascontiguousarray(faces, np.int32), "glass", paint)


def _temple(head: Head, vertices, ring, side: int, metal: bool):
    """A bar from the rim's outer corner back over the root of the ear, and down behind it."""
    radii = (0.9e-3, 0.7e-3) if metal else (2.0e-3, 1.1e-3)  # upright and across
    faces, ears = head.faces.numpy(), _rows(head, "ears")
    seam = np.unique(faces[ears[faces].any(1) & ~ears[faces].all(1)])
    seam = vertices[seam[(side * vertices[seam, 0] > 0)]].astype(np.float64)  # where the ear meets the head
    top = seam[seam[:, 1].argmax()]
    over = np.array([top[0], top[1] + radii[0] + 1.5e-3, top[2]])
    # Down along the back of the seam, a little behind it.
    heights = top[1] - np.array([0.009, 0.018, 0.027])
    back = [seam[np.where(np.abs(seam[:, 1] - y) < 6e-3, seam[:, 2], np.inf).argmin()] for y in heights]
    hook = np.stack([[b[0], y, b[2] - 2e-3] for b, y in zip(back, heights, strict=True)])
    corner = ring[np.argmax(side * ring[:, 0] + 0.7 * ring[:, 1])]
    hinge = corner + np.array([side * 0.0055, 0.0, -0.0045])
    knots = np.array([corner, hinge, over, *hook])
    t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    at = np.linspace(0, t[-1], TEMPLE_POINTS)
    path = np.stack([np.interp(at, t, k) for k in knots.T], 1)
    path = gaussian_filter1d(path, 2.5, axis=0, mode="nearest")  # no sharp bends
    relief = Relief(head, vertices, ("face", "scalp", "neck"), "left" if side > 0 else "right")
    need = relief.at(path[:, 2], path[:, 1]) + radii[1] + SKIN_GAP - side * path[:, 0]
    # Where the head is wider than the straight bar, it bows out. The blur's reach is within the maximum's, so that
    # what is left after it is nowhere less than needed.
    lift = gaussian_filter1d(maximum_filter1d(np.maximum(need, 0), 33, mode="nearest"), 5, truncate=3, mode="nearest")
    path[:, 0] += side * lift
    return tube(path, np.array([0, 1.0, 0]), radii, False)
