"""Round eyeballs in place of the base mesh's coarse ones, so that they can turn under the lids."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

SEGMENTS = 16
# Polar angle of each ring from the pupil's axis, degrees: two rings in the pupil, its edge doubled, the iris, its edge
# (the limbus) doubled, then coarser to the back of the ball.
RINGS = (4.0, 7.5, 8.5, 14.5, 20.5, 22.0, 28.0, 37.0, 48.0, 62.0, 80.0, 100.0, 125.0, 152.0)
PUPIL, IRIS = 8.0, 21.0  # degrees, colour changes between rings here
N_VERTICES = SEGMENTS * len(RINGS) + 2


def unit_eyeball() -> tuple[Float[ndarray, "N 3"], Int[ndarray, "F 3"]]:
    """Unit sphere looking along +z, mirror symmetric in x: front pole, rings from front to back, back pole."""
    polar = np.radians(RINGS)[:, None]
    around = (np.arange(SEGMENTS) + 0.5) * 2 * np.pi / SEGMENTS  # offset by half a step: no vertex at x = 0
    ring = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around),
                     np.cos(polar) * np.ones(SEGMENTS)], axis=2)  # fmt: skip
    vertices = np.concatenate([[[0.0, 0.0, 1.0]], ring.reshape(-1, 3), [[0.0, 0.0, -1.0]]])
    index = 1 + np.arange(SEGMENTS * len(RINGS)).reshape(len(RINGS), SEGMENTS)
    after = np.roll(index, -1, axis=1)
    pole = np.zeros(SEGMENTS, int)
    faces = [np.stack([pole, index[0], after[0]], axis=1)]
    for a, b, c, d in zip(index[:-1], index[1:], after[1:], after[:-1], strict=True):
        faces += [np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]
    faces.append(np.stack([index[-1], pole + N_VERTICES - 1, after[-1]], axis=1))
    return vertices, np.concatenate(faces)


def eyeball_polar_angle() -> Float[ndarray, " N"]:
    """Angle of each eyeball vertex from the gaze axis, degrees: what colours pupil, iris and sclera."""
    return np.concatenate([[0.0], np.repeat(RINGS, SEGMENTS), [180.0]])


def follow_eyeball(
    vertices: Float[ndarray, "N 3"], guide: Float[ndarray, "n 3"], moved: Float[ndarray, "... n 3"]
) -> Float[ndarray, "... N 3"]:
    """Displacement of eyeball vertices by the guide's mean shift and mean growth, so that a ball stays a ball.

    guide, moved: the base mesh's eyeball and its displacement; the map is linear in `moved`.
    """
    arm = guide - guide.mean(axis=0)
    shift = moved.mean(axis=-2, keepdims=True)
    growth = (arm * (moved - shift)).sum(axis=(-2, -1)) / (arm**2).sum()  # [...]
    return shift + growth[..., None, None] * (vertices - guide.mean(axis=0))
