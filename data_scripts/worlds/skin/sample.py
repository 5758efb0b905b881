"""What one person's skin, lips, eyes and teeth are like, and how such people are drawn at random.

Tone follows ancestry, and wrinkles age, but loosely: every trait also varies by itself. Family "b" is drawn
weathered (sun, freckles, redness, little make-up), "c" groomed (even, powdered, made up, smoothly shaved), "a" wide.
"""

from dataclasses import dataclass

import numpy as np

from data_scripts.worlds.traits import Family, Traits

RGB = tuple[float, float, float]  # linear

MELANIN = {"african": (1.75, 0.38), "asian": (0.45, 0.24), "caucasian": (0.26, 0.22)}  # mean, spread
MELANIN_RANGE = (0.04, 2.4)
IRISES = {  # kind -> colour outside and around the pupil
    "black": ((0.030, 0.016, 0.009), (0.045, 0.022, 0.011)),
    "brown": ((0.075, 0.036, 0.015), (0.130, 0.062, 0.022)),
    "amber": ((0.150, 0.080, 0.028), (0.200, 0.105, 0.032)),
    "hazel": ((0.110, 0.098, 0.045), (0.190, 0.095, 0.030)),
    "green": ((0.120, 0.150, 0.085), (0.210, 0.160, 0.060)),
    "grey": ((0.180, 0.210, 0.230), (0.250, 0.260, 0.250)),
    "blue": ((0.115, 0.180, 0.245), (0.230, 0.280, 0.300)),
}
IRIS_CHANCE = {  # of those kinds, on the fairest skin and on any darker than DARK
    "fair": (0.02, 0.20, 0.08, 0.16, 0.14, 0.12, 0.28),
    "dark": (0.62, 0.36, 0.02, 0.00, 0.00, 0.00, 0.00),
}
DARK = 0.9  # melanin
WEARS = {"a": 0.5, "b": 0.25, "c": 0.85}  # share of women with make-up on
HAIRS: tuple[RGB, ...] = ((0.010, 0.008, 0.007), (0.030, 0.018, 0.011), (0.090, 0.050, 0.025), (0.220, 0.150, 0.085))
GREY_HAIR: RGB = (0.30, 0.29, 0.28)
SHADOWS: tuple[RGB, ...] = ((0.10, 0.05, 0.04), (0.06, 0.06, 0.08), (0.24, 0.12, 0.12), (0.12, 0.07, 0.14),
                            (0.08, 0.13, 0.20), (0.30, 0.19, 0.09))  # fmt: skip
LIPSTICKS: tuple[RGB, ...] = ((0.42, 0.02, 0.03), (0.28, 0.03, 0.06), (0.50, 0.14, 0.15), (0.45, 0.20, 0.15),
                              (0.22, 0.05, 0.07), (0.55, 0.12, 0.20))  # fmt: skip


@dataclass(frozen=True)
class Makeup:
    """Each strength from 0, none, to 1; the colours are linear RGB."""

    foundation: float  # evens out blotches, spots and freckles
    blush: float  # on the cheeks
    shadow: float  # on the upper lids
    shadow_color: RGB
    liner: float  # along the lashes
    lipstick: float
    lipstick_color: RGB
    gloss: float  # how shiny the lips are


@dataclass(frozen=True)
class Skin:
    """One person's surface. Strengths are 0 to 1 where nothing else is said."""

    family: Family  # which noise, palette and wrinkle form
    seed: int  # of every random pattern
    melanin: float  # brown pigment, as optical depth in red: 0.04 the fairest, 2.4 the darkest
    blood: float  # haemoglobin, as optical depth in green
    carotene: float  # yellow undertone, as optical depth in blue
    mottle: float  # how blotchy the skin is; 1 is usual
    flush: float  # redness of cheeks, nose, ears and chin
    tan: float  # more melanin where the sun falls
    freckles: float
    moles: int
    age_spots: float
    circles: float  # darkness under the eyes
    wrinkles: float
    pores: float  # metres of relief
    oil: float  # shine of forehead, nose and chin
    lip_blood: float  # how much redder than the face the lips are; 1 is usual
    lip_pigment: float  # melanin of the lips, as a share of the face's
    hair_color: RGB  # linear; of the hair that shows through the skin
    stubble: float  # shadow of a shaved beard
    scalp: float  # shadow of hair roots above the hairline
    brow: float  # tint of the skin under the brows
    iris_outer: RGB
    iris_inner: RGB
    pupil: float  # its radius, metres
    veins: float  # in the white of the eye
    sclera: float  # how yellowed the white is
    teeth: float  # 0 white to 1 yellow
    makeup: Makeup


def sample_skin(rng: np.random.Generator, traits: Traits, family: Family) -> Skin:
    """Draw a skin that suits a person. Raises ValueError for an unknown family."""
    if family not in ("a", "b", "c"):
        raise ValueError(f"family is {family!r}; it may be 'a', 'b' or 'c'")
    weathered, groomed = family == "b", family == "c"
    years = np.clip((traits.age - 18) / 62, 0, 1)  # 0 at 18, 1 at 80
    share = {name: getattr(traits, name) for name in MELANIN}
    mean, spread = (sum(share[n] * MELANIN[n][k] for n in MELANIN) for k in (0, 1))
    melanin = float(np.clip(mean + spread * rng.standard_normal() + 0.12 * weathered, *MELANIN_RANGE))
    fair = float(np.exp(-melanin / 0.35))  # 1 on the fairest
    freckled = rng.random() < (0.55 if weathered else 0.3) * fair
    outer, inner = _iris(rng, melanin)
    beard = np.clip(rng.normal(0.5, 0.25), 0.05, 1) * (0.5 if groomed else 1.0)
    wrinkles = np.clip(years**1.3 * rng.uniform(0.6, 1.25) * (1.15 if weathered else 1.0) + 0.03, 0, 1)
    return Skin(
        family=family,
        seed=int(rng.integers(2**31)),
        melanin=melanin,
        blood=float(np.clip(rng.normal(0.34, 0.07) + 0.05 * weathered, 0.15, 0.6)),
        carotene=float(np.clip(rng.normal(0.12 + 0.12 * traits.asian, 0.06), 0, 0.4)),
        mottle=float(rng.uniform(0.5, 1.4) * (0.6 if groomed else 1.0)),
        flush=float(np.clip(rng.gamma(2.5, 0.14) + 0.15 * weathered, 0.05, 1)),
        tan=float(rng.uniform(0.0, 0.25) + 0.15 * weathered),
        freckles=float(rng.uniform(0.25, 1.0)) if freckled else 0.0,
        moles=int(rng.poisson(3 + 6 * fair)),
        age_spots=float(np.clip((years - 0.45) * rng.uniform(0, 1.6), 0, 1)),
        circles=float(np.clip(rng.normal(0.3 + 0.3 * years, 0.2), 0, 1)),
        wrinkles=float(wrinkles),
        pores=float(rng.uniform(2.5e-5, 6e-5) * (1.25 if weathered else 1.0)),
        oil=float(np.clip(rng.normal(0.5 - 0.35 * groomed + 0.15 * weathered, 0.2), 0, 1)),
        lip_blood=float(rng.normal(1.0, 0.18)),
        lip_pigment=float(rng.uniform(0.75, 1.05)),
        hair_color=_hair_color(rng, melanin, years),
        stubble=float(beard) if traits.gender > 0.5 else 0.0,
        scalp=float(rng.uniform(0.35, 0.9)),
        brow=float(rng.uniform(0.2, 0.5)),
        iris_outer=outer,
        iris_inner=inner,
        pupil=float(rng.uniform(1.4e-3, 2.3e-3)),
        veins=float(rng.uniform(0.2, 0.7) + 0.2 * years),
        sclera=float(np.clip(0.5 * years + 0.25 * melanin / 2.4 + rng.normal(0.1, 0.1), 0, 1)),
        teeth=float(np.clip(rng.normal(0.25 + 0.4 * years - 0.15 * groomed, 0.15), 0, 1)),
        makeup=_makeup(rng, traits, family, melanin),
    )


def _iris(rng, melanin: float) -> tuple[RGB, RGB]:
    """Light eyes become rare as skin becomes darker; every iris is a little darker or lighter than its kind."""
    t = min(melanin / DARK, 1) ** 0.7
    chance = (1 - t) * np.array(IRIS_CHANCE["fair"]) + t * np.array(IRIS_CHANCE["dark"])
    kind = list(IRISES)[rng.choice(len(chance), p=chance / chance.sum())]
    gain = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.06, 3))  # [3]
    outer, inner = (tuple(float(c) for c in np.array(color) * gain) for color in IRISES[kind])
    return outer, inner


def _hair_color(rng, melanin: float, years: float) -> RGB:
    dark = np.clip(rng.normal(0.35 + melanin / 0.9, 0.25), 0, 1)  # 1 is black
    color = np.array([np.interp((1 - dark) * 3, range(4), channel) for channel in np.transpose(HAIRS)])
    grey = np.clip((years - 0.3) * 1.8 + rng.normal(0, 0.2), 0, 0.9)
    return tuple(float(c) for c in color + grey * (np.array(GREY_HAIR) - color))


def _makeup(rng, traits: Traits, family: Family, melanin: float) -> Makeup:
    feminine = float(np.clip(1.25 - 1.5 * traits.gender, 0, 1))
    wears = rng.random() < WEARS[family] * feminine

    def layer(low: float, high: float, chance: float) -> float:
        strength, worn = rng.uniform(low, high), rng.random() < chance
        return float(strength) if worn else 0.0

    powdered = 0.6 if family == "c" else 0.7 * wears  # before cameras men are powdered, too
    shade = SHADOWS[rng.integers(len(SHADOWS))]
    stick = LIPSTICKS[rng.integers(len(LIPSTICKS))]
    return Makeup(
        foundation=layer(0.3, 0.9, powdered),
        blush=layer(0.2, 0.8, 0.7 * wears),
        shadow=layer(0.2, 0.8, 0.6 * wears),
        shadow_color=shade,
        liner=layer(0.3, 0.95, 0.8 * wears),
        lipstick=layer(0.35, 0.95, 0.8 * wears),
        lipstick_color=tuple(float(c * np.exp(-0.3 * melanin)) for c in stick),  # chosen to go with the skin
        gloss=float(rng.uniform(0.0, 0.8) * feminine),
    )
