"""Neck and shoulders under the head as a smooth surface, which skin and clothes are laid on.

A place on it has a column, counted along the loop of vertices where the head's skin is cut (so it closes after as
many columns as the loop has vertices), a level (0 the loop, 1 the base of the neck, 3 the shoulder's edge, 6 the
chest below the armpits) and an offset in metres along the outward normal. All layers are made of such places,
so what lies over another in them lies over it in space, in every pose.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.spatial.transform import Rotation

from data_scripts.worlds.traits import Traits
from data_scripts.worlds.wear.parts import kabsch, skull_motion
from sa0lib.head import Head

PER_EDGE = 4  # columns of the stored surface for each edge of the loop
LEVELS, STEPS = 6, 50  # levels below the loop, and stored rows for each
ABOVE = 0.2  # level to which the surface reaches up inside the neck
SMOOTH = 0.35  # levels over which normals are averaged
TORSO_SHARE = 0.1  # of the head's turn that the shoulders follow
GRIP = 1.4  # level from which on nothing of the neck's own turn is left
# Rings below the loop, relative to its centre, metres for an average build: half width; height at the front, the
# sides and the back; reach to the front and to the back.
RINGS = np.array([
    (0.064, -0.070, -0.040, -0.026, 0.052, 0.068),  # base of the neck: the notch of the breastbone to the last vertebra
    (0.115, -0.098, -0.054, -0.056, 0.076, 0.098),  # the slope of the trapezius, collar bones
    (0.168, -0.140, -0.084, -0.105, 0.095, 0.118),  # edge of the shoulder
    (0.201, -0.190, -0.135, -0.170, 0.108, 0.128),  # deltoid
    (0.210, -0.260, -0.220, -0.250, 0.118, 0.128),
    (0.211, -0.350, -0.350, -0.350, 0.120, 0.122),
])  # fmt: skip
OVAL = (2.0, 2.1, 2.3, 2.5, 2.6, 2.6)  # exponent of each ring's superellipse: the chest is flatter than an ellipse


def neck_loop(head: Head) -> Int[ndarray, " L"]:
    """The vertices where the skin ends under the neck, in order: front first, then by the subject's left.

    Raises ValueError for a head without such a border (FLAME's has shoulders of its own kind).
    """
    faces = head.faces.numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = np.unique(np.sort(edges, 1), axis=0, return_inverse=True, return_counts=True)
    border = edges[count[2][count[1].ravel()] == 1]
    if "neck" in head.region_names:
        neck = head.region.numpy() == head.region_names.index("neck")
        border = border[neck[border].all(1)]
    if "neck" not in head.region_names or not len(border):
        raise ValueError(f"{head.source}: no border at the neck to join a bust to; use OpenHead (load_head)")
    after = dict(border.tolist())
    template = head.v_template.numpy()
    loop = [int(border[np.argmax(template[border[:, 0], 2]), 0])]
    while len(loop) < len(border):
        loop.append(after[loop[-1]])
    quarter = template[loop[len(loop) // 4], 0]
    return np.array(loop if quarter > 0 else loop[:1] + loop[:0:-1])


@dataclass(frozen=True)
class Torso:
    """The surface as a dense table, and the loop it hangs on."""

    loop: Int[ndarray, " L"]  # vertex numbers of the head
    points: Float[ndarray, "R C 3"]  # rows from level -ABOVE to LEVELS, columns PER_EDGE to an edge of the loop
    normals: Float[ndarray, "R C 3"]

    def at(self, column, level, offset) -> Float[ndarray, "... 3"]:
        """Points at these columns, levels and offsets (arrays that broadcast)."""
        column, level, offset = np.broadcast_arrays(column, level, offset)
        n = self.points.shape[1]
        wrapped = np.concatenate([[self.points, self.normals], [self.points[:, :1], self.normals[:, :1]]], 2)
        place = [(level + ABOVE) * STEPS, np.mod(column * PER_EDGE, n)]
        point, normal = (
            np.stack([map_coordinates(table[..., k], place, order=1, mode="nearest") for k in range(3)], -1)
            for table in wrapped
        )
        return point + offset[..., None] * normal


def make_torso(head: Head, vertices: Float[ndarray, "V 3"], traits: Traits) -> Torso:
    """The torso of a person (neutral vertices, metres), as broad as gender, muscle, weight and height make it.

    At the loop it continues the neck: same edge, same direction.
    """
    loop = neck_loop(head)
    vertices = vertices.astype(np.float64)
    rim = vertices[loop]  # [L, 3]
    L = len(loop)
    centre = rim.mean(0)
    neck = np.ptp(rim[:, 0]) / 2 / RINGS[0, 0] * 1.13  # how wide this neck is against the table's
    rings = RINGS.copy()
    man, strong, heavy = traits.gender, traits.muscle - 0.5, traits.weight - 0.5
    broad = 0.93 + 0.11 * man + 0.10 * strong + 0.10 * heavy + 0.15 * (traits.height - 0.5)
    rings[1:, 0] *= broad
    rings[1:, 4:] *= 0.94 + 0.08 * man + 0.2 * heavy + 0.06 * strong
    rings[0, [0, 4, 5]] *= neck
    rings[1, 2] += 0.012 * strong + 0.008 * (man - 0.5)  # a strong trapezius
    rings[3:, 4] += 0.018 * (1 - man)

    up = _upwards(head, vertices, loop)  # [L, 3]
    angle = 2 * np.pi * np.arange(L) / L  # 0 front, then by the left
    knots = [rim]
    for (width, front_y, side_y, back_y, front_z, back_z), power in zip(rings, OVAL, strict=True):
        s, c = np.sin(angle), np.cos(angle)
        x = width * np.sign(s) * np.abs(s) ** (2 / power)
        z = np.where(c > 0, front_z, back_z) * np.sign(c) * np.abs(c) ** (2 / power)
        y = side_y + (np.where(c > 0, front_y, back_y) - side_y) * c**2
        knots.append(centre + np.stack([x, y, z], 1))
    first = np.linalg.norm(knots[1] - rim, axis=1, keepdims=True)
    curve = CubicSpline(np.arange(LEVELS + 1), np.stack(knots), bc_type=((1, -up * first), (2, np.zeros((L, 3)))))
    level = np.arange(-ABOVE * STEPS, LEVELS * STEPS + 1) / STEPS
    points = curve(np.maximum(level, 0))  # [R, L, 3]
    # The crease between arm and chest, which is what tells them apart from the front.
    side = np.abs((angle + np.pi) % (2 * np.pi) - np.pi)
    crease = np.exp(-(((side - 0.95) / 0.16) ** 2)) * np.clip((level[:, None] - 3.4) / 1.4, 0, 1)
    points += 0.016 * crease[..., None] * (centre - points) / np.linalg.norm(centre - points, axis=-1, keepdims=True)
    # Above the loop: along the neck, a little inside it, so that no light falls between the two.
    inside = centre - rim
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    over = np.maximum(-level, 0)[:, None, None]
    points += over * (up * first + 0.02 * inside)
    fine = CubicSpline(np.arange(L + 1), np.concatenate([points, points[:, :1]], 1), axis=1, bc_type="periodic")
    columns = np.arange(L * PER_EDGE) / PER_EDGE
    dense = fine(columns)  # [R, C, 3]
    straight = rim[np.floor(columns).astype(int)]
    straight = straight + (columns % 1)[:, None] * (rim[(np.floor(columns).astype(int) + 1) % L] - straight)
    # On the loop's own edges, which are straight, exactly; further down the columns are round.
    row = int(ABOVE * STEPS)
    fade = np.clip(1 - np.abs(level) / 0.2, 0, 1)[:, None, None]
    dense += fade * (straight - dense[row])
    along = np.roll(dense, -1, 1) - np.roll(dense, 1, 1)
    normals = np.cross(along, np.gradient(dense, axis=0))
    # Smoothed: in the hollow between neck and shoulder, exact normals would cross within a scarf's thickness.
    normals = gaussian_filter1d(normals / np.linalg.norm(normals, axis=-1, keepdims=True), SMOOTH * STEPS, axis=0)
    normals *= -1 / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return Torso(loop, dense, normals)


def _upwards(head: Head, vertices, loop) -> Float[ndarray, "L 3"]:
    """Unit direction of the neck's skin at each vertex of the loop, away from the cut."""
    faces = head.faces.numpy()
    up = np.zeros((len(loop), 3))
    for i, v in enumerate(loop):
        near = np.unique(faces[(faces == v).any(1)])
        up[i] = vertices[np.setdiff1d(near, loop)].mean(0) - vertices[v]
    up = (np.roll(up, 1, 0) + up + np.roll(up, -1, 0)) / 3
    tangent = np.roll(vertices[loop], -1, 0) - np.roll(vertices[loop], 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    up -= (up * tangent).sum(1, keepdims=True) * tangent
    return up / np.linalg.norm(up, axis=1, keepdims=True)


def settle(
    places: list[tuple[Float[ndarray, " N"], Float[ndarray, " N"], Float[ndarray, "N 3"]]],
    loop: Int[ndarray, " L"],
    neutral: Float[ndarray, "V 3"],
    posed: Float[ndarray, "V 3"],
    head: Head,
) -> list[Float[ndarray, "N 3"]]:
    """Where points of the torso (column, level, neutral position) are when the head's vertices are `posed`.

    The shoulders go where the neck goes and turn by TORSO_SHARE of the skull's turn; the rim moves with the loop,
    vertex by vertex; between them one motion fades into the other.
    """
    skull, _ = skull_motion(neutral, posed, head)
    rim, after = neutral[loop].astype(np.float64), posed[loop].astype(np.float64)  # [L, 3]
    turn, shift = kabsch(rim, after)
    rest = after - (turn.apply(rim) + shift)  # [L, 3] what is not rigid in the loop's motion
    torso_turn, rim_turn = TORSO_SHARE * skull.as_rotvec(), turn.as_rotvec()
    moved = []
    for column, level, points in places:
        x = np.clip(level / GRIP, 0, 1)
        grip = (1 - x * x * (3 - 2 * x))[:, None]  # [N, 1] 1 on the loop
        turns = Rotation.from_rotvec(torso_turn + grip * (rim_turn - torso_turn))
        low = np.floor(column).astype(int)
        share = (column - low)[:, None]
        own = rest[low % len(loop)] * (1 - share) + rest[(low + 1) % len(loop)] * share
        moved.append(turns.apply(points - rim.mean(0)) + after.mean(0) + grip * own)
    return moved
