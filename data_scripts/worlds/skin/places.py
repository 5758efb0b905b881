"""Landmark-relative coordinates of skin texels: what is near a lid, a lip, a brow, and along which lines skin folds.

Metres on OpenHead's mean head. `mirrored` points have |x| for x, so one description serves both sides of the face.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.path import Path
from numpy import ndarray
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree

from data_scripts.open_head.paint import AXIS_Z, HAIRLINE
from sa0lib.head import Head

# MediaPipe's numbers. The mouth from the subject's right corner to the left one, the folds on the left side.
LIP_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LIP_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
MEET_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
MEET_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
NASOLABIAL, MARIONETTE = (358, 423, 426, 436, 432), (291, 273, 424, 431)
CANTHI = (362, 263)  # inner, outer
BLOBS = {  # name -> (landmark, radius in metres) of a soft ball around it
    "cheek": (280, 0.024), "cheek_front": (425, 0.018), "nose": (4, 0.014), "nose_wing": (358, 0.008),
    "chin": (199, 0.015), "forehead": (151, 0.035), "under_eye": (451, 0.013), "brow_ridge": (9, 0.012),
}  # fmt: skip
# Upper and lower edge of where a beard grows: height by azimuth from the front, degrees.
BEARD_TOP = ((0, -0.031), (9, -0.030), (13, -0.035), (18, -0.044), (25, -0.050), (40, -0.044), (55, -0.030),
             (66, -0.012), (71, 0.016), (80, 0.016), (84, -0.020), (95, -0.060))  # fmt: skip
BEARD_END, BEARD_FADE = 95.0, 0.006  # degrees; metres
BROW_HALF_WIDTH = 0.0045
MANY_SPOTS, AWAY = 1024, 0.011  # places for moles, and how far they stay from eyes and mouth
FAR = 1.0  # metres: the distance given to what is out of reach


@dataclass(frozen=True)
class Fold:
    """Where one kind of wrinkle may lie; a wrinkle is a line of constant `across`."""

    rows: Int[ndarray, " n"]  # among the skin texels
    across: Float[ndarray, " n"]  # metres, over the wrinkles
    mask: Float[ndarray, " n"]  # 0..1, fading out where this kind of wrinkle ends


@dataclass(frozen=True)
class Places:
    """Coordinates of the S skin texels."""

    rows: Int[ndarray, " S"]  # among the valid texels
    points: Float[ndarray, "S 3"]  # metres
    mouth: Float[ndarray, " S"]  # 1 inside the mouth, 0 on the face
    socket: Float[ndarray, " S"]  # 1 behind the lids
    ears: Float[ndarray, " S"]  # 1 on the ears
    neck: Float[ndarray, " S"]  # 1 on the neck
    hairline: Float[ndarray, " S"]  # metres above the hairline
    lip: Float[ndarray, " S"]  # metres inside the border of the red of the lips, negative outside
    lip_up: Float[ndarray, " S"]  # metres above the line where the lips meet
    lid: Float[ndarray, " S"]  # metres from the rim of the nearer eye's opening
    lid_up: Float[ndarray, " S"]  # metres above the line through that eye's corners
    lid_out: Float[ndarray, " S"]  # 0 at its inner corner, 1 at its outer one
    brow: Float[ndarray, " S"]  # 0..1, under the brows
    beard: Float[ndarray, " S"]  # 0..1, where a beard grows
    blobs: dict[str, Float[ndarray, " S"]]  # 0..1, soft balls around the names of BLOBS
    folds: dict[str, Fold]
    spots: Float[ndarray, "K 3"]  # places on face and neck for moles, away from eyes and mouth


def find_places(
    head: Head,
    region_of: dict[str, ndarray],
    rows: Int[ndarray, " S"],
    points: Float[ndarray, "S 3"],
    at_texels: Callable,
) -> Places:
    """Measure the skin texels. `region_of`: vertices of each region; `at_texels` interpolates what vertices have."""
    vertices = head.v_template.numpy()
    landmark = head.landmarks(head.v_template[None], "478")[0].numpy()  # [478, 3]
    mirrored = points * [-1, 1, 1]
    mirrored[:, 0] = np.abs(points[:, 0])
    mirrored = mirrored.astype(np.float32)
    share = {name: at_texels(region_of[name]) for name in ("mouth", "sockets")}
    soft = {name: at_texels(_soften(region_of[name], head)) for name in ("ears", "neck")}
    azimuth = np.degrees(np.arctan2(mirrored[:, 0], mirrored[:, 2] - AXIS_Z))
    inner, outer = landmark[list(CANTHI)]
    lid_out = (mirrored[:, 0] - inner[0]) / (outer[0] - inner[0])
    lid_up = mirrored[:, 1] - (inner[1] + np.clip(lid_out, 0, 1) * (outer[1] - inner[1]))
    lip, lip_up = _lips(landmark, points)
    lid = _reach(_rim(head, region_of["sockets"], vertices), mirrored, 0.06)
    inside = np.maximum(share["mouth"], share["sockets"])
    return Places(
        rows=rows,
        points=points,
        mouth=share["mouth"],
        socket=share["sockets"],
        ears=soft["ears"],
        neck=soft["neck"],
        hairline=(mirrored[:, 1] - np.interp(azimuth, *np.transpose(HAIRLINE))).astype(np.float32),
        lip=lip,
        lip_up=lip_up,
        lid=lid,
        lid_up=lid_up.astype(np.float32),
        lid_out=lid_out.astype(np.float32),
        brow=_brow(head, mirrored),
        beard=_beard(azimuth, mirrored) * (1 - inside),
        blobs={name: _ball(mirrored, landmark[i], r) for name, (i, r) in BLOBS.items()},
        folds=_folds(landmark, points, mirrored, lip, lip_up, lid, lid_up, soft["neck"], inside),
        spots=_spots(vertices, head, region_of),
    )


def step(x, low: float, high: float):
    """0 below `low`, 1 above `high`, smooth between; `low` may be the larger one."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _soften(member: ndarray, head: Head, rounds: int = 4) -> Float[ndarray, " V"]:
    """Membership of a region averaged over neighbours, so that it has no jagged edge."""
    a, b = head.faces.numpy()[:, [0, 1, 2, 1, 2, 0]].reshape(-1, 2, 3).transpose(1, 0, 2).reshape(2, -1)
    value, count = member.astype(float), np.maximum(np.bincount(a, minlength=len(member)), 1)
    for _ in range(rounds):
        value = 0.5 * value + 0.5 * np.bincount(a, value[b], len(member)) / count
    return value


def _ball(points, centre, radius: float) -> Float[ndarray, " S"]:
    return np.exp(-((points - centre.astype(np.float32)) ** 2).sum(1) / np.float32(radius**2))


def _curve(knots: Float[ndarray, "k d"], count: int = 160) -> Float[ndarray, "count d"]:
    """A smooth line through the knots, evenly sampled in the knots' own lengths."""
    length = np.insert(np.linalg.norm(np.diff(knots, axis=0), axis=1).cumsum(), 0, 0)
    return make_interp_spline(length, knots, k=3)(np.linspace(0, length[-1], count))


def _reach(curve: ndarray, points: ndarray, limit: float) -> Float[ndarray, " S"]:
    """Distance to the nearest sample of a curve, FAR beyond `limit`."""
    distance, _ = cKDTree(curve).query(points, distance_upper_bound=limit)
    return np.where(np.isfinite(distance), distance, FAR).astype(np.float32)


def _rim(head: Head, sockets: ndarray, vertices) -> Float[ndarray, "r 3"]:
    """The left eye's opening in the skin, sampled along the mesh edges between lid and socket."""
    faces = head.faces.numpy()
    mixed = faces[sockets[faces].any(1) & ~sockets[faces].all(1)]
    on_rim = np.zeros(len(vertices), bool)
    on_rim[mixed.ravel()] = True
    on_rim &= ~sockets & (vertices[:, 0] > 0)
    edges = np.unique(np.sort(mixed[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    a, b = vertices[edges[on_rim[edges].all(1)]].transpose(1, 0, 2)
    return (a[None] + np.linspace(0, 1, 8, endpoint=False)[:, None, None] * (b - a)).reshape(-1, 3)


def _lips(landmark, points) -> tuple[Float[ndarray, " S"], Float[ndarray, " S"]]:
    """Signed distance to the border, seen from the front, and height above the line where the lips meet."""
    upper, lower = (_curve(landmark[list(line), :2]) for line in (LIP_UPPER, LIP_LOWER))
    near = np.linalg.norm(points - landmark[[0, 17]].mean(0), axis=1) < 0.045
    distance = _reach(np.concatenate([upper, lower]), points[near][:, :2], FAR)
    inside = Path(np.concatenate([upper, lower[::-1]])).contains_points(points[near][:, :2])
    signed, height = np.full(len(points), -FAR, np.float32), np.full(len(points), FAR, np.float32)
    signed[near] = np.where(inside, distance, -distance)
    meet = 0.5 * (landmark[list(MEET_UPPER)] + landmark[list(MEET_LOWER)])
    height[near] = points[near, 1] - np.interp(points[near, 0], meet[:, 0], meet[:, 1])
    return signed, height


def _brow(head: Head, mirrored) -> Float[ndarray, " S"]:
    line = _curve(head.landmarks(head.v_template[None], "68")[0, 22:27].numpy())
    distance = _reach(line, mirrored, 3 * BROW_HALF_WIDTH)
    tail = np.clip((mirrored[:, 0] - line[0, 0]) / (line[-1, 0] - line[0, 0]), 0, 1)  # thinner outwards
    return np.exp(-((distance / (BROW_HALF_WIDTH * (1 - 0.6 * tail**2))) ** 2)).astype(np.float32)


def _beard(azimuth, mirrored) -> Float[ndarray, " S"]:
    top = np.interp(azimuth, *np.transpose(BEARD_TOP)) - mirrored[:, 1]
    low = mirrored[:, 1] + 0.112 - 0.04 * np.clip(azimuth / 60, 0, 1)
    sides = step(azimuth, BEARD_END, BEARD_END - 20)
    return (step(top, -BEARD_FADE, BEARD_FADE) * step(low, -BEARD_FADE, BEARD_FADE) * sides).astype(np.float32)


def _folds(landmark, points, mirrored, lip, lip_up, lid, lid_up, neck, inside) -> dict[str, Fold]:
    x, y, z = mirrored.T
    skin = inside < 0.05
    front = skin & (z > 0)
    folds = {}

    def add(name: str, where, across, mask):
        rows = np.flatnonzero(where)
        across, mask = np.broadcast_to(across, x.shape)[rows], np.broadcast_to(mask, x.shape)[rows]
        folds[name] = Fold(rows, across.astype(np.float32), mask.astype(np.float32))

    arch = np.clip(x / 0.045, 0, 1)
    mask = step(y, 0.044, 0.054) * step(y, 0.088, 0.078) * step(x, 0.052, 0.034)
    add("forehead", front & (mask > 0), y - 0.050 - 0.012 * arch * (1 - arch), mask)
    mask = step(y, 0.020, 0.029) * step(y, 0.050, 0.041)
    add("frown", front & (mask > 0) & (x < 0.018), x - 0.0060 - 0.15 * (y - 0.034), mask)
    mask = step(x, 0.011, 0.005) * step(np.abs(y - 0.021), 0.007, 0.003)
    add("bridge", front & (mask > 0), y - 0.021 + 12 * x**2, mask)

    corner = landmark[CANTHI[1]] + [0.002, 0.0, 0.0]
    outwards = np.hypot(x - corner[0], z - corner[2]) * np.sign(x - corner[0] + 0.3 * (corner[2] - z))
    radius, angle = np.hypot(outwards, y - corner[1]), np.arctan2(y - corner[1], outwards)
    mask = step(radius, 0.004, 0.010) * step(radius, 0.032, 0.018) * step(np.abs(angle), 1.2, 0.7)
    add("crow", skin & (mask > 0), 0.015 * angle, mask)

    low = step(lid_up, 0.001, -0.003)
    mask = low * step(lid, 0.002, 0.004) * step(lid, 0.016, 0.010) * step(x, 0.012, 0.019)
    add("under_eye", front & (mask > 0), lid, mask)
    upper = step(lid_up, 0.001, 0.004) * step(lid, 0.011, 0.008)
    add("lid", front & (upper > 0) & (x < landmark[CANTHI[1], 0] + 0.004), lid, upper)

    for name, line, ends in (("nasolabial", NASOLABIAL, (0.08, 0.7)), ("marionette", MARIONETTE, (0.2, 0.6))):
        curve = _curve(landmark[list(line)])
        near = np.flatnonzero(front & (x < 0.07) & (y < -0.005) & (y > -0.11))
        distance, at = cKDTree(curve).query(mirrored[near], distance_upper_bound=0.016)
        near, distance, at = near[at < len(curve)], distance[at < len(curve)], at[at < len(curve)]
        tangent = np.gradient(curve, axis=0)[at]
        offset = mirrored[near] - curve[at]
        side = np.sign(offset[:, 1] * tangent[:, 0] - offset[:, 0] * tangent[:, 1])  # + on the cheek
        along = at / (len(curve) - 1)
        mask = step(along, 0.0, ends[0]) * step(along, 1.0, ends[1]) * step(distance, 0.016, 0.008)
        folds[name] = Fold(near, (side * distance).astype(np.float32), mask.astype(np.float32))

    fan = points[:, 0] * (1 - 12 * np.clip(-lip, 0, 0.02))
    mask = step(-lip, 0.0005, 0.002) * step(-lip, 0.010, 0.005) * step(x, 0.024, 0.016)
    mask = mask * np.where(lip_up > 0, 1.0, 0.35)  # the lower lip has fewer of them
    add("perioral", front & (mask > 0), fan, mask)
    mask = step(lip, 0.0003, 0.0015) * step(x, 0.024, 0.018)
    add("lip", (lip > 0) & (z > 0.03), fan, mask)
    mask = step(neck, 0.7, 1.0) * step(y, -0.125, -0.119) * step(z, -0.06, -0.03)
    add("neck", mask > 0, y - 0.5 * z + 0.118 + 0.3 * x, mask)
    return folds


def _spots(vertices, head: Head, region_of) -> Float[ndarray, "K 3"]:
    faces = head.faces.numpy()
    corner = vertices[faces[(region_of["face"] | region_of["neck"])[faces].all(1)]]  # [n, 3, 3]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    rng = np.random.default_rng(0)  # the same places for everybody; a person has some of them
    bary = rng.dirichlet((1, 1, 1), 2 * MANY_SPOTS)
    spots = (corner[rng.choice(len(corner), 2 * MANY_SPOTS, p=area / area.sum())] * bary[..., None]).sum(1)
    distance, _ = cKDTree(vertices[region_of["mouth"] | region_of["sockets"]]).query(spots)
    return spots[distance > AWAY][:MANY_SPOTS].astype(np.float32)
