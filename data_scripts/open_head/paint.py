"""Which part of the head each vertex belongs to, and a plain painted colour for pictures of it."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from data_scripts.open_head.eyes import IRIS, PUPIL, eyeball_polar_angle
from data_scripts.open_head.makehuman import HEAD_PARTS, MESH_GROUPS, HeadMesh, mask
from data_scripts.open_head.surface import Surface
from data_scripts.open_head.teeth import is_contact, is_enamel
from sa0lib.uv import rasterize_triangles

REGIONS = (
    "face", "scalp", "ears", "neck", "mouth", "sockets", "eye_left", "eye_right", "teeth_upper", "teeth_lower",
    "tongue",
)  # fmt: skip
# Hairline: height in metres above the origin (amid skull and face) by azimuth from the front, degrees.
HAIRLINE = ((0, 0.090), (25, 0.086), (36, 0.072), (43, 0.050), (50, 0.024), (60, 0.026), (72, 0.016), (82, -0.010),
            (100, -0.036), (130, -0.050), (180, -0.056))  # fmt: skip
# Jaw line: height by depth z (metres): below it, from the underside of the chin back to the ear, is neck.
JAWLINE = ((-0.20, -0.056), (-0.075, -0.052), (-0.045, -0.062), (0.0, -0.088), (0.035, -0.104), (0.06, -0.110))
AXIS_Z = -0.06  # the azimuth turns about the vertical line x = 0, z = AXIS_Z
SOFT = 0.004  # metres over which hair fades into skin

SKIN, HAIR, LIP = (0.80, 0.61, 0.52), (0.23, 0.16, 0.11), (0.68, 0.36, 0.35)
BROW, LID, LASH, SOCKET = (0.25, 0.17, 0.12), (0.68, 0.47, 0.40), (0.16, 0.10, 0.08), (0.55, 0.30, 0.27)
CAVITY, TONGUE, GUM = (0.32, 0.10, 0.10), (0.68, 0.33, 0.33), (0.72, 0.38, 0.37)
ENAMEL, CONTACT = (0.92, 0.89, 0.82), (0.66, 0.58, 0.48)
# Brows, and the edge of the upper lid where the lashes are: in eyeball radii from the eye's centre.
BROW_HEIGHT, BROW_BEND, BROW_REACH, BROW_WIDTH = 1.13, 0.35, 1.03, 0.135
LASH_AT, LASH_WIDTH = 1.09, 0.065
OPEN, CAVE = 0.2, 0.25  # skin seen from fewer directions than OPEN darkens, at most to CAVE of its colour
PUPIL_COLOR, IRIS_COLOR, SCLERA = (0.02, 0.02, 0.02), (0.33, 0.22, 0.13), (0.93, 0.92, 0.90)


def regions(mesh: HeadMesh, surface: Surface) -> Int[ndarray, " V"]:
    """Index into REGIONS for every vertex."""
    number = {name: i for i, name in enumerate(REGIONS)}
    region = np.zeros(len(surface.vertices), np.uint8)
    rows = surface.parts["skin"]
    points = surface.vertices[rows]
    skin = np.full(len(points), number["face"])
    skin[points[:, 1] < np.interp(points[:, 2], *np.transpose(JAWLINE))] = number["neck"]
    skin[_above_hairline(points) > 0] = number["scalp"]
    skin[_mask(mesh, surface, "ears") > 0.5] = number["ears"]
    for part, name in (("mouth_cavity", "mouth"), ("eye_cavity.L", "sockets"), ("eye_cavity.R", "sockets")):
        inside, rim = _cavity(mesh, part)
        skin[np.setdiff1d(inside, rim)] = number[name]
    region[rows] = skin
    for part, rows in surface.parts.items():
        if part != "skin":
            region[rows] = number[part]
    return region


def paint(mesh: HeadMesh, surface: Surface, region: Int[ndarray, " V"]) -> Float[ndarray, "V 3"]:
    """Albedo in [0, 1] as displayed: skin with lips, brows, lids and lashes, hair, eyes, teeth, gums, dark mouth."""
    color = np.tile(np.array(SKIN), (len(region), 1))
    rows = surface.parts["skin"]
    skin, points = color[rows], surface.vertices[rows]  # a view: painting it paints `color`
    lids = _mask(mesh, surface, "eyelids")
    _mix(skin, LID, lids)
    for eye in ("eye_left", "eye_right"):
        ball = surface.vertices[surface.parts[eye]]
        centre, radius = 0.5 * (ball[0] + ball[-1]), 0.5 * np.linalg.norm(ball[0] - ball[-1])  # from its poles
        offset = (points - centre) / radius  # [S, 3] eyeball radii
        outward = offset[:, 0] * np.sign(centre[0])
        arch = BROW_HEIGHT - BROW_BEND * (outward - 0.24) ** 2
        inside = (np.abs(outward - 0.08) < BROW_REACH) & (offset[:, 2] > 0)
        _mix(skin, BROW, 0.95 * inside * np.exp(-(((offset[:, 1] - arch) / BROW_WIDTH) ** 2)))
        margin = np.exp(-(((np.linalg.norm(offset, axis=1) - LASH_AT) / LASH_WIDTH) ** 2))
        _mix(skin, LASH, lids * margin * np.clip(10 * offset[:, 1], 0, 1))
    _mix(skin, LIP, _mask(mesh, surface, "lips"))
    _mix(skin, HAIR, np.clip(0.5 + _above_hairline(points) / SOFT, 0, 1) * (region[rows] != REGIONS.index("ears")))
    skin *= np.clip(openness(surface)[rows] / OPEN, CAVE, 1)[:, None]
    for name, value in (("mouth", CAVITY), ("sockets", SOCKET), ("tongue", TONGUE)):
        color[region == REGIONS.index(name)] = value
    polar = eyeball_polar_angle()[:, None]
    for eye in ("eye_left", "eye_right"):
        color[surface.parts[eye]] = np.select([polar < PUPIL, polar < IRIS], [PUPIL_COLOR, IRIS_COLOR], SCLERA)
    for row in ("teeth_upper", "teeth_lower"):
        count = surface.parts[row].stop - surface.parts[row].start
        color[surface.parts[row]] = np.where(is_enamel(count)[:, None], ENAMEL, GUM)
        color[surface.parts[row]][is_contact(row == "teeth_upper")] = CONTACT
    return color


def openness(surface: Surface, directions: int = 48, size: int = 384) -> Float[ndarray, " V"]:
    """Share of the directions around from which each vertex is seen: small in nostrils, ear canals and folds."""
    vertices = surface.vertices
    turn = np.arange(directions) * np.pi * (3 - np.sqrt(5))  # golden-angle spiral over the sphere
    height = 1 - (2 * np.arange(directions) + 1) / directions
    seen = np.zeros(len(vertices))
    span = np.ptp(vertices, axis=0).max() * 1.8
    for y, angle in zip(height, turn, strict=True):
        to_viewer = np.array([np.sqrt(1 - y * y) * np.sin(angle), y, np.sqrt(1 - y * y) * np.cos(angle)])
        right = np.cross([0, 1, 0], to_viewer)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(right, to_viewer), -to_viewer])  # image x, y (down) and depth
        image = vertices @ axes.T
        xy = image[:, :2] / span * size + size / 2
        depth = image[:, 2] + 1.0  # positive
        _, _, front = rasterize_triangles(xy, depth, surface.faces, size, size)
        column, row = np.clip(xy.astype(int), 0, size - 1).T
        seen += depth < front[row, column] + 0.003
    return seen / directions


def _above_hairline(points: Float[ndarray, "S 3"]) -> Float[ndarray, " S"]:
    azimuth = np.degrees(np.abs(np.arctan2(points[:, 0], points[:, 2] - AXIS_Z)))
    return points[:, 1] - np.interp(azimuth, *np.transpose(HAIRLINE))


def _cavity(mesh: HeadMesh, part: str) -> tuple[Int[ndarray, " n"], Int[ndarray, " r"]]:
    """Skin vertices of a cavity's faces, and those of them on its rim."""
    inside = mesh.part == list(HEAD_PARTS).index(part)
    skin = mesh.group == MESH_GROUPS.index("body")
    within = np.unique(mesh.faces[inside & skin])
    return within, np.intersect1d(within, np.unique(mesh.faces[~inside & skin]))


def _mask(mesh: HeadMesh, surface: Surface, name: str) -> Float[ndarray, " S"]:
    return mask(mesh, name)[surface.kept[surface.parts["skin"]]]


def _mix(color: Float[ndarray, "N 3"], other, share: Float[ndarray, " N"]) -> None:
    """Lay `other` over `color` in place."""
    color += share[:, None] * (np.array(other) - color)
