"""One UV chart for the skin that fills the square, face in the middle; small islands in its cut-off corners.

The skin of OpenHead is a disk whose only border is the cut through the neck. That border becomes the outline of
the chart (a square without its corners): the throat lies along the bottom, the nape along the top. Eyeballs, teeth
and tongue get an island each in the corners. No seam runs through anything that a camera sees.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import cKDTree

from data_scripts.open_head.flatten import Flattening, boundary_loop, edges_of, tutte

CUT = 0.28  # legs of the corners that the skin leaves free; 1 is the square's side
# Wanted texels per length, relative to the face: few for what is hidden or seldom looked at.
DENSITY = {
    "face": 1.0, "ears": 0.75, "scalp": 0.55, "neck": 0.2, "mouth": 0.25, "sockets": 0.1,
    "eye_left": 1.0, "eye_right": 1.0, "tongue": 1.0, "teeth_upper": 1.0, "teeth_lower": 1.0,
}  # fmt: skip
DETAIL = 0.5  # more of them per length on lips and eyelids ...
DETAIL_REACH = 0.015  # ... fading out over this distance from the eye and mouth openings, metres
EYE_BACK = 0.1  # ... and fewer at the back of an eyeball than at its front
SMOOTHING = 3  # rounds of averaging of the densities over neighbours, so that texels grow gradually
X, Y, Z = np.eye(3)


@dataclass
class Slot:
    """Where an island lies: inside |x / half[0]|^power + |y / half[1]|^power = 1 around its centre."""

    center: tuple[float, float]  # u, v; the subject's left is at larger u
    half: tuple[float, float]  # half axes
    power: float  # 2 is an ellipse, larger is closer to a rectangle
    across: Float[ndarray, "3"]  # the direction in space that should run along +u on the island's border
    up: Float[ndarray, "3"]  # and along +v
    cap: tuple[float, float] = (0.0, 0.0)  # a closed surface is opened at its back; that patch lies here
    depth: float = 0.2  # part of the surface's extent along z that the patch reaches forward


# Teeth are sheets folded over the biting edge; unfolded, the outer side of the upper ones is above it, that of the
# lower ones below, as when one looks at them from the front.
SLOTS = {
    "eye_left": Slot((0.919, 0.081), (0.067, 0.067), 2, X, Y, (0.988, 0.012), 0.3),
    "eye_right": Slot((0.081, 0.081), (0.067, 0.067), 2, X, Y, (0.012, 0.012), 0.3),
    "tongue": Slot((0.927, 0.927), (0.060, 0.060), 3, X, Y, (0.988, 0.988)),
    "teeth_upper": Slot((0.095, 0.968), (0.090, 0.026), 4, X, Z, (0.240, 0.988)),
    "teeth_lower": Slot((0.075, 0.900), (0.070, 0.026), 4, X, -Z, (0.012, 0.820)),
}
CAP_RADIUS = 0.010  # of the patches cut out at the back of closed surfaces


def unwrap(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], region: Int[ndarray, " V"], region_names: list[str]
) -> tuple[Float[ndarray, "Nvt 2"], Int[ndarray, "F 3"]]:
    """Texture coordinates `vt` in the unit square (v up) and triangles `ft`, row for row those of `faces`.

    The largest connected component is the skin and must be a disk and symmetric about x = 0 (metres, +y up, +z out
    of the face); each other component is a disk or closed and belongs to one region named in SLOTS. Raises
    ValueError, with the component's region in it, where that does not hold.
    """
    names = np.asarray(region_names)[region]  # [V]
    if not {"mouth", "sockets", "eye_left", "eye_right"} <= set(names) <= set(DENSITY):
        raise ValueError(f"regions must be those of {sorted(DENSITY)}, got {sorted(set(names))}")
    density = np.array([DENSITY[name] for name in names])
    openings = cKDTree(vertices[np.isin(names, ("mouth", "sockets"))])
    near = np.exp(-((openings.query(vertices)[0] / DETAIL_REACH) ** 2))
    density = np.where(names == "face", density * (1 + DETAIL * near), density)
    for eye in (names == name for name in ("eye_left", "eye_right")):
        z = vertices[eye, 2]
        density[eye] *= EYE_BACK + (1 - EYE_BACK) * ((z - z.min()) / np.ptp(z)) ** 2
    edges = edges_of(faces)
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), (len(vertices), len(vertices)))
    _, component = sp.csgraph.connected_components(graph, directed=False)
    component = component[faces[:, 0]]  # [F]
    skin = np.bincount(component).argmax()
    charts = []  # (rows of faces, their outline and how to lay them out)
    taken = set()
    for c in np.unique(component):
        rows = np.nonzero(component == c)[0]
        values, counts = np.unique(names[faces[rows]], return_counts=True)
        name = "skin" if c == skin else str(values[counts.argmax()])
        if name in taken or (name != "skin" and name not in SLOTS):
            raise ValueError(f"component {c} ({len(rows)} faces, region {name}) has no place of its own in the chart")
        taken.add(name)
        try:
            loop = boundary_loop(faces[rows])
        except ValueError as error:
            raise ValueError(f"region {name}: {error}") from None
        if name == "skin":
            charts.append((rows, None))
        elif len(loop):
            charts.append((rows, SLOTS[name]))
        else:
            slot = SLOTS[name]
            cap = rear_cap(vertices, faces[rows], slot.depth)
            charts.append((rows[~cap], slot))
            back = replace(slot, center=slot.cap, half=(CAP_RADIUS,) * 2, power=2, across=-slot.across)  # from behind
            charts.append((rows[cap], back))

    vt, ft, start = [], np.empty_like(faces), 0
    for rows, slot in charts:
        used, local = np.unique(faces[rows], return_inverse=True)
        local = local.reshape(-1, 3)
        flatten = lay_out_skin if slot is None else lay_out_island
        vt.append(flatten(vertices[used], local, density[used], slot))
        ft[rows] = local + start
        start += len(used)
    return np.concatenate(vt), ft


def rear_cap(vertices, faces, depth: float) -> Bool[ndarray, " F"]:
    """The faces that reach into the rearmost part, `depth` of the whole extent along z."""
    z = vertices[faces, 2]
    return (z < z.min() + depth * np.ptp(z)).any(1)


def lay_out_skin(vertices, faces, density, _) -> Float[ndarray, "v 2"]:
    """The disk inside the square without corners, exactly symmetric about u = 0.5."""
    n = len(vertices)
    distance, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    if distance.max() > 1e-6 or not np.array_equal(mirror[mirror], np.arange(n)):
        raise ValueError(f"the skin is not symmetric about x = 0: off by up to {distance.max():.2e} m")
    loop = boundary_loop(faces)
    throat = max(np.nonzero(mirror[loop] == loop)[0], key=lambda i: vertices[loop[i], 2])
    loop = np.roll(loop, -throat)
    corners = np.array([[0, -0.5], [0.5 - CUT, -0.5], [0.5, CUT - 0.5], [0.5, 0.5 - CUT], [0.5 - CUT, 0.5], [0, 0.5]])
    length = np.insert(np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum(), 0, 0)
    half = len(loop) // 2
    at = np.round(length / length[-1] * half)  # a vertex on every corner, so that the outline is the whole octagon
    left = np.stack([np.interp(np.arange(half + 1), at, corners[:, k]) for k in range(2)], axis=1)
    outline = np.concatenate([left, left[-2:0:-1] * [-1, 1]])

    # Without the diagonals that have no mirror image, the graph and so Tutte's embedding is symmetric; the faces of
    # that graph are convex, so the diagonals fit in again.
    edges = edges_of(faces)
    mirrored = np.sort(mirror[edges], axis=1)
    edges = edges[np.isin(edges @ [n, 1], mirrored @ [n, 1])]
    uv = tutte(n, edges, loop, outline)
    inner = ~np.isin(np.arange(n), loop)
    one, middle = (np.nonzero(inner & test)[0] for test in (np.arange(n) < mirror, np.arange(n) == mirror))
    # Unknowns: u and v of one vertex of each pair, v of those in the middle.
    k, m = np.arange(len(one)), np.arange(len(middle)) + 2 * len(one)
    row = np.concatenate([2 * one, 2 * mirror[one], 2 * one + 1, 2 * mirror[one] + 1, 2 * middle + 1])
    column = np.concatenate([k, k, k + len(one), k + len(one), m])
    value = np.ones(len(row))
    value[len(one) : 2 * len(one)] = -1.0  # the mirrored u
    unknowns = sp.csc_matrix((value, (row, column)), (2 * n, 2 * len(one) + len(middle)))
    density = (density * density[mirror]) ** 0.5
    return 0.5 + Flattening(vertices, faces, wanted_scale(vertices, faces, density, outline)).minimise(uv, unknowns)


def lay_out_island(vertices, faces, density, slot: Slot) -> Float[ndarray, "v 2"]:
    """A disk inside its slot, turned so that its border follows the slot's directions."""
    n, loop = len(vertices), boundary_loop(faces)
    border = vertices[loop]
    angle = np.linspace(0, 2 * np.pi, 721)
    curve = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    curve = np.sign(curve) * np.abs(curve) ** (2 / slot.power) * slot.half
    length = np.insert(np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum(), 0, 0)
    steps = np.linalg.norm(np.roll(border, -1, axis=0) - border, axis=1)
    along = np.insert(steps.cumsum(), 0, 0)[:-1] / steps.sum()  # [B] part of the border before each vertex

    def outline_at(turn: float):
        return np.stack([np.interp((along + turn) % 1.0, length / length[-1], x) for x in curve.T], axis=1)

    seen = (border - border.mean(0)) @ np.stack([slot.across, slot.up], axis=1)  # [B, 2]
    fit = np.array([(outline_at(turn) * seen).sum() for turn in np.arange(360) / 360])
    best = fit.argmax()
    before, at, after = fit[[best - 1, best, (best + 1) % 360]]
    # Between the tried turns, so that no rounding error decides between two of them.
    outline = outline_at((best + 0.5 * (before - after) / (before - 2 * at + after)) / 360)

    uv = tutte(n, edges_of(faces), loop, outline)
    inner = np.nonzero(~np.isin(np.arange(n), loop))[0]
    row = np.concatenate([2 * inner, 2 * inner + 1])
    unknowns = sp.csc_matrix((np.ones(len(row)), (row, np.arange(len(row)))), (2 * n, len(row)))
    scale = wanted_scale(vertices, faces, density, outline)
    return Flattening(vertices, faces, scale).minimise(uv, unknowns) + slot.center


def wanted_scale(vertices, faces, density, outline) -> Float[ndarray, " F"]:
    """Chart units per metre of every triangle: its density, smoothed, times what makes all of them fill the outline."""
    edges = edges_of(faces)
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    neighbours = np.bincount(i, minlength=len(vertices))
    log_density = np.log(density)
    for _ in range(SMOOTHING):
        log_density = (log_density + np.bincount(i, log_density[j], len(vertices)) / neighbours) / 2
    scale = np.exp(log_density[faces].mean(1))
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    x, y = outline.T
    room = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    return scale * np.sqrt(room / (area * scale**2).sum())
