"""Where on the head every texel of the chart lies: position, region, and how far it is from brow, lid, lip and fold.

All of it is measured on OpenHead's mean head, once per process; painting a person is then arithmetic on lists of
texels. Every coordinate is a function of the place in space, so nothing painted from it can show a seam.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.ndimage import distance_transform_edt

from data_scripts.open_head.teeth import is_contact, is_enamel
from data_scripts.worlds.skin.places import Places, find_places
from sa0lib.head import Head
from sa0lib.mesh import vertex_normals
from sa0lib.uv import UVMap, build_uv_map

SKIN = ("face", "scalp", "ears", "neck", "mouth", "sockets")  # one sheet: lids and lips run on into their cavities
EYES = ("eye_left", "eye_right")
TEETH = ("teeth_upper", "teeth_lower")
IRIS_RADIUS = 0.00585  # metres; grown-up irises differ little


@dataclass(frozen=True)
class Eyeballs:
    """Texels of both balls."""

    rows: Int[ndarray, " e"]  # among the valid texels
    direction: Float[ndarray, "e 3"]  # from the ball's centre, unit; +x is away from the nose on either side
    radius: float  # metres
    texel: float  # metres that a texel spans, in the iris


@dataclass(frozen=True)
class Teeth:
    """Texels of both rows of teeth."""

    rows: Int[ndarray, " t"]  # among the valid texels
    points: Float[ndarray, "t 3"]  # metres
    enamel: Float[ndarray, " t"]  # 1 on teeth, 0 on gums
    contact: Float[ndarray, " t"]  # 1 where two crowns touch


@dataclass(frozen=True)
class Atlas:
    """The chart sampled at size x size texel centres; G of them lie on the head, in row-major order."""

    size: int
    valid: Bool[ndarray, "N N"]  # which texels lie on the head
    nearest: Int[ndarray, "N N"]  # the valid texel (0..G-1) that each texel shows; itself where it is valid
    position: Float[ndarray, "G 3"]  # metres on the mean head
    normal: Float[ndarray, "G 3"]
    region: Int[ndarray, " G"]  # a number into head.region_names
    skin: Places  # texels of the skin, its cavities included
    eyes: Eyeballs
    teeth: Teeth
    tongue: Int[ndarray, " n"]  # rows among the valid texels

    def image(self, values: Float[ndarray, " G *C"]) -> Float[ndarray, "N N *C"]:
        """Values of the valid texels as an image; beyond a border the nearest one goes on, so nothing bleeds in."""
        return values[self.nearest]


def make_atlas(head: Head, size: int) -> Atlas:
    """Measure OpenHead's chart at `size` x `size` texels.

    Raises ValueError for a head without regions or landmarks (FLAME's chart has no place for eyes and mouth).
    """
    if head.source != "OpenHead":
        raise ValueError(f"skins are painted on OpenHead's chart, not on {head.source}'s: give load_head()")
    vertices, faces = head.v_template.numpy(), head.faces.numpy()
    uv = build_uv_map(head.vt, head.ft, size)
    nearest = _nearest_valid(uv)
    region_of = {name: head.region.numpy() == i for i, name in enumerate(head.region_names)}  # [V] each
    face, bary = uv.face.numpy(), uv.bary.numpy()  # [G], [G, 3]
    corners = faces[face]  # [G, 3]

    def at_texels(per_vertex: Float[ndarray, "V ..."]) -> Float[ndarray, "G ..."]:
        weights = bary.reshape(*bary.shape, *(1,) * (per_vertex.ndim - 1))
        return (per_vertex.astype(np.float32)[corners] * weights).sum(1)

    position, normal = at_texels(vertices), at_texels(vertex_normals(vertices, faces))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    region = head.region.numpy()[corners[np.arange(len(corners)), bary.argmax(1)]]
    part = {name: np.isin(head.region_names, names)[region] for name, names in (("eyes", EYES), ("teeth", TEETH))}
    part["tongue"] = region == head.region_names.index("tongue")
    skin = np.flatnonzero(~(part["eyes"] | part["teeth"] | part["tongue"]))
    return Atlas(
        size=size,
        valid=uv.valid.numpy(),
        nearest=nearest,
        position=position,
        normal=normal,
        region=region,
        skin=find_places(head, region_of, skin, position[skin], lambda per_vertex: at_texels(per_vertex)[skin]),
        eyes=_eyeballs(vertices, region_of, np.flatnonzero(part["eyes"]), position),
        teeth=_teeth(region_of, np.flatnonzero(part["teeth"]), position, at_texels),
        tongue=np.flatnonzero(part["tongue"]),
    )


def _nearest_valid(uv: UVMap) -> Int[ndarray, "N N"]:
    valid = uv.valid.numpy()
    number = np.zeros(valid.shape, np.int32)
    number[valid] = np.arange(len(uv), dtype=np.int32)
    row, column = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return number[row, column]


def _eyeballs(vertices, region_of, rows, position) -> Eyeballs:
    direction = np.empty((len(rows), 3), np.float32)
    for side, name in ((1, "eye_left"), (-1, "eye_right")):
        ball = vertices[region_of[name]]
        front, back = ball[0], ball[-1]  # its poles are its first and last vertex
        here = side * position[rows, 0] > 0
        direction[here] = (position[rows[here]] - 0.5 * (front + back)) * [side, 1, 1]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = float(0.5 * np.linalg.norm(front - back))
    off_axis = radius * np.hypot(*direction[direction[:, 2] > 0, :2].T)  # metres
    texels = np.count_nonzero(off_axis < IRIS_RADIUS) / 2  # of one iris
    return Eyeballs(rows, direction, radius, float(np.sqrt(np.pi * IRIS_RADIUS**2 / max(texels, 1))))


def _teeth(region_of, rows, position, at_texels) -> Teeth:
    enamel, contact = (np.zeros(len(region_of["face"]), np.float32) for _ in range(2))
    for name in TEETH:
        enamel[region_of[name]] = is_enamel(region_of[name].sum())
        contact[region_of[name]] = is_contact(name == "teeth_upper")
    return Teeth(rows, position[rows], at_texels(enamel)[rows], at_texels(contact)[rows])
