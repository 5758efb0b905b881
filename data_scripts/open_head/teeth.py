"""Two rows of teeth with their gums: one strip of crowns swept along each dental arch.

The base mesh carries invisible guides that follow every shape target; they say where the arches lie, and the teeth
follow them by one affine map per row, so crowns keep their form while jaws grow and narrow.
Crown widths and heights are the usual adult averages of dental anatomy, millimetres.
"""

from dataclasses import astuple, dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import ConvexHull


@dataclass(frozen=True)
class Crown:
    """One kind of tooth. Millimetres."""

    width: float  # along the arch
    height: float  # gum line to biting edge
    edge: float  # thickness of the biting edge or chewing face
    depth: float  # from outer to inner surface at the gum
    reach: float  # how far the edge stands beyond the row's biting plane
    columns: int  # mesh columns that the tooth gets


UPPER = (  # from the midline outwards: two incisors, canine, two premolars, first molar
    Crown(8.6, 10.2, 1.2, 6.0, 1.9, 4), Crown(6.7, 9.0, 1.2, 5.5, 1.2, 4), Crown(7.6, 9.8, 1.8, 7.0, 1.6, 4),
    Crown(7.0, 8.2, 5.0, 8.5, 0.0, 3), Crown(6.8, 7.6, 5.0, 8.5, 0.0, 3), Crown(10.2, 7.2, 7.0, 10.5, 0.0, 3),
)  # fmt: skip
LOWER = (
    Crown(5.4, 8.6, 1.0, 5.5, 0.0, 4), Crown(6.0, 8.8, 1.0, 5.5, 0.0, 4), Crown(6.9, 9.8, 1.6, 7.0, 0.4, 4),
    Crown(7.0, 8.4, 4.5, 7.5, 0.0, 3), Crown(7.1, 8.0, 5.0, 8.0, 0.0, 3), Crown(11.0, 7.4, 7.0, 10.0, 0.0, 3),
)  # fmt: skip
GUM_TOP = 15.5  # where the gum ends outside, above the biting plane ...
GUM_INNER = 12.5  # ... and inside
GROOVE = 0.9  # how far neighbouring crowns round off towards their contact
PAPILLA = 2.0  # how far the gum climbs between two crowns
# Upper, lower row against its guide. The guides leave a gap between the rows and lie so high and so far back that lips
# would hide the upper incisors of every smile; people show some millimetres of them.
SETBACK = {True: 0.8, False: 3.1}  # how far the crowns stand behind the guide's outline: the lower bite inside
DROP = {True: 2.0, False: 1.7}  # how far the biting plane lies below the guide's
FORWARD = 2.0  # how far both rows are brought towards the lips
ENAMEL_ROWS = slice(2, 7)  # rows of the profile that are tooth; the others are gum
N_ROWS, EDGE = 8, 4  # rows of the profile, and which of them is the outer biting edge


@dataclass
class Arch:
    """The outer outline of a guide seen from above, and the slope of its biting plane."""

    centre: float  # z of the polar centre, metres
    radius: Float[ndarray, "3"]  # r(phi) = sum radius[k] phi^(2k), phi from the front
    plane: Float[ndarray, "2"]  # y = plane[0] + plane[1] z at the biting edge

    def point(self, phi: Float[ndarray, " n"]) -> Float[ndarray, "n 2"]:
        """x, z of the outline at polar angle phi."""
        r = sum(c * phi ** (2 * k) for k, c in enumerate(self.radius))
        return np.stack([r * np.sin(phi), self.centre + r * np.cos(phi)], axis=1)


def fit_arch(guide: Float[ndarray, "n 3"], upper: bool) -> Arch:
    """Outline (even polynomial in polar angle through the hull seen from above) and biting plane of a guide."""
    hull = guide[ConvexHull(guide[:, [0, 2]]).vertices]
    back, front = guide[:, 2].min(), guide[:, 2].max()
    centre = back + 0.35 * (front - back)
    outline = hull[hull[:, 2] > back + 1e-3]
    phi = np.arctan2(outline[:, 0], outline[:, 2] - centre)
    r = np.hypot(outline[:, 0], outline[:, 2] - centre)
    radius = np.linalg.lstsq(phi[:, None] ** np.array([0, 2, 4]), r, rcond=None)[0]
    tilt = np.polynomial.polynomial.polyfit(guide[:, 2], guide[:, 1], 1)
    height = guide[:, 1] - np.polynomial.polynomial.polyval(guide[:, 2], tilt)
    edge = guide[height < 0.6 * height.min()] if upper else guide[height > 0.6 * height.max()]
    return Arch(centre, radius, np.polynomial.polynomial.polyfit(edge[:, 2], edge[:, 1], 1))


def tooth_row(guide: Float[ndarray, "n 3"], upper: bool) -> tuple[Float[ndarray, "N 3"], Int[ndarray, "F 3"]]:
    """Vertices in metres ([columns, rows] row-major, from the subject's right to left) and outward-facing triangles."""
    crowns, arch = (UPPER if upper else LOWER), fit_arch(guide, upper)
    row = [*crowns[::-1], *crowns]  # right to left
    phi = np.radians(np.linspace(-120, 120, 4001))
    outline = arch.point(phi)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    length -= np.interp(0, phi, length)  # 0 at the midline
    columns, start = [], -sum(crown.width for crown in crowns)
    for before, crown in zip([row[0], *row[:-1]], row, strict=True):
        for step in range(crown.columns):
            shape = crown if step else _between(before, crown)
            at = start + crown.width * step / crown.columns
            columns.append(_column(arch, phi, length, at, shape, step / crown.columns, upper))
        start += crown.width
    columns.append(_column(arch, phi, length, start, row[-1], 1.0, upper))
    vertices = np.stack(columns)  # [C, R, 3]
    index = np.arange(len(columns) * N_ROWS).reshape(len(columns), N_ROWS)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return vertices.reshape(-1, 3), faces[:, ::-1] if upper else faces


def _between(a: Crown, b: Crown) -> Crown:
    """The crown whose measures are the mean of two neighbours': for the column where they touch."""
    return Crown(*(0.5 * (x + y) for x, y in zip(astuple(a), astuple(b), strict=True)))


def _column(arch: Arch, phi, length, s: float, crown: Crown, t: float, upper: bool) -> Float[ndarray, "R 3"]:
    """The profile across the arch, s millimetres from the midline: outer gum, crown, edge, inner crown, inner gum."""
    angle = np.interp(1e-3 * np.array([s - 0.1, s, s + 0.1]), length, phi)
    before, here, after = arch.point(angle)
    tangent = (after - before) / np.linalg.norm(after - before)
    outward = np.array([-tangent[1], tangent[0]])  # x, z; the strip runs from -x to +x
    round_off = 1 - np.sqrt(max(0.0, 4 * t * (1 - t)))  # 1 at the contact with the neighbour, 0 at mid-crown
    inset = GROOVE * round_off
    edge = -crown.reach + 0.8 * round_off  # millimetres above the biting plane
    margin = crown.height - PAPILLA * round_off
    out = -SETBACK[upper] + np.array([  # outward, millimetres
        -1.6, 0.1, -0.25 - inset, 0.35 - inset, -0.5 - inset, -0.5 - crown.edge + 0.5 * inset,
        -0.8 * crown.depth + inset, -crown.depth,
    ])  # fmt: skip
    up = np.array([
        GUM_TOP, margin, margin - 0.15, 0.5 * margin + 0.5 * edge, edge, edge,
        0.55 * crown.height, GUM_INNER,
    ])  # fmt: skip
    plane = here + 1e-3 * out[:, None] * outward  # [R, 2] x, z
    y = arch.plane[0] + arch.plane[1] * plane[:, 1] + (1e-3 if upper else -1e-3) * up - 1e-3 * DROP[upper]
    return np.stack([plane[:, 0], y, plane[:, 1] + 1e-3 * FORWARD], axis=1)


def is_enamel(count: int) -> ndarray:
    """Which of a row's vertices are tooth rather than gum."""
    mask = np.zeros((count // N_ROWS, N_ROWS), bool)
    mask[:, ENAMEL_ROWS] = True
    return mask.ravel()


def is_contact(upper: bool) -> ndarray:
    """Which of a row's vertices lie in the groove between two crowns."""
    crowns = UPPER if upper else LOWER
    counts = [crown.columns for crown in (*crowns[::-1], *crowns)]
    mask = np.zeros((sum(counts) + 1, N_ROWS), bool)
    mask[np.concatenate([[0], np.cumsum(counts)]), ENAMEL_ROWS] = True
    return mask.ravel()


def follow_guide(
    vertices: Float[ndarray, "N 3"], guide: Float[ndarray, "n 3"], moved: Float[ndarray, "... n 3"]
) -> Float[ndarray, "... N 3"]:
    """Displacement of the teeth by the affine map closest to the guide's displacement; linear in `moved`."""
    ones = np.ones((len(guide), 1))
    map_ = np.hstack([vertices, np.ones((len(vertices), 1))]) @ np.linalg.pinv(np.hstack([guide, ones]))  # [N, n]
    return np.einsum("Nn,...nc->...Nc", map_, moved)
