"""Ponytails and buns: what strands do once they have come together at the back of the head."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.hair.body import Body
from data_scripts.worlds.hair.strands import resample
from data_scripts.worlds.hair.styles import Style

TIED = 0.007  # metres: radius of the strand where it is tied
FULL = 0.024  # metres: radius of a ponytail at its fullest
BUN = 0.030  # metres: radius of a bun
NEAR = 0.022  # metres from the knot at which a strand has arrived
KNOT = 0.025  # metres that strands go on which end in the knot
HUG, HANG = 10, 14  # samples on the head, and after it


def add_tails(style: Style, path: Float[ndarray, "S K 3"], body: Body, rng: np.random.Generator):
    """Samples [S, HUG + HANG, 3]: each path up to the knot, then the tail; paths that miss the knot as they are."""
    knot, out = body.behind(style.gather[0])
    n_strands, n = path.shape[:2]
    far = np.linalg.norm(path - knot, axis=2)  # [S, K]
    arrived = (far < NEAR).any(1)
    last = np.where(arrived, (far < NEAR).argmax(1), n - 1)
    hug = resample(path, last, HUG)

    long = np.where(rng.uniform(size=n_strands) < 0.6, style.gather[1] * (1 - 0.25 * rng.beta(1, 3, n_strands)), KNOT)
    along = long[:, None] * np.linspace(0, 1, HANG + 1)[None, 1:]  # [S, HANG]
    disc = np.sqrt(rng.uniform(size=n_strands)) * np.exp(2j * np.pi * rng.uniform(size=n_strands))
    shape = _ponytail if style.tail == "ponytail" else _bun
    tail = shape(along, disc, knot, out, style.gather[1], body, hug[:, -1] - knot, rng)
    join = np.clip(along / 0.035, 0, 1)[..., None]  # from where the strand arrives into its place in the tail
    join = join * join * (3 - 2 * join)
    tail = tail + (1 - join) * (hug[:, -1] - knot)[:, None] * (TIED / NEAR)
    both = np.concatenate([hug, tail], 1)
    both[~arrived] = resample(path, last, HUG + HANG)[~arrived]
    return both.astype(np.float32)


def _ponytail(along, disc, knot, out, length, body, arrival, rng):
    """Bundle around a middle line that leaves the head, then falls along the back of the neck."""
    steps = 60
    d = out + np.array([0, 0.35, 0])
    line = [knot]
    for _ in range(steps):
        d = d / np.linalg.norm(d) + np.array([0, -0.22, 0])
        p = line[-1] + length / steps * d / np.linalg.norm(d)
        gap, _, ray = body.look(p[None])
        line.append(p + ray[0] * max(FULL * 0.9 - gap[0], 0) * min(len(line) / 12, 1))
    line = np.array(line)
    at = along / length * steps
    middle = np.stack([np.interp(at, np.arange(steps + 1), line[:, k]) for k in range(3)], -1)  # [S, HANG, 3]
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    up = np.stack([np.zeros(steps + 1), -tangent[:, 2], tangent[:, 1]], -1)  # the tail stays in the middle plane
    up = np.stack([np.interp(at, np.arange(steps + 1), up[:, k]) for k in range(3)], -1)
    share = along / length
    size = TIED + (FULL - TIED) * np.sin(np.pi * np.clip(share * 1.15, 0, 1) ** 0.7)
    wide = size * disc.real[:, None]
    return middle + wide[..., None] * np.array([1, 0, 0]) + (size * disc.imag[:, None])[..., None] * up


def _bun(along, disc, knot, out, length, body, arrival, rng):
    """Turns around a ball on the back of the head, each strand about an axis of its own near the ball's."""
    n_strands = len(along)
    axis = out + 0.45 * rng.standard_normal((n_strands, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    start = arrival - axis * (arrival * axis).sum(1, keepdims=True)
    start /= np.maximum(np.linalg.norm(start, axis=1, keepdims=True), 1e-9)
    turn = along / BUN
    depth = BUN * (1 - 0.35 * np.abs(disc)[:, None] ** 2)  # outer strands are many
    flat = np.cos(turn)[..., None] * start[:, None] + np.sin(turn)[..., None] * np.cross(axis, start)[:, None]
    # Up the ball and down again, so that the turns cover it.
    lean = (disc.real[:, None] * 0.9 + 0.25 * np.sin(turn / 2))[..., None]
    ball = np.sqrt(np.maximum(1 - lean**2, 0)) * flat + lean * axis[:, None]
    return knot + out * BUN * 0.75 + depth[..., None] * ball
