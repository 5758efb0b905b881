"""Which frames a training step sees: the K-source sampler and the Phase-2 mixer of App. A.2.

What the paper leaves open, and what is done here:

- The weights and the normalisation of "a weighted combination of camera-direction and expression-code dissimilarity":
  each of the two is divided by its largest value among the candidates (or by a floor, below which differences are the
  tracker's noise) and both weigh 1. Only then does one temperature mean the same for a clip with little movement and
  for one with much: at 0.5 the most dissimilar frame is taken up to e^4 times as often as a copy. That is a gentle
  lean, and a deviation: "near-uniform", then "concentrated on maximum-dissimilarity candidates" (App. A.2) fit division
  by the mean better, which would concentrate on a few frames (chapter 10 measures both). Weights of 2 come closer.
- What an expression code is: `expr` alone, as the words say. The jaw, a joint, does not count.
- What a direction is relative to: the skull (`Clip.direction`), so that it does not matter whether a tracker put the
  head's rotation into the pose or into the camera.
- Whether K is drawn for each batch or each sample: for each batch, so that a batch is one tensor; Phase 2 is described
  in batches. The target is uniform.
- Whether source[0] follows the softmax in Phase 2 too: yes, among the candidates of its draw, with the temperature
  falling over the first quarter of that phase.
- What "K+1 distinct time-shifted views from the available cameras" are: K + 1 different instants, each seen by any of
  its cameras. "Same identity" is the same sequence.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sa0lib.datasets.clip import Clip

Mode = Literal["clip", "cross_camera", "cross_time"]

DIRECTION_FLOOR = 0.05  # radians, about 3 degrees
EXPRESSION_FLOOR = 0.5  # Euclidean; two independent draws of 100 codes with unit variance are about 14 apart


@dataclass(frozen=True)
class SamplerConfig:
    """One training phase as its sampler sees it. Raises ValueError for values out of range."""

    steps: int  # of the phase
    cross_camera: float | None = None  # share of cross-camera batches, the rest is cross-time; None: frames of a clip
    max_sources: int = 4  # K is uniform in 1..max_sources
    direction_weight: float = 1.0  # of the camera-direction dissimilarity; the paper does not give it
    expression_weight: float = 1.0  # of the expression-code dissimilarity; nor this
    temperature_start: float = 2.0  # near-uniform
    temperature_end: float = 0.5  # leaning to the most dissimilar
    anneal_share: float = 0.25  # of the steps, in which the temperature falls linearly from start to end

    def __post_init__(self):
        if self.steps < 1 or self.max_sources < 1:
            raise ValueError(f"steps and max_sources must be at least 1, not {self.steps} and {self.max_sources}")
        if self.cross_camera is not None and not 0 <= self.cross_camera <= 1:
            raise ValueError(f"cross_camera is a share in 0..1, not {self.cross_camera}")
        if not (0 <= self.direction_weight < float("inf") and 0 <= self.expression_weight < float("inf")):
            raise ValueError(f"direction_weight and expression_weight must be finite and not negative: {self}")
        if not (min(self.temperature_start, self.temperature_end) > 0 and 0 <= self.anneal_share <= 1):
            raise ValueError(f"temperatures must be positive and anneal_share in 0..1: {self}")


def phase_1(steps: int) -> SamplerConfig:
    """Phase 1: K sources and a target among the frames of a clip."""
    return SamplerConfig(steps)


def phase_2(steps: int) -> SamplerConfig:
    """Phase 2: three quarters of the batches across cameras, one quarter across time."""
    return SamplerConfig(steps, cross_camera=0.75)


@dataclass(frozen=True)
class Recipe:
    """What the samples of one batch have in common."""

    k: int  # sources
    mode: Mode
    temperature: float  # of the softmax for source[0]


def temperature(step: int, config: SamplerConfig) -> float:
    """Piecewise linear: from start to end over the first `anneal_share` of the steps, then constant."""
    done = min(step / max(config.anneal_share * config.steps, 1), 1)
    return config.temperature_start + done * (config.temperature_end - config.temperature_start)


def draw_recipe(step: int, config: SamplerConfig, rng: np.random.Generator) -> Recipe:
    """K uniform in 1..max_sources; in Phase 2 cross-camera with its share, else cross-time."""
    k = int(rng.integers(1, config.max_sources + 1))
    mode: Mode = "clip"
    if config.cross_camera is not None:
        mode = "cross_camera" if rng.random() < config.cross_camera else "cross_time"
    return Recipe(k, mode, temperature(step, config))


def dissimilarity(
    clip: Clip, target: int, pool: Int64[np.ndarray, " n"], config: SamplerConfig
) -> Float64[Tensor, " n"]:
    """How unlike the target each frame of `pool` is: 0 for a copy, up to the sum of the two weights.

    The angle between viewing directions in the skull's frame, and the Euclidean distance of expression codes; each
    divided by its largest value in the pool.
    """
    a, b = clip.direction[target].double().expand(len(pool), 3), clip.direction[pool].double()
    angle = torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))  # [n] radians, exact near 0 too
    expression = (clip.params["expr"][pool] - clip.params["expr"][target]).double().norm(dim=-1)  # [n]
    angle = angle / angle.max().clamp_min(DIRECTION_FLOOR)
    expression = expression / expression.max().clamp_min(EXPRESSION_FLOOR)
    return config.direction_weight * angle + config.expression_weight * expression


def source_probabilities(
    clip: Clip, target: int, pool: Int64[np.ndarray, " n"], recipe: Recipe, config: SamplerConfig
) -> Float64[np.ndarray, " n"]:
    """Of each frame of `pool` to become source[0]: softmax(dissimilarity / temperature)."""
    return torch.softmax(dissimilarity(clip, target, pool, config) / recipe.temperature, 0).numpy()


def draw_frames(clip: Clip, recipe: Recipe, config: SamplerConfig, rng: np.random.Generator) -> tuple[int, list[int]]:
    """(target, K sources) as indices of the clip's frames, all different.

    Raises ValueError: the clip has too few frames, cameras or instants for the recipe.
    """
    draw = {"clip": _any_frames, "cross_camera": _cross_camera, "cross_time": _cross_time}[recipe.mode]
    return draw(clip, recipe, config, rng)


def _any_frames(clip, recipe, config, rng):
    frames = np.arange(len(clip))
    _require(clip, len(frames), recipe.k + 1, "frames")
    return _one_pool(clip, frames, recipe, config, rng)


def _cross_camera(clip, recipe, config, rng):
    instants, counts = np.unique(clip.timestep, return_counts=True)
    instants = instants[counts > recipe.k]
    _require(clip, counts.max(), recipe.k + 1, "cameras at one instant")
    frames = np.flatnonzero(clip.timestep == rng.choice(instants))
    return _one_pool(clip, frames, recipe, config, rng)


def _one_pool(clip, frames, recipe, config, rng):
    """Target uniform among `frames`, source[0] by the softmax among the others, the rest uniform."""
    target = int(rng.choice(frames))
    pool = frames[frames != target]
    first = int(rng.choice(pool, p=source_probabilities(clip, target, pool, recipe, config)))
    rest = rng.choice(pool[pool != first], recipe.k - 1, replace=False)
    return target, [first, *rest.tolist()]


def _cross_time(clip, recipe, config, rng):
    timestep, camera = clip.timestep.numpy(), clip.camera_index.numpy()
    if recipe.k == 1:  # monocular: same camera, different time
        cameras, counts = np.unique(camera, return_counts=True)
        _require(clip, counts.max(), 2, "instants of one camera")
        return _one_pool(clip, np.flatnonzero(camera == rng.choice(cameras[counts > 1])), recipe, config, rng)
    instants = np.unique(timestep)
    _require(clip, len(instants), recipe.k + 1, "instants")
    moment = rng.choice(instants)
    target = int(rng.choice(np.flatnonzero(timestep == moment)))
    pool = np.flatnonzero(timestep != moment)
    first = int(rng.choice(pool, p=source_probabilities(clip, target, pool, recipe, config)))
    others = instants[(instants != moment) & (instants != timestep[first])]
    rest = rng.choice(others, recipe.k - 1, replace=False)
    return target, [first, *(int(rng.choice(np.flatnonzero(timestep == t))) for t in rest)]


def _require(clip: Clip, found: int, needed: int, what: str) -> None:
    if found < needed:
        raise ValueError(
            f"{clip.origin}: {found} {what}, this draw needs {needed}; leave such sequences out with Collection.where"
        )
