"""Speech as a face shows it: phrases of syllables, and the visemes between which lips, jaw and tongue glide.

Coarticulation follows the dominance model of visual speech: each viseme pulls every channel towards its target with
a weight that rises and falls around its moment, and a channel follows the weighted mean. A closed bilabial pulls
hard, a vowel softly and for longer, and where nothing pulls the mouth comes back to rest.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_scripts.worlds.acting.curves import blend

# Targets at full articulation. "seal" is how far the lips make up for the open jaw (mouthClose at the jaw's score).
VOWELS = {
    "a": {"jawOpen": 0.52, "mouthLowerDown": 0.25, "mouthUpperUp": 0.12},
    "e": {"jawOpen": 0.38, "mouthStretch": 0.15, "mouthLowerDown": 0.30, "mouthUpperUp": 0.14, "mouthSmile": 0.10},
    "i": {"jawOpen": 0.16, "mouthStretch": 0.30, "mouthSmile": 0.22, "mouthLowerDown": 0.30},
    "o": {"jawOpen": 0.34, "mouthFunnel": 0.48, "mouthPucker": 0.25},
    "u": {"jawOpen": 0.17, "mouthPucker": 0.65, "mouthFunnel": 0.30},
    "schwa": {"jawOpen": 0.25, "mouthLowerDown": 0.16},
}
CONSONANTS = {
    "p b m": {"jawOpen": 0.05, "seal": 1.0, "mouthRollLower": 0.28, "mouthRollUpper": 0.22, "mouthPress": 0.15},
    "f v": {"jawOpen": 0.09, "mouthRollLower": 0.55, "mouthUpperUp": 0.20},
    "t d n l": {"jawOpen": 0.13, "tongueOut": 0.18, "mouthLowerDown": 0.12},
    "th": {"jawOpen": 0.22, "tongueOut": 0.34, "mouthLowerDown": 0.10},
    "s z": {"jawOpen": 0.06, "mouthStretch": 0.20, "mouthLowerDown": 0.34, "mouthUpperUp": 0.10},
    "sh ch": {"jawOpen": 0.09, "mouthFunnel": 0.52, "mouthPucker": 0.18},
    "k g": {"jawOpen": 0.18},
    "r": {"jawOpen": 0.12, "mouthFunnel": 0.30, "mouthPucker": 0.22},
    "w": {"jawOpen": 0.11, "mouthPucker": 0.68, "mouthFunnel": 0.15},
}
CHANNELS = sorted({name for viseme in (VOWELS | CONSONANTS).values() for name in viseme})
VOWEL_SHARE = (0.22, 0.17, 0.16, 0.12, 0.08, 0.25)  # how often each is said, roughly as in English
CONSONANT_SHARE = (0.17, 0.07, 0.34, 0.05, 0.13, 0.05, 0.08, 0.07, 0.04)
FIRM, LOOSE = 1.0, 0.2  # weight of a channel that a viseme sets, and of one that it leaves to its neighbours
STRICT = {"p b m": 5.0, "f v": 3.0, "s z": 2.0, "w": 2.0}  # visemes that cannot be said otherwise
REST = 0.06  # weight of the resting mouth


@dataclass(frozen=True)
class Voice:
    """How one person speaks."""

    rate: float  # syllables a second within a phrase
    effort: float  # how far the mouth goes, 1 is the table above
    gains: Float[ndarray, " C"]  # one factor for each channel
    pause: float  # seconds between phrases, on average
    lean: float  # how much further the left side of the mouth goes than the right, a share


@dataclass(frozen=True)
class Syllable:
    """When a vowel peaks, in seconds, how long its syllable lasts, and whether it is stressed."""

    peak: float
    duration: float
    stressed: bool


def sample_voice(rng: np.random.Generator, effort: tuple[float, float] = (0.85, 1.25)) -> Voice:
    """A speaker between slow and quick, mumbling and distinct (`effort`, its range)."""
    return Voice(
        rate=float(rng.uniform(3.6, 5.4)),
        effort=float(rng.uniform(*effort)),
        gains=np.exp(rng.normal(0, 0.12, len(CHANNELS))),
        pause=float(rng.uniform(0.35, 0.8)),
        lean=float(rng.normal(0, 0.06)),
    )


def say(
    rng: np.random.Generator, voice: Voice, t: Float[ndarray, " T"], spans: list[tuple[float, float]]
) -> tuple[dict[str, Float[ndarray, " T"]], list[Syllable]]:
    """Curves of the speech channels while the person speaks in these spans (start, end in seconds), and its syllables.

    Between the phrases of a span are pauses for breath.
    """
    visemes, syllables = [], []  # (time, width in seconds, name, strength)
    for start, end in spans:
        now = start
        while now < end - 0.3:
            now = _phrase(rng, voice, now, min(now + rng.uniform(0.8, 3.2), end), visemes, syllables)
            now += voice.pause * rng.uniform(0.5, 1.7)
    return _glide(voice, t, visemes), syllables


def _phrase(rng, voice, now, end, visemes, syllables):
    """Append the visemes and syllables of one phrase; returns when it ends."""
    to_stress = 0
    while now < end:
        duration = float(np.clip(np.exp(rng.normal(0, 0.16)) / voice.rate, 1 / 6, 1 / 3))
        stressed = to_stress == 0
        to_stress = int(rng.integers(1, 4)) if stressed else to_stress - 1
        if now + duration >= end:
            duration = min(1.3 * duration, 1 / 3)  # the last syllable is drawn out
        strength = rng.uniform(0.95, 1.2) if stressed else rng.uniform(0.6, 0.85)
        peak = now + duration * rng.uniform(0.48, 0.6)
        visemes.append((now, 0.25 * duration, rng.choice(list(CONSONANTS), p=CONSONANT_SHARE), strength))
        visemes.append((peak, 0.33 * duration, rng.choice(list(VOWELS), p=VOWEL_SHARE), strength))
        if rng.random() < 0.35:
            coda = rng.choice(list(CONSONANTS), p=CONSONANT_SHARE)
            visemes.append((now + 0.85 * duration, 0.2 * duration, coda, strength))
        syllables.append(Syllable(peak, duration, stressed))
        now += duration
    return now


def _glide(voice: Voice, t, visemes) -> dict[str, Float[ndarray, " T"]]:
    """Each channel: the mean of the visemes' targets, weighted by how much each dominates at that moment."""
    total = np.full((len(t), len(CHANNELS)), REST)  # [T, C]
    value = np.zeros_like(total)
    for time, width, name, strength in visemes:
        near = np.abs(t - time) < 3.2 * width
        if not near.any():
            continue
        viseme = (VOWELS | CONSONANTS)[name]
        target = np.array([viseme.get(channel, 0.0) for channel in CHANNELS])
        hold = STRICT.get(name, 1.0) * np.array([FIRM if channel in viseme else LOOSE for channel in CHANNELS])
        # Consonants are reached whether the syllable is stressed or not; vowels shrink when it is not.
        target = target * (strength if name in VOWELS else 1.0)
        dominance = np.exp(-(((t[near] - time) / width) ** 2)) - np.exp(-(3.2**2))  # [n] ends at 0, without a jump
        total[near] += dominance[:, None] * hold
        value[near] += dominance[:, None] * hold * target
    return dict(zip(CHANNELS, (value / total * voice.effort * voice.gains).T, strict=True))


def articulate(scores: Float[ndarray, "T 52"], channels: dict[str, Float[ndarray, " T"]], lean: float) -> None:
    """Lay speech over the scores, in place; the lips' seal is left for `close_lips`."""
    for name, curve in channels.items():
        if name != "seal":
            blend(scores, name, curve, (1 + lean, 1 - lean))
