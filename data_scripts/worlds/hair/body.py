"""What hair must not pass through: the skin, and a smooth body around it that long strands glide along.

Two descriptions of the same person. `Skin` knows the exact signed distance to the nearest triangle's plane and has
the last word. `Body` is a chart of how far the head reaches in every direction, a cap above the middle of the skull
and a cylinder below, widened into shoulders under the neck: cheap, smooth, and free of hollows that a strand would be
caught in. It comes with and without ears, for hair that covers them and hair that lies behind them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from sa0lib.head import Head

CENTRE = np.array([0.0, 0.03, -0.06], np.float32)  # metres on the mean head, amid the skull
SPACING = 3e-3  # metres between the points that stand for the skin
SKULL_RADIUS = 0.085  # metres of arc that a radian of elevation counts for
COLUMNS, ROW = 120, 4e-3  # cells around the head; metres a cell along it
LENGTH = 0.42  # metres from the middle of the skull to where the chart ends, below
# Chest, shoulders and back of a slender person, clothed: metres from the vertical axis, by angle (degrees from the
# front, columns) and depth below the middle of the skull (metres, rows).
SHOULDER_ANGLES = np.array([0, 15, 45, 75, 105, 135, 165, 180])
SHOULDER_DEPTHS = np.array([0.14, 0.16, 0.18, 0.20, 0.22, 0.26, 0.30, 0.36])
SHOULDERS = np.array([
    (0.040, 0.041, 0.046, 0.056, 0.066, 0.070, 0.070, 0.069),
    (0.044, 0.044, 0.048, 0.068, 0.083, 0.094, 0.096, 0.095),
    (0.046, 0.046, 0.072, 0.130, 0.138, 0.132, 0.119, 0.117),
    (0.058, 0.060, 0.100, 0.155, 0.158, 0.143, 0.121, 0.118),
    (0.082, 0.084, 0.121, 0.175, 0.177, 0.159, 0.130, 0.126),
    (0.100, 0.102, 0.150, 0.195, 0.198, 0.179, 0.141, 0.137),
    (0.115, 0.119, 0.166, 0.203, 0.206, 0.189, 0.148, 0.143),
    (0.125, 0.128, 0.173, 0.206, 0.207, 0.192, 0.150, 0.145),
])  # fmt: skip


def regions(head: Head, *names: str) -> Bool[ndarray, " F"]:
    """The faces that lie wholly within these regions."""
    numbers = [head.region_names.index(name) for name in names]
    return np.isin(head.region.numpy()[head.faces.numpy()], numbers).all(1)


def cover(vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"]) -> tuple[ndarray, ndarray]:
    """Points [N, 3] about SPACING apart over these triangles, and the triangle [N] each lies in."""
    corners = vertices[faces]  # [F, 3, 3]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
    parts = np.ceil(longest / SPACING).astype(int).clip(1, 12)
    points, owner = [], []
    for n in np.unique(parts):
        i, j = np.mgrid[0:n, 0:n]
        upright, turned = i + j < n, i + j < n - 1  # the n * n equal triangles that n cuts a side leave
        a = np.concatenate([i[upright] + 1 / 3, i[turned] + 2 / 3]) / n
        b = np.concatenate([j[upright] + 1 / 3, j[turned] + 2 / 3]) / n
        mine = np.nonzero(parts == n)[0]
        points.append(np.einsum("nk,fkc->fnc", np.stack([1 - a - b, a, b], 1), corners[mine]).reshape(-1, 3))
        owner.append(np.repeat(mine, len(a)))
    return np.concatenate(points), np.concatenate(owner)


class Skin:
    """Signed distance to a person's skin and eyeballs, metres, positive outside."""

    def __init__(self, head: Head, vertices: Float[ndarray, "V 3"]):
        inner = [head.region_names.index(name) for name in ("sockets", "mouth", "tongue", "teeth_upper", "teeth_lower")]
        faces = head.faces.numpy()
        faces = faces[~np.isin(head.region.numpy()[faces], inner).any(1)]
        points, owner = cover(vertices, faces)
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        self.points, self.normals = points.astype(np.float32), normal[owner].astype(np.float32)
        self.tree = cKDTree(self.points)

    def distance(self, points: Float[ndarray, "N 3"], reach: float = 0.012) -> tuple[ndarray, ndarray]:
        """Signed distance [N] and the outward direction [N, 3]; `reach` stands for anything further out."""
        gap, nearest = self.tree.query(points, distance_upper_bound=reach)
        near = np.isfinite(gap)
        nearest = np.where(near, nearest, 0)
        offset = points - self.points[nearest]
        normal = self.normals[nearest]
        signed = np.where(near, (offset * normal).sum(1), reach)
        return signed, normal

    def push_out(self, points: Float[ndarray, "S P 3"], gap: Float[ndarray, "S P"]) -> Float[ndarray, "S P 3"]:
        """The strands with every point at least `gap` metres outside, as far as three small moves get them there."""
        points = points.copy()
        flat, gap = points.reshape(-1, 3), gap.reshape(-1)
        check = np.arange(len(flat))
        for _ in range(3):
            signed, normal = self.distance(flat[check])
            low = signed < gap[check]
            check, lack = check[low], (gap[check] - signed)[low]
            flat[check] += (lack[:, None] * normal[low]).astype(np.float32)
        return points


@dataclass(frozen=True)
class Body:
    """The chart: how far the head reaches and its smooth normals, per column (around) and row (downwards)."""

    centre: Float[ndarray, "3"]  # metres, amid this person's skull
    reach: Float[ndarray, "C R"]  # metres from the centre above, from the vertical axis below
    normal: Float[ndarray, "C R 3"]

    def chart(self, points: Float[ndarray, "N 3"]) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """Column and row (fractions), distance [N] in the chart's sense and the direction [N, 3] it is measured in."""
        q = points - self.centre
        around = np.hypot(q[:, 0], q[:, 2])
        above = q[:, 1] > 0
        ray = q * np.stack([np.ones_like(around), above, np.ones_like(around)], 1)  # [N, 3]
        distance = np.linalg.norm(ray, axis=1)
        down = np.where(above, -SKULL_RADIUS * np.arctan2(q[:, 1], around), -q[:, 1])
        column = np.arctan2(q[:, 0], q[:, 2]) * (COLUMNS / (2 * np.pi))
        row = (down + SKULL_RADIUS * np.pi / 2) / ROW
        return column, row, distance, ray / np.maximum(distance, 1e-9)[:, None]

    def look(self, points: Float[ndarray, "N 3"]) -> tuple[ndarray, ndarray, ndarray]:
        """How far outside the body the points are [N], its normal there [N, 3], and the way out [N, 3]."""
        column, row, distance, ray = self.chart(points)
        row = np.clip(row, 0, self.reach.shape[1] - 1.001)
        i, j = np.floor(column).astype(int), row.astype(int)
        u, v = (column - i).astype(np.float32), (row - j).astype(np.float32)
        corners = [(i, j, (1 - u) * (1 - v)), (i + 1, j, u * (1 - v)), (i, j + 1, (1 - u) * v), (i + 1, j + 1, u * v)]
        reach, normal = 0.0, 0.0
        for a, b, weight in corners:
            reach = reach + weight * self.reach[a % COLUMNS, b]
            normal = normal + weight[:, None] * self.normal[a % COLUMNS, b]
        return distance - reach, normal, ray

    def behind(self, height: float) -> tuple[Float[ndarray, "3"], Float[ndarray, "3"]]:
        """The point on the middle of the back of the head at this height of the mean head, and its normal."""
        elevation = np.maximum(np.pi / 2 - np.arange(self.reach.shape[1]) * ROW / SKULL_RADIUS, 0)
        heights = np.sin(elevation) * self.reach[COLUMNS // 2]
        row = np.abs(heights - (height - CENTRE[1])).argmin()
        level = np.cos(elevation[row]) * self.reach[COLUMNS // 2, row]
        return self.centre + np.array([0, heights[row], -level], np.float32), self.normal[COLUMNS // 2, row]


def make_body(head: Head, vertices: Float[ndarray, "V 3"], ears: bool) -> Body:
    """The chart of one person, metres, with or without ears."""
    of = head.region.numpy()
    scalp = of == head.region_names.index("scalp")
    centre = CENTRE + vertices[scalp].mean(0) - head.v_template.numpy()[scalp].mean(0)
    names = ("face", "scalp", "neck", "eye_left", "eye_right") + (("ears",) if ears else ())
    points, _ = cover(vertices, head.faces.numpy()[regions(head, *names)])
    rows = int((SKULL_RADIUS * np.pi / 2 + LENGTH) / ROW)
    empty = Body(centre.astype(np.float32), np.zeros((COLUMNS, rows), np.float32), np.zeros((COLUMNS, rows, 3)))
    column, row, distance, _ = empty.chart(points)
    reach = np.zeros((COLUMNS, rows))
    np.maximum.at(reach, (np.rint(column).astype(int) % COLUMNS, np.rint(row).astype(int).clip(0, rows - 1)), distance)
    mode = ("wrap", "nearest")
    reach, shoulders = _with_shoulders(_fill(maximum_filter(reach, (3, 3), mode=mode)))
    fine, coarse = (gaussian_filter(reach, (width, width), mode=mode) for width in (1.2, 4))
    reach = np.where(shoulders, fine, np.maximum(fine, coarse))
    reach[:, :2] = reach[:, :2].mean()  # one point, whichever column
    return Body(empty.centre, reach.astype(np.float32), _normals(reach).astype(np.float32))


def _fill(reach: Float[ndarray, "C R"]) -> Float[ndarray, "C R"]:
    """Cells that no skin fell into (the top's narrow ones, the ears' place) from their surroundings."""
    last = reach.shape[1] - 1 - (reach[:, ::-1] > 0).argmax(1)  # [C] the neck's lower end
    inside = np.arange(reach.shape[1]) <= last[:, None]
    width = 1.0
    while (reach[inside] == 0).any():
        known = (reach > 0).astype(float)
        mean = gaussian_filter(reach, width, mode=("wrap", "nearest"))
        weight = gaussian_filter(known, width, mode=("wrap", "nearest"))
        reach = np.where((known == 0) & inside & (weight > 0.02), mean / np.maximum(weight, 1e-9), reach)
        width *= 1.3
    return reach


def _with_shoulders(reach: Float[ndarray, "C R"]) -> tuple[Float[ndarray, "C R"], Bool[ndarray, "1 R"]]:
    """The chart with shoulders under the neck, whose lower end goes straight on into them, and which rows have them."""
    columns, rows = reach.shape
    angle = 180 - np.abs(180 - np.arange(columns) * (360 / columns))  # 0 in front, 180 behind
    depth = np.arange(rows) * ROW - SKULL_RADIUS * np.pi / 2
    table = RegularGridInterpolator((SHOULDER_DEPTHS, SHOULDER_ANGLES), SHOULDERS, bounds_error=False, fill_value=None)
    inside = depth[None] > SHOULDER_DEPTHS[0] - 2 * ROW
    place = np.stack(np.broadcast_arrays(depth[None].clip(SHOULDER_DEPTHS[0]), angle[:, None]), -1)
    shoulders = np.where(inside, table(place), 0)
    last = rows - 1 - (reach[:, ::-1] > 0).argmax(1)
    edge = reach[np.arange(columns), last - 2]
    neck = np.where(np.arange(rows) > (last - 2)[:, None], edge[:, None], reach)
    return np.maximum(neck, shoulders), inside


def _normals(reach: Float[ndarray, "C R"]) -> Float[ndarray, "C R 3"]:
    columns, rows = reach.shape
    angle = np.arange(columns)[:, None] * (2 * np.pi / columns)
    down = np.arange(rows)[None] * ROW - SKULL_RADIUS * np.pi / 2
    elevation = np.maximum(-down / SKULL_RADIUS, 0)
    level = np.cos(elevation) * reach
    height = np.where(down < 0, np.sin(elevation) * reach, -down)
    surface = np.stack([np.sin(angle) * level, height, np.cos(angle) * level], -1)  # [C, R, 3]
    along = np.gradient(surface, axis=1)
    around = np.roll(surface, -1, 0) - np.roll(surface, 1, 0)
    normal = np.cross(along, around)
    normal[:, :3] = [0, 1, 0]
    return normal / np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-20)
