"""Random fields in space, all with mean near 0 and spread near 1: no chart has a seam where they are evaluated.

One kind per family of people, so that the shifted test worlds differ from training ones in the pattern itself and
not only in its strength: `gradient` (soft clouds), `cellular` (patches with creases between them), `waves` (a sum of
plane waves, which repeats its one size of blob everywhere).
"""

from collections.abc import Callable

import numba
import numpy as np
from jaxtyping import Float
from numpy import ndarray

GRADIENT_SPREAD, CELL_MEAN, CELL_SPREAD = 0.270, 0.520, 0.172  # of the raw fields, measured over many cells
N_WAVES = 14

Noise = Callable[[Float[ndarray, "n 3"], float, int], Float[ndarray, " n"]]  # points, size of a blob, seed


@numba.njit(cache=True, inline="always")
def _hash(i, j, k, seed):
    """32 well-mixed bits for a lattice cell."""
    h = np.uint32(i) * np.uint32(0x8DA6B343) ^ np.uint32(j) * np.uint32(0xD8163841)
    h ^= np.uint32(k) * np.uint32(0xCB1AB31F) ^ np.uint32(seed) * np.uint32(0x9E3779B1)
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
    h = np.uint32((h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39))
    return np.uint32(h ^ (h >> np.uint32(15)))


@numba.njit(cache=True, inline="always")
def _byte(h, n):
    """Byte n of a hash, in 0..1."""
    return np.float32((h >> np.uint32(8 * n)) & np.uint32(255)) * np.float32(1 / 256)


@numba.njit(cache=True, inline="always")
def _slope(h, x, y, z):
    """Dot product with one of the twelve directions from a cube's centre to its edges."""
    which, one, two = h % np.uint32(3), (h >> np.uint32(8)) & np.uint32(1), (h >> np.uint32(9)) & np.uint32(1)
    a, b = (x, y) if which == 0 else ((x, z) if which == 1 else (y, z))
    return (a if one else -a) + (b if two else -b)


@numba.njit(cache=True, fastmath=True)
def _gradient(points, scale, seed, out):
    for n in range(len(points)):
        x, y, z = points[n, 0] * scale, points[n, 1] * scale, points[n, 2] * scale
        fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
        i, j, k = np.int32(fx), np.int32(fy), np.int32(fz)
        x, y, z = x - fx, y - fy, z - fz
        u = x * x * x * (x * (x * 6 - 15) + 10)
        v = y * y * y * (y * (y * 6 - 15) + 10)
        w = z * z * z * (z * (z * 6 - 15) + 10)
        total = np.float32(0)
        for c in range(8):
            di, dj, dk = c & 1, (c >> 1) & 1, c >> 2
            weight = (u if di else 1 - u) * (v if dj else 1 - v) * (w if dk else 1 - w)
            total += weight * _slope(_hash(i + di, j + dj, k + dk, seed), x - di, y - dj, z - dk)
        out[n] = total


@numba.njit(cache=True, fastmath=True)
def _cellular(points, scale, seed, out):
    for n in range(len(points)):
        x, y, z = points[n, 0] * scale, points[n, 1] * scale, points[n, 2] * scale
        i, j, k = np.int32(np.floor(x)), np.int32(np.floor(y)), np.int32(np.floor(z))
        nearest = np.float32(9)
        for di in range(-1, 2):
            for dj in range(-1, 2):
                for dk in range(-1, 2):
                    h = _hash(i + di, j + dj, k + dk, seed)
                    dx, dy, dz = i + di + _byte(h, 0) - x, j + dj + _byte(h, 1) - y, k + dk + _byte(h, 2) - z
                    nearest = min(nearest, dx * dx + dy * dy + dz * dz)
        out[n] = np.sqrt(nearest)


@numba.njit(cache=True, fastmath=True)
def _speckles(points, scale, seed, reach, out):
    for n in range(len(points)):
        x, y, z = points[n, 0] * scale, points[n, 1] * scale, points[n, 2] * scale
        i, j, k = np.int32(np.floor(x)), np.int32(np.floor(y)), np.int32(np.floor(z))
        strongest = np.float32(0)
        for di in range(-1, 2):
            for dj in range(-1, 2):
                for dk in range(-1, 2):
                    h = _hash(i + di, j + dj, k + dk, seed)
                    dx, dy, dz = i + di + _byte(h, 0) - x, j + dj + _byte(h, 1) - y, k + dk + _byte(h, 2) - z
                    strength = _byte(h, 3)
                    radius = reach * (np.float32(0.4) + np.float32(0.6) * strength)
                    fall = 1 - (dx * dx + dy * dy + dz * dz) / (radius * radius)
                    if fall > 0:
                        strongest = max(strongest, strength * fall)
        out[n] = strongest


def gradient(points: Float[ndarray, "n 3"], size: float, seed: int) -> Float[ndarray, " n"]:
    """Clouds of about `size` metres: a random slope at every lattice point, blended by quintics."""
    out = np.empty(len(points), np.float32)
    _gradient(np.ascontiguousarray(points, np.float32), np.float32(0.5 / size), seed & 0xFFFFFFFF, out)
    return out / np.float32(GRADIENT_SPREAD)


def cellular(points: Float[ndarray, "n 3"], size: float, seed: int) -> Float[ndarray, " n"]:
    """Patches of about `size` metres: high at the centre of each, with creases where two meet."""
    out = np.empty(len(points), np.float32)
    _cellular(np.ascontiguousarray(points, np.float32), np.float32(0.6 / size), seed & 0xFFFFFFFF, out)
    return (np.float32(CELL_MEAN) - out) / np.float32(CELL_SPREAD)


def waves(points: Float[ndarray, "n 3"], size: float, seed: int) -> Float[ndarray, " n"]:
    """A sum of plane waves in random directions whose half waves are about `size` metres long."""
    rng = np.random.default_rng(seed)
    up = (np.arange(N_WAVES) + rng.uniform(0, 1, N_WAVES)) / N_WAVES  # spread over the half sphere: no streaks
    around = np.arange(N_WAVES) * np.pi * (3 - np.sqrt(5)) + rng.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - up**2)
    direction = np.stack([flat * np.cos(around), up, flat * np.sin(around)], axis=1)
    direction *= (np.pi / size) * rng.uniform(0.6, 1.4, (N_WAVES, 1))
    phase = rng.uniform(0, 2 * np.pi, N_WAVES)
    out = np.zeros(len(points), np.float32)
    for k, p in zip(direction.astype(np.float32), phase.astype(np.float32), strict=True):
        out += np.cos(points @ k + p)
    return out * np.float32(np.sqrt(2 / N_WAVES))


def octaves(noise: Noise, points: Float[ndarray, "n 3"], size: float, seed: int, count: int) -> Float[ndarray, " n"]:
    """Sum of `count` fields, each half as large in pattern and 0.6 times as strong as the one before; spread 1."""
    strength = 0.6 ** np.arange(count)
    total = sum(
        np.float32(s) * noise(points, size / 2**n, seed + 7919 * n) for n, s in zip(range(count), strength, strict=True)
    )
    return total / np.float32(np.linalg.norm(strength))


def speckles(points: Float[ndarray, "n 3"], cell: float, seed: int, reach: float = 0.45) -> Float[ndarray, " n"]:
    """Round spots, one per cubic cell of `cell` metres, of random strength (their height, 0..1) and radius <= reach."""
    out = np.empty(len(points), np.float32)
    spots = np.ascontiguousarray(points, np.float32)
    _speckles(spots, np.float32(1 / cell), seed & 0xFFFFFFFF, np.float32(reach), out)
    return out
