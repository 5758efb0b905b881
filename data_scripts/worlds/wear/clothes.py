"""Clothes as layers over the torso: each is a sheet of places (column, level, offset) with a colour for each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.skin.noise import gradient, octaves, waves
from data_scripts.worlds.traits import Family
from data_scripts.worlds.wear.torso import LEVELS, PER_EDGE, Torso

ROWS = 100  # of a garment, from neckline to hem
# Which garments a family wears, and how often. The training worlds dress for the living room, "b" for outdoors, "c" for
# the lectern.
WARDROBE: dict[str, dict[str, float]] = {
    "a": {"crew": 0.28, "vneck": 0.14, "scoop": 0.10, "shirt": 0.20, "hoodie": 0.12, "turtleneck": 0.08, "suit": 0.08},
    "b": {"crew": 0.18, "boat": 0.12, "shirt": 0.18, "hoodie": 0.24, "turtleneck": 0.08, "scarf": 0.20},
    "c": {"suit": 0.72, "shirt": 0.18, "turtleneck": 0.10},
}
# Linear RGB of dyes.
PALETTE: dict[str, list[tuple[float, float, float]]] = {
    "a": [(0.02, 0.02, 0.022), (0.75, 0.74, 0.70), (0.03, 0.05, 0.12), (0.16, 0.17, 0.18), (0.30, 0.04, 0.05),
          (0.05, 0.13, 0.08), (0.40, 0.33, 0.22), (0.10, 0.20, 0.36), (0.45, 0.22, 0.20)],
    "b": [(0.55, 0.09, 0.03), (0.60, 0.42, 0.04), (0.03, 0.26, 0.28), (0.07, 0.10, 0.03), (0.30, 0.02, 0.16),
          (0.05, 0.10, 0.42), (0.33, 0.21, 0.11), (0.65, 0.62, 0.50)],
    "c": [(0.012, 0.013, 0.016), (0.02, 0.025, 0.05), (0.06, 0.062, 0.066), (0.05, 0.035, 0.025), (0.025, 0.045, 0.09)],
}  # fmt: skip
SHIRTS = [(0.78, 0.78, 0.76), (0.50, 0.60, 0.75), (0.72, 0.62, 0.64), (0.66, 0.66, 0.60)]  # under a suit
TIES = [(0.22, 0.015, 0.02), (0.02, 0.04, 0.16), (0.10, 0.02, 0.10), (0.03, 0.09, 0.06), (0.03, 0.03, 0.035)]


@dataclass(frozen=True)
class Sheet:
    """One layer: a grid of places on the torso."""

    name: str
    column: Float[ndarray, "R C"]
    level: Float[ndarray, "R C"]
    offset: Float[ndarray, "R C"]  # metres
    color: Float[ndarray, "R C 3"]  # linear RGB
    closed: bool  # the last column meets the first


class Tailor:
    """Cuts sheets for one torso, with the same folds through all layers so that none comes through another."""

    def __init__(self, torso: Torso, rng: np.random.Generator, family: Family):
        self.torso, self.rng, self.family = torso, rng, family
        self.n = len(torso.loop)  # columns
        self.seed = int(rng.integers(2**31))

    def side(self, column) -> Float[ndarray, "..."]:
        """Angle from the front, radians, 0 to pi, the same on both sides."""
        return np.abs((2 * np.pi * column / self.n + np.pi) % (2 * np.pi) - np.pi)

    def spread(self, metres, center, level) -> Float[ndarray, "..."]:
        """How many columns these metres are, around the column `center` at a level."""
        a, b = (self.torso.at(center + d, level, 0.0) for d in (-0.5, 0.5))
        return metres / np.linalg.norm(b - a, axis=-1)

    def opening(self, top: float, deep: float, width: float):
        """A straight V at the front: `width` metres to either side at level `top`, closed at level `deep`.

        Returns its edge (columns from the middle, by level) and where the cloth starts (level, by side angle).
        """
        levels = np.linspace(top, deep, 200)
        columns = self.spread(width * np.linspace(1, 0, 200), 0.0, levels)
        angles = 2 * np.pi * np.maximum.accumulate(columns[::-1]) / self.n  # grows towards the top
        return (
            lambda level: np.interp(level, levels, columns),
            lambda side: np.where(side < angles[-1], np.interp(side, angles, levels[::-1]), top),
        )

    def folds(self, column, level, size: float, height: float) -> Float[ndarray, "..."]:
        """Relief of the cloth, metres: long folds that hang, none where a neckline holds it."""
        points = (self.torso.at(column, level, 0.0) * [1.0, 0.45, 1.0]).reshape(-1, 3)
        noise = waves if self.family == "b" else gradient
        relief = octaves(noise, points, size, self.seed, 2).reshape(np.shape(column))
        # Only outwards: the skin below has no folds to follow.
        return height * np.clip((level - 1.2) / 1.2, 0, 1) * np.maximum(relief + 1, 0)

    def shell(self, name: str, start, clearance: float, color, size=0.06, height=0.002) -> Sheet:
        """A garment from its neckline, `start` as a level for each column, down; its edge dips into what is below."""
        columns = np.arange(self.n * PER_EDGE) / PER_EDGE
        begin = np.broadcast_to(start(self.side(columns)), columns.shape)
        down = np.linspace(0, 1, ROWS)[:, None] ** 1.15
        level = begin + (LEVELS - begin) * down  # [R, C]
        column = np.broadcast_to(columns, level.shape)
        offset = clearance + self.folds(column, level, size, height)
        offset[:3] = [[-0.004], [0.5 * clearance], [clearance + 0.0015]]
        return Sheet(name, column, level, offset, self.dye(column, level, color), True)

    def around(self, name: str, top, bottom, base: float, bulge, color, size=0.03, height=0.002) -> Sheet:
        """A roll of cloth around the neck between two levels, standing off by `bulge` in its middle."""
        columns = np.arange(self.n * PER_EDGE) / PER_EDGE
        side = self.side(columns)
        u = np.linspace(0, 1, 26)[:, None]
        level = top(side) + (bottom(side) - top(side)) * u
        column = np.broadcast_to(columns, level.shape)
        round_ = np.sin(np.pi * u)
        crumple = height * octaves(
            gradient, self.torso.at(column, level, 0.0).reshape(-1, 3), size, self.seed + 1, 2
        ).reshape(level.shape)
        offset = base + round_ * (bulge(side) + crumple) - 0.008 * (u == 0) - 0.004 * (u == 1)
        return Sheet(name, column, level, offset, self.dye(column, level, color), True)

    def collar(self, name: str, gap: float, points: float, color) -> Sheet:
        """A shirt's collar: up along the neck, over, and down to its points; open by `gap` radians at the front."""
        first = gap * self.n / (2 * np.pi)
        columns = np.linspace(first, self.n - first, self.n * PER_EDGE + 1)
        side = self.side(columns)
        front = np.exp(-((side / 1.1) ** 2))
        top = 0.50 + 0.22 * front
        tip = 1.45 + points * np.exp(-(((side - gap - 0.12) / 0.40) ** 2))
        base = np.full_like(top, 1.12)
        levels = [base, 0.5 * (base + top), top + 0.05, top, top + 0.04, top + 0.35 * (tip - top),
                  top + 0.7 * (tip - top), tip, tip]  # fmt: skip
        offsets = [0.003, 0.005, 0.006, 0.0085, 0.011, 0.0125, 0.0115, 0.009, 0.007]
        level = np.stack(levels)
        column = np.broadcast_to(columns, level.shape)
        offset = np.broadcast_to(np.array(offsets)[:, None], level.shape) + self.folds(column, level, 0.06, 0.002)
        return Sheet(name, column, level, offset, self.dye(column, level, color), False)

    def strip(self, name: str, x: float, level, half, offset, color) -> Sheet:
        """A band straight down the body, x metres to the left: its half width (metres) and offset at each level."""
        column = self.spread(x + half[:, None] * np.linspace(-1, 1, 9), 0.0, level[:, None])
        level = np.broadcast_to(level[:, None], column.shape)
        lift = offset[:, None] - 0.004 * np.abs(np.linspace(-1, 1, 9)) ** 6 + self.folds(column, level, 0.06, 0.002)
        return Sheet(name, column, level, lift, self.dye(column, level, color), False)

    def lapels(self, edge, deep: float, color) -> list[Sheet]:
        """A jacket's lapels: from the opening's edge (columns for each level), folded back over the chest."""
        level = np.linspace(0.7, deep, 60)
        u = (level - level[0]) / (deep - level[0])
        notch = 1 - 0.30 * np.exp(-(((u - 0.47) / 0.03) ** 2))
        width = 0.068 * np.interp(u, [0, 0.1, 0.42, 0.5, 1], [0.3, 0.55, 0.95, 1.0, 0.05]) * notch
        across = np.linspace(0, 1, 14)
        sheets = []
        for name, sign in (("lapel_left", 1), ("lapel_right", -1)):
            first = edge(level)
            wide = self.spread(width, sign * first, level)
            column = sign * (first[:, None] + wide[:, None] * across)
            grid = np.broadcast_to(level[:, None], column.shape)
            offset = 0.019 + 0.005 * np.sin(np.pi * np.clip(across, 0, 1) ** 0.5) - 0.003 * (across == 1)
            offset = offset + self.folds(column, grid, 0.06, 0.002)
            sheet = Sheet(name, column, grid, offset, self.dye(column, grid, color), False)
            # Faces look outwards if columns grow along a row.
            flip = slice(None, None, sign)
            sheets.append(Sheet(name, *(x[:, flip] for x in (column, grid, offset, sheet.color)), False))
        return sheets

    def dye(self, column, level, color) -> Float[ndarray, "R C 3"]:
        """A pattern's colours: `color` is one colour, or takes points in metres [R, C, 3] and columns [R, C]."""
        if callable(color):
            return color(self.torso.at(column, level, 0.0), column)
        return np.broadcast_to(np.asarray(color, float), (*np.shape(column), 3))


def pattern(rng: np.random.Generator, kind: str, base, other):
    """A dye for `Tailor`: "plain", "heather" (flecked), "stripes", "plaid", "pinstripe" or "print" on the chest."""
    base, other = np.asarray(base), np.asarray(other)
    seed, period, height = int(rng.integers(2**31)), rng.uniform(0.025, 0.06), rng.uniform(-0.32, -0.25)
    radius = rng.uniform(0.03, 0.07)

    def color(points, column):
        if kind == "plain":
            share = np.zeros(column.shape)
        elif kind == "heather":
            share = 0.2 + 0.07 * gradient(points.reshape(-1, 3), 0.008, seed).reshape(column.shape)
        elif kind == "stripes":
            share = np.clip(0.5 + 0.9 * np.sin(2 * np.pi * points[..., 1] / period), 0, 1)
        elif kind == "plaid":
            rows, across = (np.sin(2 * np.pi * points[..., k] / period) for k in (1, 0))
            share = 0.5 * np.clip(0.3 + rows, 0, 1) + 0.5 * np.clip(0.3 + across, 0, 1)
        elif kind == "pinstripe":
            share = 0.35 * (np.arange(column.shape[1]) % 4 == 0) * np.ones(column.shape)
        else:
            spot = (points[..., 0] / radius) ** 2 + ((points[..., 1] - height) / (0.7 * radius)) ** 2
            share = np.clip(4 * (1 - spot), 0, 1) * (points[..., 2] > -0.05)
        share = np.clip(share, 0, 1)[..., None]
        return base * (1 - share) + other * share

    return color


def dress(tailor: Tailor, rng: np.random.Generator, family: Family) -> tuple[str, list[Sheet]]:
    """A garment of the family's wardrobe, by name, as sheets from the innermost out."""
    garments = WARDROBE[family]
    kind = str(rng.choice(list(garments), p=list(garments.values())))
    dyes = PALETTE[family]
    first, second = (np.array(dyes[i]) * rng.uniform(0.8, 1.2, 3) for i in rng.choice(len(dyes), 2, replace=False))
    first, second = np.clip(first, 0, 0.85), np.clip(second, 0, 0.85)
    kinds = {
        "a": (["plain", "heather", "stripes"], [0.55, 0.25, 0.2]),
        "b": (["plain", "plaid", "print"], [0.3, 0.35, 0.35]),
        "c": (["plain", "pinstripe"], [0.6, 0.4]),
    }[family]
    cloth = pattern(rng, str(rng.choice(kinds[0], p=kinds[1])), first, second)
    trim = first * 0.85 if rng.random() < 0.7 else second
    if kind == "suit":
        return kind, _suit(tailor, rng, cloth)
    if kind == "shirt":
        return kind, _shirt(tailor, rng, cloth)
    if kind == "turtleneck":
        roll = tailor.around(
            "roll", lambda s: 0.18 + 0 * s, lambda s: 1.05 + 0 * s, 0.003, lambda s: 0.004 + 0 * s, first
        )
        return kind, [tailor.shell("top", lambda s: 0.9 + 0 * s, 0.004, cloth), roll]
    if kind == "scarf":
        top = tailor.shell("top", lambda s: 1.0 + 0 * s, 0.007, first, height=0.003)
        wrap = tailor.around(
            "scarf", lambda s: 0.22 + 0.15 * np.cos(s), lambda s: 1.25 + 0.2 * np.cos(s) + 0.5 * np.cos(s) ** 2, 0.004,
            lambda s: 0.025 - 0.009 * np.sin(s) ** 2, pattern(rng, "plaid", second, first), size=0.045, height=0.007,
        )  # fmt: skip
        return kind, [top, wrap]
    if kind == "hoodie":
        return kind, _hoodie(tailor, cloth, trim)
    depth = rng.uniform(0.8, 1.2)
    start = {
        "crew": lambda s: 0.92 + 0.25 * np.cos(s / 2) ** 8,
        "vneck": tailor.opening(0.95, 0.95 + 1.5 * depth, 0.052)[1],
        "scoop": lambda s: 1.05 + 1.0 * depth * np.exp(-((s / 0.75) ** 2)),
        "boat": lambda s: 1.35 + 0.25 * np.cos(s),
    }[kind]
    band = tailor.around("band", lambda s: start(s) - 0.05, lambda s: start(s) + 0.28, 0.004, lambda s: 0.005 + 0 * s,
                         trim, height=0.0)  # fmt: skip
    return kind, [tailor.shell("top", start, 0.005, cloth, height=0.0025), band]


def _shirt(tailor: Tailor, rng, cloth) -> list[Sheet]:
    gap = rng.uniform(0.10, 0.5)  # an open collar shows more of the chest
    deep = 1.1 + 3 * (gap - 0.10)
    shell = tailor.shell("shirt", tailor.opening(0.95, deep, 0.06 * gap)[1], 0.005, cloth)
    level = np.linspace(deep, LEVELS, 60)
    placket = tailor.strip("placket", 0.0, level, np.full(60, 0.016), np.full(60, 0.0085), cloth)
    return [shell, placket, tailor.collar("collar", gap, rng.uniform(0.7, 1.1), cloth)]


def _suit(tailor: Tailor, rng, cloth) -> list[Sheet]:
    under = np.array(SHIRTS[rng.integers(len(SHIRTS))])
    deep, wide = rng.uniform(4.0, 4.9), rng.uniform(0.052, 0.062)
    sheets = [tailor.shell("shirt", lambda s: 0.9 + 0 * s, 0.004, under)]
    if rng.random() < 0.75:
        tie = np.array(TIES[rng.integers(len(TIES))])
        level = np.concatenate([np.linspace(0.82, 1.45, 16), np.linspace(1.46, LEVELS, 60)])
        half = np.interp(level, [0.82, 1.0, 1.45, 1.46, LEVELS], [0.015, 0.019, 0.010, 0.012, 0.038])
        lift = np.interp(level, [0.82, 0.95, 1.40, 1.46, 1.7], [0.008, 0.021, 0.020, 0.012, 0.011])
        tie = pattern(rng, str(rng.choice(["plain", "stripes"])), tie, 0.5 * tie + 0.2)
        sheets.append(tailor.strip("tie", 0.0, level, half, lift, tie))
    sheets.append(tailor.collar("collar", 0.09, rng.uniform(0.6, 0.9), under))
    edge, start = tailor.opening(0.78, deep, wide)
    sheets.append(tailor.shell("jacket", start, 0.017, cloth, size=0.09, height=0.002))
    return sheets + tailor.lapels(edge, deep, cloth)


def _hoodie(tailor: Tailor, cloth, trim) -> list[Sheet]:
    hood = tailor.around(
        "hood", lambda s: 0.75 - 0.25 * np.cos(s), lambda s: 1.9 + 0.25 * np.cos(s), 0.004,
        lambda s: 0.012 + 0.017 * (1 - np.cos(s)), cloth, size=0.05, height=0.003,
    )  # fmt: skip
    level, half = np.linspace(1.9, 3.7, 30), np.full(30, 0.0028)
    lift = 0.017 + 0.002 * np.sin(np.linspace(0, 7, 30))
    cords = [
        tailor.strip(name, at, level, half, lift, trim) for name, at in (("cord_left", 0.035), ("cord_right", -0.035))
    ]
    return [tailor.shell("top", lambda s: 1.0 + 0 * s, 0.010, cloth, size=0.07, height=0.004), hood, *cords]
