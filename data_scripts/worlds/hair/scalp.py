"""Where scalp hair grows: the hairline, and what age takes from it. Drawn on the mean head, valid for everybody."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

AXIS = -0.06  # metres: z of the vertical axis around which the hairline is drawn
# Degrees from the middle of the forehead, and the height of the hairline there, metres: forehead, temple,
# sideburn, above the ear, behind it, nape.
LINE = np.array(
    [
        [0, 0.0870],
        [14, 0.0885],
        [27, 0.0885],
        [36, 0.0800],
        [44, 0.0630],
        [52, 0.0530],
        [60, 0.0420],
        [66, 0.0240],
        [71, 0.0060],
        [76, 0.0020],
        [80, 0.0240],
        [90, 0.0270],
        [102, 0.0200],
        [109, -0.0100],
        [120, -0.0360],
        [140, -0.0470],
        [180, -0.0520],
    ]
)
CROWN = np.array([0.008, 0.112, -0.128])  # metres: where the whorl is
BAND = 5e-3  # metres over which hair thins out towards the hairline


@dataclass(frozen=True)
class Hairline:
    height: float  # metres by which the forehead's line is moved up
    peak: float  # metres by which a widow's peak comes down in the middle
    temples: float  # 0 to 1: how far the corners have receded
    bald: float  # 0 to 1: how much of the top is bare, from front and crown; 1 leaves a wreath
    sideburns: float  # metres by which they reach lower than the ear's root


def smooth(x, low: float, high: float):
    """0 below low, 1 above high, smooth in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def around(points: Float[ndarray, "N 3"]) -> Float[ndarray, " N"]:
    """Degrees from the middle of the forehead, 0 to 180 on either side."""
    return np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - AXIS))


def above_line(line: Hairline, points: Float[ndarray, "N 3"]) -> Float[ndarray, " N"]:
    """Metres by which points of the mean head lie above the hairline; the ears are not cut out."""
    degrees, height = LINE.T.copy()
    front = smooth(-degrees, -50, -25)
    height += line.height * front - line.peak * smooth(-degrees, -14, 0)
    height += line.temples * 0.022 * np.exp(-(((degrees - 31) / 13) ** 2))
    height -= line.sideburns * np.exp(-(((degrees - 74) / 5) ** 2))
    return points[:, 1] - PchipInterpolator(degrees, height)(around(points))


def scalp_density(line: Hairline, points: Float[ndarray, "N 3"]) -> Float[ndarray, " N"]:
    """How dense hair grows, 0 to 1, at points of the mean head."""
    x, y, z = points.T
    # The line waves a little, or it would look drawn.
    uneven = 0.0012 * (np.sin(900 * x + 3) + np.sin(610 * z + 1) * np.cos(700 * y))
    dense = smooth(above_line(line, points) + uneven, 0, BAND)
    if line.bald > 0:
        top = smooth(y - 0.25 * np.maximum(-0.06 - z, 0), 0.052, 0.078)
        front = z - (0.035 - 0.19 * line.bald) - 14 * x**2
        crown = 0.015 + 0.055 * line.bald - np.linalg.norm(points - CROWN, axis=1)
        bare = np.maximum(smooth(front, -0.022, 0.008), smooth(crown, -0.02, 0.006) * smooth(line.bald, 0.25, 0.5))
        dense = dense * (1 - 0.97 * top * bare)
    return dense


def in_fringe(points: Float[ndarray, "N 3"]) -> Bool[ndarray, " N"]:
    """What is combed over the forehead by those who wear a fringe."""
    return (np.abs(points[:, 0]) < 0.052) & (points[:, 2] > -0.04)


def crowding(part: float | None, fringe: bool, points: Float[ndarray, "N 3"]) -> Float[ndarray, " N"]:
    """How many times as many strands are needed: where they lead apart, at crown and parting, and in a fringe."""
    more = np.exp(-((np.linalg.norm(points - CROWN, axis=1) / 0.035) ** 2))
    if part is not None:
        more = np.maximum(more, 0.8 * np.exp(-(((points[:, 0] - part) / 0.016) ** 2)))
    if fringe:
        more = np.maximum(more, (np.abs(points[:, 0]) < 0.06) & (points[:, 2] > -0.055))
    return 1 + 1.3 * more
