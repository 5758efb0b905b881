"""Where the eyes look: fixations joined by saccades, eyes that stay on their target while the head turns, blinks."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.acting.curves import blend, pulse, step, wander

# Radians that OpenHead's eyes turn at a score of 1 (its `arkit_to_eyes`).
SIDEWAYS, UP, DOWN = 0.3444, 0.1722, 0.2753
# A saccade's duration grows with its size ("main sequence"): seconds, seconds a radian.
SACCADE = (0.022, 0.126)


def look(
    rng: np.random.Generator,
    t: Float[ndarray, " T"],
    end: float,
    head: Float[ndarray, "T 2"],
    contact: float,
    spread: float,
) -> tuple[Float[ndarray, "T 2"], list[float]]:
    """Gaze within the head, radians (to the subject's left, up), and the moments of the large gaze shifts.

    Args:
        head: where the head points, radians (left, up); eyes hold their target against its turning.
        contact: share of the fixations that are on whom one talks to, straight ahead.
        spread: standard deviation of the other fixations, radians; half of it vertically.
    """
    target, shifts = np.zeros((len(t), 2)), []  # [T, 2] in the room
    place, now, away = np.zeros(2), 0.0, False
    while now < end:
        away = not away and rng.random() > contact
        if away:
            aim, stay = rng.normal(0, (spread, 0.5 * spread)), rng.uniform(0.3, 1.1)
        else:  # eyes, mouth and eyes again of the other
            aim, stay = rng.normal(0, (0.02, 0.025)), np.exp(rng.normal(np.log(0.9), 0.5))
        size = float(np.linalg.norm(aim - place))
        target += step(t, now, SACCADE[0] + SACCADE[1] * size)[:, None] * (aim - place)
        if size > 0.12:
            shifts.append(now)
        place, now = aim, now + float(np.clip(stay, 0.25, 3.0))
    drift = 0.003 * np.stack([wander(rng, t, 0.8), wander(rng, t, 0.8)], 1)
    # Nobody keeps the eyes in their corners for long: half of the way, the eyes go along with the head.
    gaze = target + drift - 0.5 * head
    reach = np.array([SIDEWAYS, UP]), np.array([-SIDEWAYS, -DOWN])
    return np.clip(gaze, 0.95 * reach[1], 0.95 * reach[0]), shifts


def aim(scores: Float[ndarray, "T 52"], gaze: Float[ndarray, "T 2"]) -> None:
    """Write a gaze as the eight eyeLook scores, in place; with them the lids follow the eyes up and down."""
    left, up = np.maximum(gaze, 0).T
    right, down = np.maximum(-gaze, 0).T
    for action, curve in (("eyeLookUp", up / UP), ("eyeLookDown", down / DOWN)):
        blend(scores, action, curve)
    for action, curve in (("OutLeft", left), ("InRight", left), ("InLeft", right), ("OutRight", right)):
        blend(scores, f"eyeLook{action}", curve / SIDEWAYS)


def blink(
    rng: np.random.Generator, t: Float[ndarray, " T"], end: float, gap: float, shifts: list[float]
) -> tuple[Float[ndarray, " T"], list[float]]:
    """How far the lids are closed by blinks, 0 to 1, and when each blink begins.

    Blinks are 2 to 6 s apart (`gap` on average, within that); a large gaze shift draws one to itself. They take
    0.15 to 0.3 s, and open at half the speed with which they close; one in ten is not complete.
    """
    closed, starts = np.zeros(len(t)), []
    late = np.clip((gap - 2.0) / 4.0, 0.05, 0.95)  # mean of the share of the 4 s that is waited
    now = rng.uniform(0, 4.0)
    while now < end:
        near = [s for s in shifts if abs(s - now) < 0.6 and (not starts or s - starts[-1] > 2.0)]
        if near and rng.random() < 0.6:
            now = near[0]
        duration = rng.uniform(0.15, 0.3)
        depth = rng.uniform(0.45, 0.7) if rng.random() < 0.1 else rng.uniform(0.97, 1.0)
        closed = np.maximum(closed, depth * pulse(t, now, 0.3 * duration, 0.1 * duration, 0.6 * duration))
        starts.append(now)
        now += 2.0 + 4.0 * rng.beta(3 * late, 3 * (1 - late))
    return closed, starts
