"""A whole generated person: who it is, drawn from a seed, and the body that a picture is taken of."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from data_scripts.worlds.hair import Hair, follow, grow, hair_color, sample_hair, undercoat
from data_scripts.worlds.identity import Identities
from data_scripts.worlds.skin import Maps, Skin, paint, sample_skin
from data_scripts.worlds.skin.atlas import Atlas, make_atlas
from data_scripts.worlds.traits import Family, Traits, sample_traits
from data_scripts.worlds.wear.bust import bust_follow, make_bust, paint_skin
from data_scripts.worlds.wear.caps import cap, tuck
from data_scripts.worlds.wear.glasses import glasses
from data_scripts.worlds.wear.parts import carried
from sa0lib.head import Head

GLASSES = {"a": 0.16, "b": 0.22, "c": 0.25}  # how often each family wears them ...
SHADE_BLUR = 0.006  # of the chart's side: hair roots shade the skin around them; a few millimetres on the face
CAP = {"a": 0.04, "b": 0.10, "c": 0.0}  # ... and something on the head


@dataclass(frozen=True)
class Person:
    """Everything that makes one person. The same seed and family give the same person."""

    seed: int
    family: Family
    traits: Traits
    shape: Float[Tensor, "1 300"]  # OpenHead's code
    skin: Skin
    hair: Hair
    glasses: bool
    cap: bool


def sample_person(seed: int, family: Family, identities: Identities) -> Person:
    """Draw a person; each part has a stream of its own, so that a change to one leaves the others as they are."""
    streams = np.random.default_rng(seed).spawn(5)
    traits = sample_traits(streams[0])
    hair = sample_hair(streams[3], traits, family)
    # The shadow of hair in the skin is painted where this person's hair grows, see Body.
    skin = replace(sample_skin(streams[2], traits, family), scalp=0.0, brow=0.0, hair_color=hair_color(hair.pigment))
    return Person(
        seed=seed,
        family=family,
        traits=traits,
        shape=identities.code(traits, streams[1]),
        skin=skin,
        hair=hair,
        glasses=bool(streams[4].uniform() < GLASSES[family]),
        cap=bool(streams[4].uniform() < CAP[family]),
    )


@lru_cache(maxsize=2)
def _atlas(head: Head, size: int) -> Atlas:
    return make_atlas(head, size)


class Body:
    """A person's geometry and textures at rest, and how they follow a pose.

    Args:
        texels: side of the skin's textures.
        strands: factor on the number of hairs.
    """

    def __init__(self, person: Person, head: Head, texels: int, strands: float):
        self.person, self.head = person, head
        with torch.no_grad():
            self.neutral = head(shape=person.shape)[0].numpy()  # [V, 3] metres
        streams = np.random.default_rng([person.seed, 1]).spawn(4)
        atlas = _atlas(head, texels)
        bare = paint(person.skin, atlas)
        self.maps = self._shade(bare, atlas)
        hat = cap(streams[3], head, self.neutral) if person.cap else []
        self.tufts = {}  # under names of their own: there may be two of a kind, coloured and white
        for tuft in grow(person.hair, head, self.neutral, streams[0], strands):
            if hat and tuft.name == "scalp":
                tuft = replace(tuft, points=tuck(hat, tuft.points))
            self.tufts[f"{tuft.name}_{len(self.tufts)}"] = tuft
        bust = make_bust(streams[1], head, self.neutral, person.traits, person.family)
        self.bust = paint_skin(bust, bare.base_color)
        self.worn = hat + (glasses(streams[2], head, self.neutral) if person.glasses else [])

    def _shade(self, maps: Maps, atlas: Atlas) -> Maps:
        """The skin, darker where hair grows out of it."""
        color = maps.base_color[atlas.valid]  # [G, 3]
        rows = atlas.skin.rows
        share, hair = undercoat(self.person.hair, self.head, atlas.position[rows])
        everywhere = np.zeros(len(color), np.float32)
        everywhere[rows] = share
        soft = gaussian_filter(atlas.image(everywhere), SHADE_BLUR * atlas.size)[atlas.valid][rows]
        color[rows] += soft[:, None] * (np.minimum(hair, color[rows]) - color[rows])  # roots under skin only darken it
        return replace(maps, base_color=atlas.image(color))

    def pose(self, params: dict[str, Float[Tensor, "1 _"]]) -> "Pose":
        """Where everything is when the head has these codes (`params` without the shape)."""
        with torch.no_grad():
            posed = self.head(shape=self.person.shape, **params)[0].numpy()
        solids = bust_follow(self.bust, self.neutral, posed, self.head)
        solids |= carried(self.worn, self.neutral, posed, self.head)
        strands = {name: follow(tuft, self.neutral, posed, self.head) for name, tuft in self.tufts.items()}
        return Pose(posed, solids, strands)


@dataclass
class Pose:
    """A body in one instant, metres."""

    vertices: Float[ndarray, "V 3"]  # the head's
    solids: dict[str, Float[ndarray, "_ 3"]]  # vertices of clothes and things worn, by name
    strands: dict[str, Float[ndarray, "S P 3"]]  # control points of hair, by name
