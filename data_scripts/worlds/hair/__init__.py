"""A person's hair: what it is like (`sample_hair`), its strands (`grow`), and how they move (`follow`)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.hair.beard import Beard, beard_density, grow_beard
from data_scripts.worlds.hair.body import Skin, make_body, regions
from data_scripts.worlds.hair.brows import Brows, Lashes, brow_density, grow_brows, grow_lashes
from data_scripts.worlds.hair.growth import Manner, grow_scalp
from data_scripts.worlds.hair.pigment import WHITE, Pigment, hair_color, sample_pigment
from data_scripts.worlds.hair.roots import Roots, scatter
from data_scripts.worlds.hair.scalp import Hairline, crowding, scalp_density
from data_scripts.worlds.hair.strands import Tuft, finish, follow
from data_scripts.worlds.hair.styles import Style, sample_style
from data_scripts.worlds.traits import Family, Traits
from sa0lib.head import Head

__all__ = ["Hair", "Tuft", "follow", "grow", "sample_hair", "undercoat"]

FULL_HEAD = 0.065  # square metres of scalp that a style's strand count is meant for
MANNERS = {
    "a": Manner(wisp=40, together=0.4, frizz=0.0012, mess=1.0, stray=0.03),
    "b": Manner(wisp=110, together=0.85, frizz=0.0022, mess=1.5, stray=0.06),
    "c": Manner(wisp=25, together=0.2, frizz=0.0006, mess=0.5, stray=0.012),
}


@dataclass(frozen=True)
class Hair:
    style: Style | None  # the hairdo; None is a bare scalp
    manner: Manner  # how strands keep together
    hairline: Hairline  # where scalp hair grows
    brows: Brows  # their form
    lashes: Lashes  # their length and number
    beard: Beard  # its kind, "none" for most
    pigment: Pigment  # of the scalp's hair
    face_pigment: Pigment  # of brows and beard
    width: float  # metres, radius of a scalp strand


def sample_hair(rng: np.random.Generator, traits: Traits, family: Family) -> Hair:
    """Hair for a person of these traits, as people of this family wear it."""
    male = bool(rng.uniform() < traits.gender)
    line = _sample_hairline(rng, traits, family, male)
    pigment = sample_pigment(rng, traits, family)
    style = sample_style(rng, traits, family, male, line.bald)
    darker = np.exp(rng.normal(0.25, 0.2))
    face_pigment = replace(
        pigment,
        eumelanin=pigment.eumelanin * darker + 0.15,
        gray=float(np.clip(pigment.gray * rng.uniform(0.3, 0.9), 0, 1)),
    )
    brows = Brows(
        thickness=float(np.clip(rng.normal(0.0095 if male else 0.0075, 0.0013), 0.005, 0.013)),
        arch=float(rng.normal(0.0005 if male else 0.0015, 0.001)),
        height=float(rng.normal(0, 0.0008)),
        length=float(np.clip(rng.normal(0.0095 if male else 0.0078, 0.001), 0.005, 0.013)),
        density=float(rng.uniform(0.55, 1.0)),
        tidy=float(rng.beta(2, 3) if male else rng.beta(3, 2)) if family != "c" else float(rng.beta(4, 2)),
    )
    long = rng.normal(0.0075 if male else 0.0095, 0.001)
    lashes = Lashes(float(long), float(0.55 * long), float(rng.uniform(0.1, 0.9)), int(rng.integers(90, 150)))
    return Hair(
        style,
        MANNERS[family],
        line,
        brows,
        lashes,
        _sample_beard(rng, traits, family, male),
        pigment,
        face_pigment,
        float(1.25e-4 * np.exp(0.12 * rng.standard_normal())),
    )


def _sample_hairline(rng, traits, family, male) -> Hairline:
    old = np.clip((traits.age - 25) / 50, 0, 1)
    temples = float(np.clip(rng.normal(0.25 + 0.7 * old, 0.25), 0, 1)) if male else float(rng.uniform(0, 0.2))
    losing = {"a": 0.75, "b": 0.5, "c": 0.85}[family] * old
    bald = float(rng.beta(1.6, 1.2)) if male and rng.uniform() < losing else 0.0
    return Hairline(
        height=float(rng.normal(0.003 * (1 + old), 0.0035)),
        peak=float(max(rng.normal(0.001, 0.002), 0)),
        temples=temples,
        bald=bald,
        sideburns=float(rng.uniform(0.0, 0.016)) if male else 0.0,
    )


def _sample_beard(rng, traits, family, male) -> Beard:
    names = ["none", "stubble", "moustache", "goatee", "full short", "full long"]
    odds = {"a": [36, 22, 7, 9, 20, 6], "b": [22, 22, 8, 10, 20, 18], "c": [58, 10, 6, 6, 18, 2]}[family]
    name = str(rng.choice(names, p=np.array(odds) / 100)) if male else "none"
    length = {
        "none": 0.0,
        "stubble": 0.0016,
        "moustache": 0.009,
        "goatee": 0.014,
        "full short": 0.013,
        "full long": 0.07,
    }
    curl = 0.0012 * (1 + traits.african) if name in ("goatee", "full short", "full long") else 0.0
    if family == "c":
        curl *= 0.5
    spread = float(np.exp(0.25 * rng.standard_normal()))
    return Beard(name, length[name] * spread, float(rng.uniform(0.6, 1)), float(rng.normal(0, 0.005)), float(curl))


def grow(
    hair: Hair, head: Head, vertices: Float[ndarray, "V 3"], rng: np.random.Generator, strands: float = 1.0
) -> list[Tuft]:
    """All tufts of a person whose neutral vertices are given, metres.

    `strands` scales how many there are, and how thin, so that what they cover stays the same; a tuft for each pigment,
    so white hair is one of its own. Raises ValueError unless strands is in 0.02 to 4 and vertices fit the head.
    """
    vertices = np.asarray(vertices, np.float32)
    if vertices.shape != tuple(head.v_template.shape):
        raise ValueError(f"vertices are {list(vertices.shape)}, but this head has {list(head.v_template.shape)}")
    if not 0.02 <= strands <= 4:
        raise ValueError(f"strands is {strands}: a factor from 0.02 to 4 on the number of strands")
    skin = Skin(head, vertices)
    scalp_rng, brow_rng, lash_rng, beard_rng = rng.spawn(4)  # each its own: a beard does not change the hairdo
    tufts = []
    if hair.style is not None:
        body = make_body(head, vertices, ears=hair.style.over_ears)
        allowed = np.nonzero(regions(head, "scalp", "face", "neck"))[0]
        density = hair.style.count * strands / FULL_HEAD
        fringe = hair.style.fringe > 0
        part = hair.style.part if hair.style.comb == "part" else None
        roots = scatter(
            head,
            vertices,
            lambda p: scalp_density(hair.hairline, p) * crowding(part, fringe, p),
            allowed,
            density,
            scalp_rng,
        )
        samples = grow_scalp(hair.style, hair.manner, roots, head, vertices, body, skin, scalp_rng)
        taper = 0.6 if hair.style.top < 0.02 else 0.35
        tufts += _by_pigment(
            "scalp", hair.pigment, roots, samples, skin, hair.width / strands, taper, "skull", scalp_rng
        )
    roots, samples = grow_brows(hair.brows, head, vertices, skin, brow_rng, strands)
    tufts += _by_pigment("brows", hair.face_pigment, roots, samples, skin, 7.5e-5 / strands, 0.35, "skin", brow_rng)
    roots, samples = grow_lashes(hair.lashes, head, vertices, lash_rng, strands)
    dark = replace(hair.face_pigment, eumelanin=max(2 * hair.face_pigment.eumelanin, 2.0), gray=0.0)
    tufts += _by_pigment("lashes", dark, roots, samples, skin, 7e-5 / strands, 0.2, "skin", lash_rng)
    if hair.beard.name != "none":
        roots, samples = grow_beard(hair.beard, head, vertices, skin, beard_rng, strands)
        tufts += _by_pigment("beard", hair.face_pigment, roots, samples, skin, 1e-4 / strands, 0.5, "skin", beard_rng)
    return tufts


def _by_pigment(name, pigment: Pigment, roots: Roots, samples, skin, width, taper, rides, rng) -> list[Tuft]:
    """One tuft of the strands that keep their colour, one of those that have lost it."""
    white = rng.uniform(size=len(samples)) < pigment.gray
    melanin = ((pigment.eumelanin, pigment.pheomelanin), WHITE)
    tufts = []
    for part, colour in ((~white, melanin[0]), (white, melanin[1])):
        if part.any():
            shade = (*colour, pigment.roughness)
            tufts.append(finish(name, roots[part], samples[part], skin, width, taper, shade, rides))
    return [tuft for tuft in tufts if len(tuft.points)]


def undercoat(
    hair: Hair, head: Head, points: Float[ndarray, "N 3"]
) -> tuple[Float[ndarray, " N"], Float[ndarray, "N 3"]]:
    """How much hair shades the skin under it, 0 to 1 [N], and its linear RGB [N, 3], at points of the mean head.

    For the painter of the skin: cropped hair, stubble and brows are too fine to be covered by strands alone.
    """
    scalp = (0.4 if hair.style is None else 0.75) * scalp_density(hair.hairline, points)
    face = 0.45 * beard_density(hair.beard, head, points)
    brows = 0.35 * brow_density(hair.brows, head, points)
    shade = np.max([scalp, face, brows], axis=0)
    on_scalp = (scalp >= np.maximum(face, brows))[:, None]
    return shade, np.where(on_scalp, hair_color(hair.pigment), hair_color(hair.face_pigment))
