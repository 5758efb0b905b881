"""What surfaces are made of, in Mitsuba's words."""

import mitsuba as mi
import numpy as np

from data_scripts.worlds.hair import Tuft
from data_scripts.worlds.photo.stage import Stage
from data_scripts.worlds.skin import Maps
from data_scripts.worlds.wear.parts import Part

ETA_SKIN = 1.4  # refractive index
GLASS_ALBEDO = 0.05  # of a lens's tint: what a pane scatters back
VERTEX_COLOR = {"type": "mesh_attribute", "name": "vertex_color"}


def skin_bsdf(maps: Maps) -> dict:
    """The head's whole surface: skin, eyes, teeth and tongue differ in their maps."""
    color, roughness, height = (_bitmap(m) for m in (maps.base_color, maps.roughness, maps.height))
    body = {"type": "principled", "base_color": color, "roughness": roughness, "eta": ETA_SKIN}
    relief = {"type": "bumpmap", "bump": height, "bsdf": body}
    return {"type": "twosided", "bsdf": relief}  # smooth normals turn away at outlines: without it those are black


def part_bsdf(part: Part) -> dict:
    """Clothes, glasses and caps; their colour is in the mesh's vertices."""
    if part.material == "glass":
        # Eyes behind real glass would be lit by chance alone; a pane that lets most light straight through is quiet.
        # What it does not let through it swallows, or a tinted pane would be a milky one.
        tint = {"type": "rgb", "value": [float(v) for v in GLASS_ALBEDO * part.color.mean(0)]}
        pane = {"type": "principled", "base_color": tint, "roughness": 0.05, "specular": 0.9}
        opacity = max(0.07, 1 - float(part.color.mean()))
        return {"type": "mask", "opacity": opacity, "bsdf": {"type": "twosided", "bsdf": pane}}
    roughness, metallic = {"skin": (0.5, 0.0), "cloth": (0.9, 0.0), "plastic": (0.3, 0.0), "metal": (0.3, 0.9)}[
        part.material
    ]
    surface = {"type": "principled", "base_color": VERTEX_COLOR, "roughness": roughness, "metallic": metallic}
    return {"type": "twosided", "bsdf": surface}


def hair_bsdf(tuft: Tuft) -> dict:
    """A strand, coloured by its pigments."""
    rough = {"longitudinal_roughness": tuft.roughness, "azimuthal_roughness": tuft.roughness}
    return {"type": "hair", "eumelanin": tuft.eumelanin, "pheomelanin": tuft.pheomelanin, **rough}


def lamp(stage: Stage) -> dict:
    """A square area light that faces the head."""
    to_world = mi.ScalarTransform4f().look_at(origin=list(stage.lamp), target=[0, 0, 0], up=[0, 1, 0.01])
    to_world = to_world @ mi.ScalarTransform4f().scale(stage.lamp_size / 2)
    radiance = {"type": "rgb", "value": list(stage.lamp_radiance)}
    return {"type": "rectangle", "to_world": to_world, "emitter": {"type": "area", "radiance": radiance}}


def _bitmap(image: np.ndarray) -> dict:
    return {"type": "bitmap", "bitmap": mi.Bitmap(np.ascontiguousarray(image, np.float32)), "raw": True}
