"""What a person stands in: light from all around, a lamp, a background, and cameras."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter, zoom

from sa0lib.camera import Camera, intrinsics, orbit

Place = Literal["anywhere", "capture hall", "outdoors", "lectern", "home"]

ENV = (32, 64)  # rows (up to down) and columns of a light map
FACE = np.array([0.0, 0.0, 1.0])  # the way a head at rest looks
SIGHT = 0.38  # metres that a picture's side spans at the head: the tracker's crop, 1.65 heads
AIM = (0.0, -0.015, 0.0)  # where cameras point, metres


@dataclass(frozen=True)
class Stage:
    """Light and surroundings of one clip. Radiance is linear RGB; exposed so that white facing the light is near 1."""

    env: Float[ndarray, "32 64 3"]  # light from everywhere; see `directions` for which way a texel lies
    lamp: tuple[float, float, float]  # where the lamp's centre hangs, metres
    lamp_size: float  # its side, metres
    lamp_radiance: tuple[float, float, float]
    backdrop: Float[ndarray, "N N 3"]  # what is behind the person, out of focus; linear, exposed
    exposure: float  # factor on the picture before the tone curve


def directions() -> Float[ndarray, "32 64 3"]:
    """Unit direction of each texel of a light map, in the layout that Mitsuba's `envmap` reads (+y up).

    Its first and last row are the poles themselves; columns go once around.
    """
    v, u = np.meshgrid(np.arange(ENV[0]) / (ENV[0] - 1), (np.arange(ENV[1]) + 0.5) / ENV[1], indexing="ij")
    theta, phi = np.pi * v, 2 * np.pi * u
    return np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), -np.sin(theta) * np.cos(phi)], -1)


def _glow(toward: ndarray, width: float) -> Float[ndarray, "32 64 1"]:
    """A soft round light: 1 in the middle, `width` radians wide."""
    toward = toward / np.linalg.norm(toward)
    return np.exp((directions() @ toward - 1) / width**2)[..., None]


def _tint(rng: np.random.Generator, spread: float) -> Float[ndarray, "3"]:
    """A light's colour between warm (positive) and cold, with a trace of green or magenta; mean 1."""
    warm, green = spread * rng.standard_normal(), 0.2 * spread * rng.standard_normal()
    color = np.exp([warm, green, -warm])
    return color / color.mean()


def _toward(rng: np.random.Generator, azimuth: float, elevation: tuple[float, float]) -> Float[ndarray, "3"]:
    a, e = np.radians(rng.uniform(-azimuth, azimuth)), np.radians(rng.uniform(*elevation))
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def _clouds(rng: np.random.Generator, size: int, cells: int, sigma: float) -> Float[ndarray, "N N 3"]:
    """Smooth random colour, about 0 to 1: what a room is when it is far out of focus."""
    coarse = rng.uniform(0.05, 1, (cells, cells, 1)) * rng.uniform(0.75, 1.25, (cells, cells, 3))
    picture = zoom(coarse, (size / cells, size / cells, 1), order=1, mode="nearest", grid_mode=True)
    return np.clip(gaussian_filter(picture, (sigma * size, sigma * size, 0), mode="nearest"), 0, 1)


def _bokeh(rng: np.random.Generator, size: int, count: int) -> Float[ndarray, "N N 3"]:
    """Distant lamps as round blurred discs."""
    y, x = np.mgrid[0:size, 0:size] / size
    picture = np.zeros((size, size, 3))
    for _ in range(count):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 0.7), rng.uniform(0.02, 0.07)
        disc = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) / 0.004))
        picture += disc[..., None] * rng.uniform(0.1, 0.7) * _tint(rng, 0.35)
    return picture


def _backdrop(rng: np.random.Generator, place: Place, size: int) -> Float[ndarray, "N N 3"]:
    y = (np.arange(size) + 0.5)[:, None, None] / size
    x = (np.arange(size) + 0.5)[None, :, None] / size
    if place == "capture hall":
        return np.broadcast_to(0.32 + 0.10 * np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) * 3), (size, size, 3)).copy()
    if place == "outdoors":
        sky = rng.uniform(0.5, 1.0) * np.array([0.75, 0.88, 1.0])
        ground = rng.uniform(0.05, 0.35) * np.array([0.75, 0.9, 0.5]) * np.exp(0.2 * rng.standard_normal(3))
        edge = 1 / (1 + np.exp((y - rng.uniform(0.3, 0.7) - 0.05 * np.sin(x * rng.uniform(3, 9))) / 0.05))
        return np.clip(edge * sky + (1 - edge) * ground + 0.25 * (_clouds(rng, size, 9, 0.03) - 0.5), 0.01, 1)
    if place == "lectern":
        hue = np.array([[0.05, 0.09, 0.30], [0.30, 0.05, 0.06], [0.28, 0.17, 0.08], [0.10, 0.11, 0.12]])
        folds = 1 + 0.35 * np.sin(2 * np.pi * (x * rng.uniform(5, 11) + 0.3 * np.sin(7 * x + rng.uniform(0, 6))))
        picture = hue[rng.integers(len(hue))] * folds * np.ones_like(y)
        pole = rng.uniform(0.05, 0.25) if rng.uniform() < 0.5 else rng.uniform(0.75, 0.95)
        flag = np.exp(-(((x - pole) / 0.07) ** 4)) * (0.6 + 0.4 * np.sin(40 * (x - pole)))
        return np.clip(picture + flag * rng.uniform(0.1, 0.6, 3), 0.005, 1)
    picture = 0.6 * _clouds(rng, size, int(rng.integers(3, 9)), rng.uniform(0.01, 0.08)) * rng.uniform(0.25, 1.2)
    picture *= _tint(rng, 0.15)
    if rng.uniform() < 0.3:
        picture += _bokeh(rng, size, int(rng.integers(3, 14)))
    return np.clip(picture, 0.01, 1)


def sample_stage(rng: np.random.Generator, place: Place, size: int) -> Stage:
    """Light and backdrop of one clip at a place, the backdrop `size` texels square.

    "anywhere" and "home": rooms with a window or lamps. "capture hall": even white light. "outdoors": sun and sky,
    hard and coloured. "lectern": key, fill and rim light before a curtain.
    """
    up = directions()[..., 1:2]
    if place == "capture hall":
        env = 0.9 + 0.35 * sum(_glow(_toward(rng, 80, (-20, 60)), 0.35) for _ in range(8)) * np.ones(3)
        lamp, lamp_size, power = np.array([0.0, 0.5, 1.6]), 0.8, 1.5 * np.ones(3)
    elif place == "outdoors":
        sky, ground = np.array([0.55, 0.75, 1.0]) * rng.uniform(0.4, 1.0), np.array([0.5, 0.45, 0.35])
        env = np.where(up > 0, sky * (0.6 + 0.4 * up), ground * rng.uniform(0.15, 0.5))
        env = env + rng.uniform(4, 14) * _glow(_toward(rng, 110, (15, 65)), rng.uniform(0.12, 0.3)) * [1, 0.93, 0.8]
        lamp, lamp_size, power = np.array([0.0, 1.0, 1.5]), 0.5, rng.uniform(0, 1) * _tint(rng, 0.3)
    elif place == "lectern":
        side = rng.choice([-1.0, 1.0])
        env = (0.12 + 0.10 * up) * _tint(rng, 0.1) + 0.8 * _glow(np.array([-side, 0.1, 0.8]), 0.5)
        env = env + rng.uniform(1, 4) * _glow(np.array([-0.7 * side, 0.7, -0.9]), 0.25) * _tint(rng, 0.1)
        lamp, lamp_size, power = np.array([0.7 * side, 0.75, 1.2]), 0.5, rng.uniform(9, 14) * _tint(rng, 0.1)
    else:
        env = rng.uniform(0.08, 0.4) * (1 + 0.4 * up) * _tint(rng, 0.12)
        for _ in range(rng.integers(1, 4)):
            env = env + rng.uniform(1, 6) * _glow(_toward(rng, 130, (-5, 60)), rng.uniform(0.2, 0.5)) * _tint(rng, 0.15)
        lamp = 1.4 * _toward(rng, 50, (5, 45))
        lamp_size, power = rng.uniform(0.3, 0.9), rng.uniform(0, 6) * _tint(rng, 0.12)
    env = np.broadcast_to(env, (*ENV, 3))
    gain = rng.uniform(1.0, 1.4) / _irradiance(env, lamp, lamp_size, power)
    return Stage(
        env=np.ascontiguousarray(env, np.float32),
        lamp=tuple(lamp.tolist()),
        lamp_size=float(lamp_size),
        lamp_radiance=tuple(np.asarray(power, float).tolist()),
        backdrop=np.ascontiguousarray(_backdrop(rng, place, size), np.float32),
        exposure=float(gain),
    )


def _irradiance(env: ndarray, lamp: ndarray, lamp_size: float, power: ndarray) -> float:
    """Light on a forehead (between straight ahead and up), over pi: what white there would reflect."""
    normal = FACE + [0, 0.35, 0]
    normal = normal / np.linalg.norm(normal)
    toward = directions()
    solid = np.sqrt(np.clip(1 - toward[..., 1:2] ** 2, 0, 1)) * (np.pi / (ENV[0] - 1)) * (2 * np.pi / ENV[1])
    total = (env * np.maximum(toward @ normal, 0)[..., None] * solid).sum((0, 1)).mean()
    distance = np.linalg.norm(lamp)
    # The lamp faces the head; a disc of its area, seen from its axis, has this closed form.
    total += power.mean() * lamp_size**2 / (distance**2 + lamp_size**2 / np.pi) * max(lamp @ normal / distance, 0)
    return total / np.pi


def free_camera(rng: np.random.Generator, place: Place, size: int) -> Camera:
    """The one camera of a clip: a lens of any length, at whatever distance makes the head fill the frame alike."""
    near, far = {"outdoors": (0.45, 1.0), "lectern": (2.0, 6.0)}.get(place, (0.8, 2.5))
    distance = float(np.exp(rng.uniform(np.log(near), np.log(far))))
    azimuth, elevation = np.radians([9, 5]) * rng.standard_normal(2)
    return _camera(azimuth, float(np.clip(elevation, -0.3, 0.3)), distance, rng.uniform(0.94, 1.08), size)


def capture_ring(size: int, count: int = 16) -> list[Camera]:
    """Synchronised cameras around a face as in a capture hall: a quarter turn, up and down in turn, 1 metre away.

    Index count // 2 looks from straight ahead.
    """
    cameras = []
    for i in range(count):
        azimuth = np.radians(46.0) * (2 * i / count - 1) * (1 if count > 1 else 0)
        elevation = np.radians(0.0 if i == count // 2 else 14.0 if i % 2 else -8.0)
        cameras.append(_camera(azimuth, elevation, 1.0, 1.0, size))
    return cameras


def _camera(azimuth: float, elevation: float, distance: float, zoom: float, size: int) -> Camera:
    viewmat = orbit(float(azimuth), float(elevation), distance, torch.tensor(AIM))
    return Camera(intrinsics(size * distance / SIGHT * float(zoom), size, size), viewmat, size, size)
