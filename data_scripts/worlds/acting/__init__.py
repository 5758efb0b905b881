"""What a person does in a clip: face, gaze, blinks and head over time, in a mood.

The curves are functions of the time alone: a clip sampled at another rate, or a few frames of it, show the same
performance. Scores mean the same on everybody but for the lids: see `codes`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from scipy.spatial.transform import Rotation
from torch import Tensor

from data_scripts.worlds.acting.curves import ARKIT, blend, columns, pulse, step, wander
from data_scripts.worlds.acting.emotion import feel, relieve
from data_scripts.worlds.acting.gaze import aim, blink, look
from data_scripts.worlds.acting.speech import Syllable, articulate, sample_voice, say
from sa0lib.head import Head

Mood = Literal["talk", "listen", "act", "calm"]
EVERYDAY = {"joy": 5, "surprise": 1.5, "doubt": 2, "sadness": 1, "disgust": 0.5, "anger": 0.7, "fear": 0.3}
STRONG = {"joy": 2, "surprise": 1.5, "doubt": 1, "sadness": 1.2, "disgust": 1.2, "anger": 1.5, "fear": 1.2}
LIMITS = np.radians([35.0, 20.0, 14.0])  # of the head's yaw, pitch and roll
REACH = 0.04  # metres, how far the head moves from its place along any axis
TURN = np.radians(110.0)  # radians a second, the fastest change of posture
ROOT_SHARE = 0.4  # of the head's turn that the root joint makes, and with it the cut of the neck; the neck the rest
CLOSED = -1.5e-3  # metres between the lids' landmarks at which no eye is seen: they overlap, being above the lashes
TONGUE = 2.2  # the tongue's score over the jaw's that keeps it between the teeth


@dataclass(frozen=True)
class Style:
    """What a mood does to a performance."""

    speech: tuple[float, float]  # share of the time spent speaking, and of the usual effort
    strength: tuple[float, float]  # range of the peaks of feelings
    gap: tuple[float, float]  # seconds from one feeling to the next, range
    feelings: dict[str, float]  # which, and how likely
    gestures: float  # share of the events that are movements without a feeling
    posture: tuple[float, float, float]  # standard deviation of yaw, pitch and roll, degrees
    hold: tuple[float, float]  # seconds between changes of posture, range
    contact: float  # share of fixations straight ahead
    spread: float  # standard deviation of the others, degrees
    blinks: float  # seconds between them, mean
    nods: float  # nods of assent a second


STYLES: dict[str, Style] = {
    "talk": Style((0.85, 1.0), (0.15, 0.6), (1.5, 4.5), EVERYDAY, 0.0, (8, 4, 4), (0.9, 3.0), 0.62, 9, 3.4, 0.0),
    "listen": Style((0.0, 0.0), (0.15, 0.55), (2.0, 6.0), EVERYDAY, 0.0, (6, 3, 4), (2.0, 5.0), 0.82, 7, 3.9, 0.22),
    "act": Style((0.35, 1.15), (0.65, 1.0), (1.0, 2.4), STRONG, 0.25, (16, 8, 6), (0.9, 2.5), 0.5, 12, 3.4, 0.0),
    "calm": Style((0.0, 0.0), (0.05, 0.25), (3.0, 7.0), EVERYDAY, 0.0, (4, 2, 2), (3.0, 7.0), 0.7, 6, 4.2, 0.0),
}


@dataclass(frozen=True)
class Performance:
    """T frames of acting."""

    scores: Float32[ndarray, "T 52"]  # ARKit, 0 to 1, in the order of `curves.ARKIT`; eyeBlink 1: the lids meet
    gaze: Float32[ndarray, "T 2"]  # radians within the head: to the subject's left, up (in `scores` as eyeLook)
    rotation: Float32[ndarray, "T 3"]  # of the head's root joint, axis-angle, radians
    neck: Float32[ndarray, "T 3"]  # of the neck joint; both turn about the same axis, so that they add up
    translation: Float32[ndarray, "T 3"]  # metres
    syllables: Float32[ndarray, " S"]  # seconds at which the vowels peak
    blinks: Float32[ndarray, " N"]  # seconds at which blinks begin
    fps: float  # frames a second

    def at(self, frames: ndarray) -> "Performance":
        """Only these frames (indices), as for a clip of which a few are kept; `fps` stays that of the clip."""
        rows = (self.scores, self.gaze, self.rotation, self.neck, self.translation)
        return Performance(*(x[frames] for x in rows), self.syllables, self.blinks, self.fps)


def perform(rng: np.random.Generator, n_frames: int, fps: float, mood: Mood) -> Performance:
    """A performance of n_frames / fps seconds.

    "talk" speaks with light feelings; "listen" nods and smiles; "act" is a studio session of strong feelings,
    gestures and some speech, with the head turning far; "calm" hardly moves but for eyes and lids.
    Raises ValueError for another mood, no frames or no rate.
    """
    if mood not in STYLES:
        raise ValueError(f"mood {mood!r}: must be one of {', '.join(STYLES)}")
    if n_frames < 1 or not fps > 0:
        raise ValueError(f"a performance needs frames and a rate, not n_frames={n_frames} and fps={fps}")
    style = STYLES[mood]
    # A stream for each part, so that a change to one of them leaves the others alone.
    feel_rng, speech_rng, head_rng, eye_rng, lid_rng = rng.spawn(5)
    t = np.arange(n_frames) / fps
    scores, lids = np.zeros((n_frames, 52)), np.zeros(n_frames)
    end = n_frames / fps

    feel(feel_rng, t, end, scores, lids, style.strength, style.gap, style.feelings, style.gestures)
    voice = sample_voice(speech_rng)
    channels, syllables = say(speech_rng, voice, t, _spans(speech_rng, style.speech[0], end))
    channels = {name: style.speech[1] * curve for name, curve in channels.items()}
    speaking = _speaking(t, syllables)
    mouth = [i for i, name in enumerate(ARKIT) if name.startswith(("mouth", "jaw", "tongue"))]
    relieve(scores, mouth, speaking)
    articulate(scores, channels, voice.lean)
    _flash_brows(speech_rng, t, scores, syllables)
    _keep_mouth_sound(scores, channels["seal"])

    angles, translation = _move_head(head_rng, t, end, style, syllables)
    gaze, shifts = look(eye_rng, t, end, angles[:, :2] * [1, -1], style.contact, np.radians(style.spread))
    aim(scores, gaze)
    closed, starts = blink(lid_rng, t, end, style.blinks, shifts)
    closed = closed + lids - closed * lids
    for action in ("eyeWide", "eyeSquint"):  # a blink takes over from what else the lids do
        scores[:, columns(action)] *= (1 - 0.7 * closed)[:, None]
    blend(scores, "eyeBlink", closed)

    turn = Rotation.from_euler("YXZ", angles).as_rotvec()  # [T, 3]
    rows = (scores, gaze, ROOT_SHARE * turn, (1 - ROOT_SHARE) * turn, translation)
    moments = ([s.peak for s in syllables], starts)
    return Performance(*(np.asarray(x, np.float32) for x in (*rows, *moments)), float(fps))


def _spans(rng, share, end) -> list[tuple[float, float]]:
    """Turns of speaking that fill about this share of the time."""
    if share == 0:
        return []
    spans, now = [], 0.0 if rng.random() < share else rng.uniform(0.5, 2.0)
    while now < end:
        length = rng.uniform(1.5, 6.0)
        spans.append((now, min(now + length, end)))
        now += length + length * (1 - share) / share * rng.uniform(0.6, 1.4)
    return spans


def _speaking(t, syllables: list[Syllable]) -> Float[ndarray, " T"]:
    """1 during syllables, 0 in pauses, smooth between."""
    quiet = np.ones(len(t))
    for s in syllables:
        quiet *= 1 - pulse(t, s.peak - 0.3, 0.2, 0.2, 0.3)
    return 1 - quiet


def _flash_brows(rng, t, scores, syllables: list[Syllable]) -> None:
    """Brows go up, or sometimes down, with some of the stressed syllables."""
    for s in syllables:
        if not s.stressed or rng.random() > 0.4:
            continue
        curve = rng.uniform(0.2, 0.6) * pulse(t, s.peak - rng.uniform(0.1, 0.2), 0.16, rng.uniform(0.0, 0.25), 0.3)
        if rng.random() < 0.75:
            blend(scores, "browInnerUp", curve)
            blend(scores, "browOuterUp", 0.8 * curve, (1, rng.uniform(0.6, 1.2)))
        else:
            blend(scores, "browDown", 0.8 * curve)


def _keep_mouth_sound(scores, seal) -> None:
    """What lips, jaw and tongue cannot do together, in place."""
    column = {name: ARKIT.index(name) for name in ("jawOpen", "mouthClose", "tongueOut")}
    jaw = scores[:, column["jawOpen"]]
    scores[:, column["mouthClose"]] = np.clip(seal, 0, 1) * jaw  # the lips close what the jaw opens, no more
    scores[:, column["tongueOut"]] = np.minimum(scores[:, column["tongueOut"]], TONGUE * jaw)
    up, down = columns("mouthSmile"), columns("mouthFrown")
    both = np.minimum(scores[:, up], scores[:, down])  # muscles that pull against each other cancel
    scores[:, up] -= 0.7 * both
    scores[:, down] -= 0.7 * both


def _move_head(rng, t, end, style: Style, syllables: list[Syllable]):
    """Yaw, pitch and roll [T, 3] in radians (left, down, to the right shoulder) and translation [T, 3] in metres."""
    spread = np.radians(style.posture)
    limits = 0.8 * LIMITS  # of a posture; sway and nods come on top
    place = np.clip(rng.normal(0, spread), -limits, limits)
    lean = rng.normal(0, 0.008, 3)
    angles, translation = np.tile(place, (len(t), 1)), np.tile(lean, (len(t), 1))
    now = rng.uniform(0.2, style.hold[1])
    while now < end:
        # Partly new, partly where it was: postures are small steps, sometimes a large one.
        keep = rng.choice([0.0, 0.6], p=[0.35, 0.65])
        to = np.clip(keep * place + np.sqrt(1 - keep**2) * rng.normal(0, spread), -limits, limits)
        lean_to = np.array([0.25 * np.sin(to[0]) * 0.1, 0.0, 0.0]) + rng.normal(0, (0.006, 0.003, 0.008))
        # The easing is 1.875 times as fast in its middle as on average.
        duration = max(rng.uniform(0.45, 1.0), 1.875 * np.abs(to - place).max() / TURN)
        move = step(t, now, duration)[:, None]
        angles, translation = angles + move * (to - place), translation + move * (lean_to - lean)
        place, lean, now = to, lean_to, now + duration + rng.uniform(*style.hold)
    calm = min(1.0, style.posture[0] / 8)
    for axis, sway in enumerate((0.9, 0.7, 0.6)):
        angles[:, axis] += calm * np.radians(sway) * wander(rng, t, 1.6)
        translation[:, axis] += calm * 0.0015 * wander(rng, t, 2.2)
    for s in syllables:  # the beat of speech: a small nod with the stress
        if s.stressed and rng.random() < 0.8:
            beat = pulse(t, s.peak - 0.14, 0.16, 0.02, 0.32)
            angles += beat[:, None] * np.radians(rng.normal((0, 2.6, 0), (0.9, 0.9, 0.7)))
            translation[:, 2] += rng.uniform(0, 0.003) * beat
    now = rng.exponential(1 / style.nods) if style.nods else np.inf
    while now < end:  # assent: two to four nods that die away
        n, rate, size = rng.integers(2, 5), rng.uniform(1.5, 2.2), np.radians(rng.uniform(3, 7))
        for k in range(n):
            half = 0.5 / rate
            angles[:, 1] += size * 0.75**k * pulse(t, now + k / rate, half, 0.0, half)
        now += n / rate + rng.exponential(1 / style.nods)
    return np.clip(angles, -LIMITS, LIMITS), np.clip(translation, -REACH, REACH)


def codes(performance: Performance, head: Head, shape: Float[Tensor, "1 300"]) -> dict[str, Tensor]:
    """The performance as keywords of `Head.forward`, each [T, _], for the person with this shape code.

    Eyes open differently far from person to person, and squinting, gaze and cheeks lower the lids too. So a blink
    is turned into the score that closes what is left open on this person: lids meet, and never pass each other.

    Raises ValueError for a head without these ARKit actions.
    """
    if tuple(head.arkit_names) != ARKIT:
        raise ValueError(f"{head.source} has not the 52 ARKit actions of a performance; use OpenHead (load_head)")
    scores = torch.from_numpy(performance.scores).to(head.v_template)  # [T, 52]
    scores = _close_lids(head, scores, shape)
    pose = {name: torch.from_numpy(getattr(performance, name)).to(scores) for name in ("rotation", "neck")}
    translation = torch.from_numpy(performance.translation).to(scores)
    return {"shape": shape.expand(len(scores), -1), **head.arkit(scores), **pose, "translation": translation}


def _close_lids(head: Head, scores: Float[Tensor, "T 52"], shape: Float[Tensor, "1 300"]) -> Float[Tensor, "T 52"]:
    """Scores whose eyeBlink is rescaled so that 1 leaves the lids' landmarks at CLOSED, whatever else acts on them."""
    probe = torch.cat([torch.zeros(1, 52), torch.eye(52)]).to(scores)
    with torch.no_grad():
        points = head.landmarks(head(shape=shape, expr=head.arkit(probe)["expr"]))  # [53, 68, 3]
    out = scores.clone()
    for side, upper, lower in (("Left", [43, 44], [46, 47]), ("Right", [37, 38], [40, 41])):
        height = (points[:, upper] - points[:, lower]).mean(1)[:, 1]  # [53]; linear in the scores, as all expression
        effect = height[1:] - height[0]  # [52]
        column = ARKIT.index(f"eyeBlink{side}")
        others = scores.clone()
        others[:, column] = 0
        opening = (height[0] + others @ effect).clamp_min(CLOSED)  # [T] without the blink
        out[:, column] = scores[:, column] * ((opening - CLOSED) / -effect[column]).clamp(0, 1)
    return out
