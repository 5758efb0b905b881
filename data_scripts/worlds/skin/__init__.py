"""Paint a person's surface: colour, roughness and relief maps of OpenHead's whole chart, all procedural.

`atlas = make_atlas(load_head(), 512)` once per process; then, for every person, `skin = sample_skin(rng, traits, "a")`
and `maps = paint(skin, atlas)`: the same skin gives the same maps.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.atlas import Atlas
from data_scripts.worlds.skin.eyes import paint_eyes
from data_scripts.worlds.skin.layers import paint_hair_shadow, paint_makeup
from data_scripts.worlds.skin.mouth import paint_teeth, paint_tongue
from data_scripts.worlds.skin.noise import Noise
from data_scripts.worlds.skin.places import Places, step
from data_scripts.worlds.skin.relief import Relief, paint_relief
from data_scripts.worlds.skin.sample import Makeup, Skin, sample_skin
from data_scripts.worlds.skin.tone import PALETTES, paint_tone

__all__ = ["Makeup", "Maps", "Skin", "paint", "sample_skin"]

BLACKEST, WHITEST = 0.002, 0.85  # no surface of a head is darker or paler
SKIN_ROUGHNESS, OILY, LIP_ROUGHNESS, MUCOUS_ROUGHNESS = 0.50, 0.20, 0.38, 0.22


@dataclass(frozen=True)
class Maps:
    """Pictures of the chart; row 0 is at v near 1, texel (i, j) has its centre at u = (j+.5)/N, v = 1-(i+.5)/N."""

    base_color: Float[ndarray, "N N 3"]  # linear RGB, 0..1, float32
    roughness: Float[ndarray, "N N"]  # 0..1, as the principled BSDF takes it
    height: Float[ndarray, "N N"]  # metres of relief along the normal


def paint(skin: Skin, atlas: Atlas) -> Maps:
    """The person's maps at the atlas's size; texels outside the chart repeat the nearest one inside."""
    noise, places = PALETTES[skin.family].noise, atlas.skin
    count = len(atlas.position)
    color = np.empty((count, 3), np.float32)
    roughness, height = np.empty(count, np.float32), np.zeros(count, np.float32)

    relief = paint_relief(skin, places, noise)
    tone, moles = paint_tone(skin, places, relief)
    paint_hair_shadow(skin, places, noise, tone)
    shine = paint_makeup(skin, places, noise, tone)
    color[places.rows], height[places.rows] = tone, relief.height + moles
    roughness[places.rows] = _roughness(skin, places, relief, noise) + shine

    color[atlas.eyes.rows], roughness[atlas.eyes.rows] = paint_eyes(skin, atlas.eyes, noise)
    color[atlas.teeth.rows], roughness[atlas.teeth.rows] = paint_teeth(skin, atlas.teeth, noise)
    rows = atlas.tongue
    color[rows], roughness[rows], height[rows] = paint_tongue(skin, atlas.position[rows], noise)
    return Maps(
        base_color=atlas.image(np.clip(color, BLACKEST, WHITEST)),
        roughness=atlas.image(np.clip(roughness, 0.05, 0.9)),
        height=atlas.image(height),
    )


def _roughness(skin: Skin, places: Places, relief: Relief, noise: Noise) -> Float[ndarray, " S"]:
    """Shiny nose, forehead and chin; wet lips and mouth; dull creases."""
    blobs = places.blobs
    shiny = np.minimum(0.9 * blobs["nose"] + 0.7 * blobs["forehead"] + 0.5 * blobs["chin"] + 0.4 * blobs["cheek"], 1)
    rough = SKIN_ROUGHNESS - np.float32(OILY * skin.oil) * shiny
    rough = rough + 0.02 * noise(places.points, 0.004, skin.seed + 61) + 0.08 * relief.crease
    for share, value in (
        (step(places.lip, -0.0005, 0.0015), LIP_ROUGHNESS),
        (np.maximum(places.mouth, places.socket), MUCOUS_ROUGHNESS),
    ):
        rough += share * (np.float32(value) - rough)
    return rough
