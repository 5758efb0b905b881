"""How scalp hair grows: step by step along the style's directions, over the head and down, cut by the barber."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import cKDTree

from data_scripts.worlds.hair.body import CENTRE, Body, Skin
from data_scripts.worlds.hair.roots import Roots
from data_scripts.worlds.hair.scalp import CROWN, in_fringe, smooth
from data_scripts.worlds.hair.strands import arc, cut, resample
from data_scripts.worlds.hair.styles import Style
from data_scripts.worlds.hair.tails import add_tails
from sa0lib.head import Head

STEP = 0.011  # metres a strand grows at a time, at most
INTO = 0.0015  # metres by which strands may be inside the smooth body; the skin itself has the last word
DOWN = np.array([0, -1, 0], np.float32)


@dataclass(frozen=True)
class Manner:
    """How strands keep together; what sets the families' hair apart."""

    wisp: int  # strands that share a wisp
    together: float  # 0 to 1: how far a wisp's strands come together at the tips
    frizz: float  # metres by which strands leave their wisp
    mess: float  # factor on the style's own
    stray: float  # part of the strands that stand off


def unit(v: ndarray) -> ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def lengths(style: Style, roots: Roots, rng: np.random.Generator) -> Float[ndarray, " S"]:
    """How long each strand is before the barber comes, metres."""
    x, y, z = roots.template.T
    length = style.sides + (style.top - style.sides) * smooth(y - 0.15 * np.maximum(-z - 0.1, 0), 0.01, 0.1)
    if style.fringe:
        length = np.where(in_fringe(roots.template), style.fringe, length)
    burns = smooth(z, -0.075, -0.05) * smooth(-y, -0.035, -0.02)  # before the ears hair is always short
    length = length + burns * (np.minimum(length, 0.012) - length)
    short = 1 - 0.5 * (1 - np.minimum(roots.density, 1))  # hair gets finer and shorter towards its border
    # In layers at the back, or short hair would end there in a step.
    ragged = style.ragged + 0.4 * smooth(-z, 0.08, 0.13) * (0.04 < style.top < 0.15)
    return length * short * (1 - ragged * rng.beta(1.2, 2.0, len(x)))


def grow_scalp(
    style: Style,
    manner: Manner,
    roots: Roots,
    head: Head,
    vertices: Float[ndarray, "V 3"],
    body: Body,
    skin: Skin,
    rng: np.random.Generator,
) -> Float[ndarray, "S n 3"]:
    """Samples along the strands of a hairdo, metres."""
    n_strands = len(roots.face)
    wisps = rng.choice(n_strands, max(n_strands // manner.wisp, 2), replace=False)
    side = np.where(roots.template[:, 0] > style.part, 1.0, -1.0).astype(np.float32)
    apart = np.concatenate([roots.template, 0.03 * side[:, None] * (style.comb == "part")], 1)
    wisp = cKDTree(apart[wisps]).query(apart)[1]  # [S]

    length = lengths(style, roots, rng)
    path = _lead(style, manner, roots, length, side, wisp, body, rng)  # [S, K + 1, 3]
    last = _barber(style, path, head, vertices, body, rng)
    reach = float(np.quantile(arc(path)[np.arange(n_strands), last.astype(int)], 0.9))
    # Long segments have large boxes, which rays must search: one every few centimetres renders fastest.
    n = int(np.clip(4.5 * reach / style.pitch, 8, 30) if style.curl else np.clip(reach / 0.025, 8, 16))
    samples = add_tails(style, path, body, rng) if style.tail else resample(path, last, n)
    n = samples.shape[1]

    signed = skin.distance(samples.reshape(-1, 3), 0.006)[0].reshape(samples.shape[:2])
    deep = (signed < -0.002) & (np.arange(n) > 1)  # what runs into an ear is cut there
    first = np.where(deep.any(1), deep.argmax(1) - 1, n - 1)
    samples = cut(samples, np.maximum(first, 0.3))

    inside = np.minimum(
        body.look(samples.reshape(-1, 3))[0], -INTO
    )  # near the root the body may be wider than the skin
    # A wisp is of strands that start and lead the same way, or it would be drawn through the head.
    alike = np.concatenate([apart, 0.4 * samples[:, n // 2], 0.4 * samples[:, -1]], 1)
    middle = samples[wisps][cKDTree(alike[wisps]).query(alike)[1]]  # [S, n, 3]
    share = np.linspace(0, 1, n, dtype=np.float32)[None, :, None]
    together = max(manner.together, 0.75) if style.coiled else manner.together
    together = together * min(style.top / 0.04, 1) * share**0.8
    samples = samples + together * (middle - samples - (middle - samples)[:, :1])
    samples = _curl(style, manner, samples, roots, wisp, rng)
    gap, _, ray = body.look(samples.reshape(-1, 3))
    out = np.maximum(inside - gap, 0)[:, None] * ray
    samples = (samples + out.reshape(samples.shape)).astype(np.float32)
    return cut(samples, _barber(style, samples, head, vertices, body, rng))


def _lead(style, manner, roots, length, side, wisp, body, rng):
    """Paths [S, K + 1, 3] in K equal steps each."""
    n_strands = len(length)
    steps = int(np.clip(np.ceil(length.max() / STEP), 7, 40))
    step = (length / steps).astype(np.float32)[:, None]
    own, shared = rng.standard_normal((2, n_strands, 3)).astype(np.float32)
    swerve = manner.mess * style.mess * (0.45 * own + 0.75 * shared[wisp])
    outer = rng.beta(1.3, 1.1, n_strands).astype(np.float32)
    stray = rng.uniform(size=n_strands) < manner.stray
    outer[stray] *= 1.5
    swerve[stray] += 0.35 * min(1, 0.06 / max(style.top, 1e-6)) * own[stray]

    volume = np.where(in_fringe(roots.template) & (style.fringe > 0), 0.4, 1.0) * style.volume
    front = smooth(roots.template[:, 2], -0.04, 0.01)[:, None]
    lift = style.lift + style.quiff * front * (1 - style.lift)
    if style.fringe:
        lift = np.where(in_fringe(roots.template)[:, None], 0.12, lift)
    p, normal = roots.point.astype(np.float32), roots.normal
    d = unit(lift * normal + (1 - lift) * _comb(style, p, normal, roots, side, body)[0])
    start = np.minimum(body.look(p)[0], 0)  # the body may be wider than the skin that a strand leaves
    path = [p]
    for k in range(steps):
        grown = step[:, 0] * (k + 1)
        p = p + step * d
        gap, normal, ray = body.look(p)
        keep_off = start * (1 - smooth(grown, 0, 0.025)) + np.minimum(8e-4, 0.3 * grown)
        keep_off = keep_off + volume * 0.25 * outer * smooth(grown, 0.005, 0.06)
        p = p + ray * np.maximum(keep_off - gap, 0)[:, None]
        gap = np.maximum(gap, keep_off)
        comb, free = _comb(style, p, normal, roots, side, body)
        hang = style.weight * smooth(grown, 0.01, 0.09) * free
        fall, must = _fall(style, p, normal, gap, body)
        hang = np.maximum(hang, must * free)[:, None]
        aim = unit((1 - hang) * unit(comb + swerve) + hang * (fall + 0.3 * swerve))
        if style.comb != "out":  # hair lies in a layer as thick as the style has volume
            ceiling = volume * outer * (1 - np.exp(-grown / 0.025))
            toward = np.where((gap < ceiling)[:, None], normal, ray)  # in is towards the axis, whatever juts out
            aim = aim + toward * (np.clip((ceiling - gap) / 0.012, -1, 1) * (0.9 - 0.45 * hang[:, 0]))[:, None]
        d = unit(d + np.minimum(step / 0.006, 1.0) * (aim - d) * 0.6)
        path.append(p)
    return np.stack(path, 1)


def _comb(style, p, normal, roots, side, body):
    """Where the style leads strands at p, unit [S, 3], and 0 to 1 how free they are there to hang."""
    q = p - body.centre
    angle = np.degrees(np.arctan2(np.abs(q[:, 0]), q[:, 2]))
    free = np.ones(len(p), np.float32)
    ex, ey, ez = np.eye(3, dtype=np.float32)
    whorl = q - (CROWN - CENTRE).astype(np.float32)
    away = unit(whorl + 0.35 * np.cross(normal, whorl)) - 0.35 * ey
    if style.comb == "out":
        return normal, free
    if style.comb == "gather":
        aim = body.behind(style.gather[0])[0] - p
    elif style.comb == "back":
        aim = np.broadcast_to(-ez - 0.3 * ey, p.shape)
    elif style.comb == "crown":
        aim = away
    else:
        behind = smooth(-roots.template[:, 2], 0.09, 0.125)[:, None]
        aim = (1 - behind) * (side[:, None] * ex - 0.6 * ey - 0.35 * ez) + behind * away
    if style.fringe:
        forward = ez - 0.6 * ey + 3.0 * q[:, :1] * ex
        aim = np.where(in_fringe(roots.template)[:, None], forward, aim)
    aim = unit(aim)
    if style.top > 0.15 and not style.tail:
        # Off the face: whatever comes down the forehead goes to its own side.
        low = 1 - smooth(q[:, 1], 0.02, 0.06)
        before = low * (1 - smooth(angle, 48, 66)) * ~(in_fringe(roots.template) & (style.fringe > 0))
        outward = np.where(np.abs(q[:, 0]) > 0.01, np.sign(q[:, 0]), side)[:, None] * ex - 0.4 * ez
        aim = aim + 3 * before[:, None] * outward
        free *= 1 - before
        if not style.over_ears:  # behind the ears, by way of above them
            above = (1 - smooth(angle, 108, 124)) * low
            aim = aim + 2.5 * above[:, None] * -ez
            free *= 1 - above
    flat = aim - normal * (aim * normal).sum(1, keepdims=True)
    return unit(flat), free


def _fall(style, p, normal, gap, body):
    """Which way hair hangs at p [S, 3], and 0 to 1 how much it does whatever the comb wants."""
    q = p - body.centre
    must = smooth(-q[:, 1], 0.0, 0.07) * (style.top > 0.15 and not style.tail)
    # Nobody's hair stays on top of the shoulders: it slides before or behind them.
    flat = smooth(-q[:, 1], 0.08, 0.12) * smooth(normal[:, 1], 0.3, 0.7) * smooth(-gap, -0.014, -0.005)
    before = np.where(q[:, 2] > -0.01, 0.8, -0.8) * flat
    return DOWN + np.stack([-0.5 * np.sign(q[:, 0]) * flat, 0 * flat, before], 1).astype(np.float32), must


def _barber(style, path, head, vertices, body, rng):
    """The last step [S] each path keeps: not over the eyes, not lower than the style is cut."""
    n_strands, n = path.shape[:2]
    q = path - body.centre
    brow = head.landmarks(torch.from_numpy(vertices)[None])[0, 17:27].numpy() - body.centre  # [10, 3]
    angle = np.degrees(np.arctan2(np.abs(q[..., 0]), q[..., 2]))
    lowest = brow[:, 1].mean() + 0.002 + 0.004 * rng.standard_normal((n_strands, 1))
    over = (angle < 43 + 3 * rng.standard_normal((n_strands, 1))) & (q[..., 1] < lowest)
    level = style.cut - CENTRE[1] - 0.05 * style.ragged * rng.standard_normal((n_strands, 1))
    over |= q[..., 1] < level
    return np.where(over.any(1), np.maximum(over.argmax(1) - 1, 1), n - 1).astype(float)


def _curl(style, manner, samples, roots, wisp, rng):
    """Waves or coils about the paths, and the frizz of single strands."""
    n_strands, n = samples.shape[:2]
    along = arc(samples)  # [S, n]
    tangent = unit(np.gradient(samples, axis=1))
    first = unit(roots.normal[:, None] - tangent * (roots.normal[:, None] * tangent).sum(-1, keepdims=True))
    second = np.cross(tangent, first)
    set_in = smooth(along, 0.0, 0.02 if style.top > 0.1 else 0.008)
    if style.curl:
        start = rng.uniform(0, 2 * np.pi, n_strands)[wisp] + 0.3 * rng.standard_normal(n_strands)
        pitch = style.pitch * np.exp(0.15 * rng.standard_normal(n_strands))[wisp]
        size = style.curl * np.exp(0.25 * rng.standard_normal(n_strands))[:, None] * set_in
        phase = 2 * np.pi * along / pitch[:, None] + start[:, None]
        if style.coiled:
            samples = samples + (size * (np.cos(phase) - np.cos(start)[:, None]))[..., None] * first
            samples = samples + (size * (np.sin(phase) - np.sin(start)[:, None]))[..., None] * second
        else:
            samples = samples + (size * np.sin(phase))[..., None] * (second + 0.4 * first)
    drift = rng.standard_normal((2, n_strands, 1)) * manner.frizz * set_in * np.minimum(along / 0.05, 1)
    swing = np.sin(along * 45 + rng.uniform(0, 6, (n_strands, 1)))
    samples = samples + (drift[0])[..., None] * second + (drift[1] * swing)[..., None] * first
    return samples.astype(np.float32)
