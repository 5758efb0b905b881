"""Smooth curves over time, the pieces of every performance: pulses, steps, slow wandering, and the 52 scores.

All are functions of the time in seconds, so a performance sampled at another rate follows the same curves.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

# The 52 ARKit actions in the order of `Head.arkit_names`, which is alphabetical.
ARKIT = tuple("""
    browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight
    eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight eyeLookOutLeft
    eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward
    jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel
    mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft
    mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight tongueOut
""".split())  # fmt: skip
SIDED = {name.removesuffix("Left") for name in ARKIT if name.endswith("Left")} - {"jaw", "mouth"}


def ease(x: Float[ndarray, " T"]) -> Float[ndarray, " T"]:
    """0 before 0, 1 after 1, in between the fifth-degree step without jumps of speed or acceleration."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10 + x * (6 * x - 15))


def step(t: Float[ndarray, " T"], start: float, duration: float) -> Float[ndarray, " T"]:
    """From 0 to 1, leaving at `start` and there after `duration` seconds: a reaching movement of least jerk."""
    return ease((t - start) / duration)


def pulse(t: Float[ndarray, " T"], start: float, attack: float, hold: float, release: float) -> Float[ndarray, " T"]:
    """From 0 to 1 in `attack` seconds, there for `hold`, back in `release`."""
    return step(t, start, attack) * (1 - step(t, start + attack + hold, release))


def wander(rng: np.random.Generator, t: Float[ndarray, " T"], period: float) -> Float[ndarray, " T"]:
    """Smooth noise of unit variance: eight sines of random phase, periods between half and three times `period`."""
    periods = period * np.exp(rng.uniform(np.log(0.5), np.log(3.0), 8))
    phases = rng.uniform(0, 2 * np.pi, 8)
    return np.sin(2 * np.pi * t[:, None] / periods + phases).sum(1) / 2


def columns(action: str) -> list[int]:
    """Where an action lies among the 52: one place, or the left and the right one of an action with sides."""
    return [ARKIT.index(action + side) for side in ("Left", "Right")] if action in SIDED else [ARKIT.index(action)]


def blend(scores: Float[ndarray, "T 52"], action: str, curve: Float[ndarray, " T"], sides=(1.0, 1.0)) -> None:
    """Lay a curve over an action, in place: a + b - a b, which adds small scores and never passes 1.

    `sides` scales left and right of an action that has both.
    """
    for column, side in zip(columns(action), sides, strict=False):
        b = np.clip(curve * side, 0.0, 1.0)
        scores[:, column] += b - scores[:, column] * b
