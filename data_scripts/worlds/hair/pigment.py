"""Hair colour as melanin: what ancestry gives and age takes away."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_scripts.worlds.traits import Family, Traits

# Eumelanin and pheomelanin of common colours, concentrations for the hair BSDF.
COLOURS = {
    "black": (6.0, 0.3),
    "dark brown": (2.6, 0.4),
    "brown": (1.3, 0.35),
    "light brown": (0.75, 0.35),
    "dark blond": (0.42, 0.3),
    "blond": (0.22, 0.22),
    "light blond": (0.1, 0.12),
    "auburn": (0.9, 1.5),
    "red": (0.35, 1.8),
    "copper": (0.2, 1.1),
}
DARK = {"black": 0.8, "dark brown": 0.2}
MIXED = {
    "black": 0.1,
    "dark brown": 0.27,
    "brown": 0.27,
    "light brown": 0.13,
    "dark blond": 0.1,
    "blond": 0.05,
    "light blond": 0.02,
    "auburn": 0.03,
    "red": 0.02,
    "copper": 0.01,
}
DYES = ["light blond", "blond", "auburn", "red", "copper", "black"]
WHITE = (0.03, 0.02)  # a strand without pigment still is a little yellow
GRAY = np.array([0.62, 0.60, 0.56])  # linear RGB of white hair
ABSORB_EUMELANIN = np.array([0.419, 0.697, 1.37])  # per unit length, linear RGB: the usual spectra of the two pigments
ABSORB_PHEOMELANIN = np.array([0.187, 0.4, 1.05])


@dataclass(frozen=True)
class Pigment:
    """What colours a person's hair."""

    eumelanin: float  # concentration, brown to black
    pheomelanin: float  # concentration, red
    gray: float  # 0 to 1: part of the strands that are white
    roughness: float  # of the hair BSDF: low is glossy


def sample_pigment(rng: np.random.Generator, traits: Traits, family: Family) -> Pigment:
    """Natural colours, more of them dyed in family "b"; family "c" greys earlier and dyes nothing."""
    mixed = rng.uniform() < traits.caucasian**1.5
    table = MIXED if mixed else DARK
    name = str(rng.choice(list(table), p=np.array(list(table.values())) / sum(table.values())))
    onset = {"a": 52, "b": 55, "c": 46}[family]
    gray = 1 / (1 + np.exp(-(traits.age - onset - 7 * rng.standard_normal()) / 6))
    gray = 0.0 if gray < 0.04 else float(gray)
    dyed = {"a": 0.06, "b": 0.25, "c": 0.0}[family] + (
        0.3 if traits.gender < 0.4 and gray > 0.2 and family != "c" else 0
    )
    if rng.uniform() < dyed:
        name, gray = str(rng.choice(DYES if family == "b" else list(MIXED))), 0.0
    spread = np.exp(0.18 * rng.standard_normal(2))
    eumelanin, pheomelanin = np.array(COLOURS[name]) * spread
    rough = {"a": 0.3, "b": 0.38, "c": 0.26}[family] * np.exp(0.12 * rng.standard_normal())
    return Pigment(float(eumelanin), float(pheomelanin), gray, float(np.clip(rough, 0.15, 0.6)))


def hair_color(pigment: Pigment) -> Float[np.ndarray, "3"]:
    """How a mass of this hair looks, linear RGB: for the shade that hair too fine to draw leaves on the skin."""
    absorbed = pigment.eumelanin * ABSORB_EUMELANIN + pigment.pheomelanin * ABSORB_PHEOMELANIN
    # Light passes several strands before it comes back: the square root is the usual fit of that.
    pigmented = 0.55 * np.exp(-1.9 * np.sqrt(absorbed))
    return (1 - pigment.gray) * pigmented + pigment.gray * GRAY
