"""Hairdos in numbers, and how often people of each family wear them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_scripts.worlds.traits import Family, Traits


@dataclass(frozen=True)
class Style:
    """A hairdo. Lengths in metres."""

    name: str
    top: float  # length on top
    sides: float  # length just above ears and nape
    comb: Literal["crown", "part", "back", "gather", "out"]  # where the strands are led
    fringe: float = 0.0  # length in front, 0 for as on top
    cut: float = -1.0  # height on the mean head below which nothing hangs
    part: float = 0.0  # x of the parting, to the left of the person
    lift: float = 0.4  # 0 to 1: how steeply strands leave the skin
    quiff: float = 0.0  # 0 to 1: how much more so in front
    volume: float = 0.008  # how high the outermost strands lie above the skin
    weight: float = 0.3  # 0 to 1: how soon they hang
    curl: float = 0.0  # radius of waves or curls
    pitch: float = 0.05  # length of one wave
    coiled: bool = False  # curls wind, waves swing
    mess: float = 0.1  # how much strands differ in direction, 0 to 1
    ragged: float = 0.1  # how much they differ in length, 0 to 1
    over_ears: bool = False  # hair lies over the ears, or behind them
    tail: Literal["", "ponytail", "bun"] = ""
    gather: tuple[float, float] = (0.05, 0.0)  # height on the mean head and length of the tail
    count: int = 11000  # strands on a full head


STYLES = {
    style.name: style
    for style in (
        Style("shaved", 0.0018, 0.0015, "crown", lift=0.6, mess=0.04, volume=0.002, count=15000),
        Style("buzz", 0.009, 0.004, "crown", lift=0.6, mess=0.05, volume=0.006, count=15000),
        Style("crop", 0.034, 0.01, "crown", mess=0.3, ragged=0.25, count=14000),
        Style("textured", 0.058, 0.012, "crown", lift=0.5, quiff=0.5, volume=0.02, mess=0.5, ragged=0.3, curl=0.003),
        Style("side part", 0.066, 0.012, "part", part=0.035, lift=0.35, quiff=0.35, volume=0.013, weight=0.1,
              ragged=0.3, count=13000),
        Style("swept back", 0.08, 0.016, "back", lift=0.3, quiff=0.6, volume=0.014, weight=0.1, ragged=0.25,
              count=13000),
        Style("bob", 0.26, 0.15, "part", cut=-0.075, over_ears=True, volume=0.017, weight=0.6, ragged=0.06),
        Style("fringe bob", 0.25, 0.15, "part", fringe=0.068, cut=-0.06, over_ears=True, volume=0.017, weight=0.6,
              ragged=0.05),
        Style("shoulder", 0.34, 0.2, "part", cut=-0.15, over_ears=True, volume=0.02, weight=0.6, curl=0.004,
              pitch=0.09),
        Style("long", 0.44, 0.34, "part", cut=-0.27, over_ears=True, volume=0.017, weight=0.6),
        Style("long behind", 0.44, 0.34, "part", cut=-0.27, volume=0.014, weight=0.35),
        Style("ponytail", 0.3, 0.25, "gather", tail="ponytail", gather=(0.055, 0.22), volume=0.006, weight=0.0,
              lift=0.15, mess=0.05),
        Style("bun", 0.3, 0.25, "gather", tail="bun", gather=(0.06, 0.2), volume=0.005, weight=0.0, lift=0.15,
              mess=0.05),
        Style("short curls", 0.036, 0.018, "out", lift=0.6, curl=0.005, pitch=0.018, coiled=True, volume=0.03,
              mess=0.4, count=9000),
        Style("afro", 0.064, 0.046, "out", lift=0.9, curl=0.0035, pitch=0.013, coiled=True, volume=0.09, mess=0.3,
              weight=0.0, over_ears=True, count=9000),
        Style("curls", 0.27, 0.2, "part", cut=-0.12, curl=0.008, pitch=0.04, coiled=True, volume=0.022, weight=0.55,
              mess=0.25, over_ears=True, count=7500),
    )
}  # fmt: skip

# How often each is worn, by family: men, women. Parts of whatever the row sums to.
ODDS = {
    "a": (
        {"shaved": 9, "buzz": 13, "crop": 22, "textured": 15, "side part": 14, "swept back": 8, "short curls": 7,
         "afro": 2, "shoulder": 3, "long": 2, "curls": 3, "bun": 2},
        {"crop": 4, "side part": 3, "bob": 15, "fringe bob": 8, "shoulder": 18, "long": 16, "long behind": 11,
         "ponytail": 9, "bun": 7, "afro": 3, "curls": 6},
    ),
    "b": (
        {"shaved": 7, "buzz": 8, "crop": 8, "textured": 24, "swept back": 7, "short curls": 15, "afro": 7,
         "shoulder": 9, "long": 6, "curls": 9},
        {"textured": 5, "bob": 5, "fringe bob": 14, "shoulder": 13, "long": 16, "long behind": 5, "ponytail": 12,
         "bun": 5, "afro": 8, "curls": 17},
    ),
    "c": (
        {"shaved": 5, "buzz": 10, "crop": 27, "side part": 38, "swept back": 20},
        {"crop": 8, "side part": 10, "bob": 26, "fringe bob": 4, "shoulder": 12, "long behind": 14, "ponytail": 8,
         "bun": 18},
    ),
}  # fmt: skip
# What tightly curled hair does instead of these.
TIGHT = {
    "crop": "short curls",
    "textured": "short curls",
    "side part": "buzz",
    "swept back": "short curls",
    "bob": "afro",
    "fringe bob": "afro",
    "shoulder": "curls",
    "long": "curls",
}


def sample_style(rng: np.random.Generator, traits: Traits, family: Family, male: bool, bald: float) -> Style | None:
    """A hairdo with its numbers a little changed; None for a bare scalp."""
    odds = ODDS[family][0 if male else 1]
    name = str(rng.choice(list(odds), p=np.array(list(odds.values())) / sum(odds.values())))
    if rng.uniform() < 0.8 * traits.african:  # tight curls lie otherwise
        name = TIGHT.get(name, name)
    if bald > 0.25:
        if rng.uniform() < 0.2:
            return None
        name = str(rng.choice(["shaved", "buzz", "crop"]))
    style = STYLES[name]
    length, spread = (float(x) for x in np.exp(0.15 * rng.standard_normal(2)))
    wavy = 0.0
    if not style.coiled and style.top > 0.04 and not style.tail:
        wavy = float({"a": 0.003, "b": 0.006, "c": 0.0015}[family] * rng.gamma(1.0) * (style.top / 0.3) ** 0.5)
    if traits.african > 0.5 and style.top < 0.05:
        wavy = 0.0012
    return replace(
        style,
        top=style.top * length,
        sides=style.sides * length,
        fringe=style.fringe * float(np.exp(0.1 * rng.standard_normal())),
        cut=style.cut + float(0.02 * rng.standard_normal()) if style.cut > -1 else -1.0,
        part=_parting(rng, style, family),
        volume=style.volume * float(np.exp(0.2 * rng.standard_normal())),
        curl=style.curl * float(np.exp(0.15 * rng.standard_normal()))
        if style.coiled
        else min(style.curl + wavy, 0.012),
        pitch=style.pitch * float(np.exp(0.15 * rng.standard_normal())) if style.top > 0.05 or style.coiled else 0.008,
    )


def _parting(rng, style: Style, family: Family) -> float:
    if style.comb != "part":
        return 0.0
    middle = style.top > 0.15 and rng.uniform() < {"a": 0.5, "b": 0.65, "c": 0.2}[family]
    return float(0.004 * rng.standard_normal()) if middle else float(rng.choice([-1, 1]) * rng.uniform(0.02, 0.04))
