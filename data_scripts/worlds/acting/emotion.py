"""What feelings do to a face, as peaks of ARKit scores, and how they come and go."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.acting.curves import blend, pulse, wander

# Several faces for each feeling, at full strength; which one it is differs from time to time.
EMOTIONS: dict[str, list[dict[str, float]]] = {
    "joy": [
        {"mouthSmile": 0.85, "cheekSquint": 0.65, "eyeSquint": 0.35, "mouthUpperUp": 0.12},
        {"mouthSmile": 0.90, "cheekSquint": 0.75, "eyeSquint": 0.45, "jawOpen": 0.22, "mouthUpperUp": 0.30,
         "mouthLowerDown": 0.25},
        {"mouthSmile": 0.75, "cheekSquint": 0.7, "jawOpen": 0.55, "mouthUpperUp": 0.35, "eyeSquint": 0.5,
         "browInnerUp": 0.2, "browOuterUp": 0.2},
    ],
    "sadness": [
        {"browInnerUp": 0.85, "mouthFrown": 0.65, "mouthShrugLower": 0.40, "eyeSquint": 0.20, "lids": 0.20},
        {"browInnerUp": 0.75, "browDown": 0.25, "mouthFrown": 0.75, "mouthStretch": 0.25, "lids": 0.35,
         "jawOpen": 0.08},
    ],
    "anger": [
        {"browDown": 0.95, "eyeSquint": 0.45, "noseSneer": 0.35, "mouthPress": 0.50, "mouthFrown": 0.25,
         "mouthShrugLower": 0.2},
        {"browDown": 0.95, "noseSneer": 0.60, "jawOpen": 0.32, "mouthUpperUp": 0.50, "mouthLowerDown": 0.55,
         "mouthStretch": 0.30, "eyeWide": 0.25},
    ],
    "surprise": [
        {"browInnerUp": 0.85, "browOuterUp": 0.85, "eyeWide": 0.75, "jawOpen": 0.50},
        {"browInnerUp": 0.70, "browOuterUp": 0.75, "eyeWide": 0.55, "jawOpen": 0.28, "mouthFunnel": 0.45},
    ],
    "disgust": [
        {"noseSneer": 0.90, "mouthUpperUp": 0.60, "browDown": 0.45, "eyeSquint": 0.45, "cheekSquint": 0.35},
        {"noseSneer": 0.70, "mouthFrown": 0.55, "mouthShrugUpper": 0.45, "mouthShrugLower": 0.35, "browDown": 0.35,
         "lids": 0.25},
    ],
    "fear": [
        {"browInnerUp": 0.90, "browOuterUp": 0.35, "browDown": 0.20, "eyeWide": 0.85, "mouthStretch": 0.60,
         "jawOpen": 0.18, "mouthLowerDown": 0.25},
        {"browInnerUp": 0.80, "browOuterUp": 0.45, "eyeWide": 0.75, "jawOpen": 0.40, "mouthStretch": 0.35},
    ],
    "doubt": [
        {"browDownLeft": 0.65, "browOuterUpRight": 0.85, "browInnerUp": 0.20, "mouthPress": 0.35, "mouthLeft": 0.35},
        {"browDownRight": 0.65, "browOuterUpLeft": 0.85, "browInnerUp": 0.20, "mouthDimpleRight": 0.5,
         "mouthSmileRight": 0.3, "mouthRight": 0.2},
    ],
}  # fmt: skip
# Movements without a feeling, which studio captures ask for.
GESTURES: list[dict[str, float]] = [
    {"mouthPucker": 0.95, "mouthFunnel": 0.1},
    {"cheekPuff": 0.85, "mouthPress": 0.3},
    {"jawOpen": 0.9, "browInnerUp": 0.25},
    {"jawOpen": 0.5, "tongueOut": 0.9},
    {"mouthLeft": 0.8, "jawLeft": 0.6},
    {"mouthRight": 0.8, "jawRight": 0.6},
    {"mouthRollLower": 0.7, "mouthRollUpper": 0.7},
    {"lids": 1.0},
    {"lids": 1.0, "cheekSquint": 0.8, "noseSneer": 0.6, "browDown": 0.7, "mouthStretch": 0.3},
    {"jawForward": 0.8, "mouthFrown": 0.4},
]


def feel(
    rng: np.random.Generator,
    t: Float[ndarray, " T"],
    end: float,
    scores: Float[ndarray, "T 52"],
    lids: Float[ndarray, " T"],
    strength: tuple[float, float],
    gap: tuple[float, float],
    names: dict[str, float],
    gestures: float = 0.0,
) -> None:
    """Let feelings come and go until `end`, in place: on the scores, and on how far lids are lowered.

    Args:
        t: seconds; what happens does not depend on them.
        strength: range of a feeling's peak, 1 is the table.
        gap: range of the seconds from the start of one feeling to the next; they overlap and so mix.
        names: which feelings, and how likely each is.
        gestures: share of the events that are gestures instead.
    """
    habit = rng.normal(0, 0.08)  # everybody's smile is a little crooked, always to the same side
    share = np.array(list(names.values())) / sum(names.values())
    now = rng.uniform(-1.5, 0.8)  # the first feeling may have begun before the first frame
    while now < end:
        attack, hold, release = rng.uniform(0.25, 0.7), rng.uniform(0.4, 2.2), rng.uniform(0.4, 1.1)
        if rng.random() < gestures:
            face, peak = GESTURES[rng.integers(len(GESTURES))], rng.uniform(0.7, 1.0)
        else:
            faces = EMOTIONS[str(rng.choice(list(names), p=share))]
            face, peak = faces[rng.integers(len(faces))], rng.uniform(*strength)
        flutter = peak * (1 + 0.05 * wander(rng, t, 0.7))
        lean = habit + rng.normal(0, 0.07)
        for action, score in face.items():
            late = rng.uniform(0, 0.15) if rng.random() < 0.4 else 0.0  # not everything starts at once
            curve = score * rng.uniform(0.85, 1.1) * flutter * pulse(t, now + late, attack, hold, release)
            if action == "lids":
                lids += np.clip(curve, 0, 1) * (1 - lids)
            else:
                blend(scores, action, curve, (1 + lean, 1 - lean))
        now += rng.uniform(*gap)


def relieve(scores: Float[ndarray, "T 52"], mouth: list[int], speaking: Float[ndarray, " T"]) -> None:
    """Weaken what a feeling does to the mouth while it is busy speaking, in place; brows and eyes keep it all."""
    scores[:, mouth] *= (1 - 0.55 * speaking)[:, None]
