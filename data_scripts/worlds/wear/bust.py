"""The bust of a person: the neck's skin going on below the head's cut, and the clothes on the shoulders."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray
from scipy.ndimage import map_coordinates

from data_scripts.worlds.traits import Family, Traits
from data_scripts.worlds.wear.clothes import Sheet, Tailor, dress
from data_scripts.worlds.wear.parts import Part, grid_faces
from data_scripts.worlds.wear.torso import ABOVE, PER_EDGE, Torso, make_torso, settle
from sa0lib.head import Head

SKIN_TO, SKIN_STEP = 3.6, 0.05  # level down to which there is skin under the clothes, and its rows' distance
MIRROR = 0.10  # width of the chart's rim that the skin below the cut repeats, in units of the chart
PLAIN = 0.4  # linear grey of skin that has not been painted


@dataclass(frozen=True, eq=False)  # compared by identity: it holds arrays
class Bust:
    """Parts in order from the innermost; the first is "bust_skin", the others are cloth."""

    garment: str  # what is worn
    parts: list[Part]
    column: list[Float32[ndarray, " V"]]  # of each part's vertices: their place on the torso, see torso.py
    level: list[Float32[ndarray, " V"]]
    loop: Int[ndarray, " L"]  # the head's vertices at the cut of the neck


def make_bust(
    rng: np.random.Generator, head: Head, vertices: Float[ndarray, "V 3"], traits: Traits, family: Family
) -> Bust:
    """Shoulders for a person, dressed by the family's wardrobe.

    The skin's row at the cut lies on the head's own edge; a few rows go on inside the neck. Every neckline dips into
    the skin below it, so that no gap can be seen.

    Args:
        vertices: the person's neutral head, metres.

    Raises ValueError for a head without a border at the neck.
    """
    torso = make_torso(head, vertices, traits)
    garment, sheets = dress(Tailor(torso, rng, family), rng, family)
    skin = _skin(torso)
    parts = [_part(torso, skin, "skin", _mirror(head, torso, skin))]
    parts += [_part(torso, sheet, "cloth", None) for sheet in sheets]
    layers = [skin, *sheets]
    places = [[np.float32(x.ravel()) for x in (s.column, s.level)] for s in layers]
    return Bust(garment, parts, [c for c, _ in places], [v for _, v in places], torso.loop)


def bust_follow(
    bust: Bust, neutral: Float[ndarray, "V 3"], posed: Float[ndarray, "V 3"], head: Head
) -> dict[str, Float32[ndarray, "_ 3"]]:
    """Vertices of each part, by name, when the head's vertices (metres) have gone from `neutral` to `posed`.

    Shoulders move along but stay nearly upright; the rim stays on the head's cut edge, whatever the pose.
    """
    places = [(c, v, part.vertices) for c, v, part in zip(bust.column, bust.level, bust.parts, strict=True)]
    moved = settle(places, bust.loop, neutral, posed, head)
    return {part.name: points.astype(np.float32) for part, points in zip(bust.parts, moved, strict=True)}


def paint_skin(bust: Bust, base_color: Float[ndarray, "N N 3"]) -> Bust:
    """The bust with its skin coloured like the neck above it: `base_color` is the head's texture, linear RGB."""
    skin = bust.parts[0]
    n = len(base_color)
    row, column = (1 - skin.uv[:, 1]) * n - 0.5, skin.uv[:, 0] * n - 0.5
    color = [map_coordinates(base_color[..., k], [row, column], order=1, mode="nearest") for k in range(3)]
    return replace(bust, parts=[replace(skin, color=np.float32(np.stack(color, 1))), *bust.parts[1:]])


def _skin(torso: Torso) -> Sheet:
    level = np.concatenate([np.arange(-ABOVE, 0, SKIN_STEP), np.arange(0, SKIN_TO, SKIN_STEP)])
    level, column = np.meshgrid(level, np.arange(len(torso.loop) * PER_EDGE) / PER_EDGE, indexing="ij")
    color = np.full((*level.shape, 3), PLAIN)
    return Sheet("bust_skin", column, level, np.zeros_like(level), color, True)


def _part(torso: Torso, sheet: Sheet, material, uv) -> Part:
    points = torso.at(sheet.column, sheet.level, sheet.offset).reshape(-1, 3)
    faces = grid_faces(*sheet.column.shape, sheet.closed)
    return Part(sheet.name, np.float32(points), faces, material, np.float32(sheet.color.reshape(-1, 3)), uv)


def _mirror(head: Head, torso: Torso, skin: Sheet) -> Float32[ndarray, "V 2"]:
    """Chart places of the skin below the cut: those of the neck's as far above it, to and fro."""
    corners, uv = head.faces[: len(head.ft)].numpy().ravel(), head.vt[head.ft].reshape(-1, 2).numpy()
    first = np.array([np.nonzero(corners == v)[0][0] for v in torso.loop])
    rim = uv[first]  # [L, 2] the cut lies on the chart's border, without a seam
    low = np.floor(skin.column).astype(int)
    share = (skin.column - low)[..., None]
    at = rim[low % len(rim)] * (1 - share) + rim[(low + 1) % len(rim)] * share  # [R, C, 2]
    inward = np.array([0.5, 0.5]) - at
    inward /= np.linalg.norm(inward, axis=-1, keepdims=True)
    walked = MIRROR * np.abs((np.abs(skin.level) + 1) % 2 - 1)  # a level is as long as the neck above the cut
    return np.float32((at + walked[..., None] * inward).reshape(-1, 2))
