"""NeRSemble's colour correction: a polynomial of linear RGB per camera (Cheung et al. 2004).

A camera's calibration is a 3 x T matrix. Each pixel is decoded from sRGB to linear light, expanded to T monomials in
R, G and B, multiplied by the matrix, and encoded again. T says which monomials; their order is that of the Python
package `colour-science`, with which the dataset's own tools apply the matrices. That order is taken from the package's
published source, not from the data.
"""

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

_LINEAR, _PAIRS, _SQUARES, _CUBES = "R G B", "RG RB GB", "RR GG BB", "RRR GGG BBB"
_SECOND = f"{_LINEAR} {_PAIRS} {_SQUARES}"
_THIRD = f"{_SECOND} RGB RRG GGB BBR"
_MIXED = f"{_THIRD} RRB GGR BBG {_CUBES}"
_FOURTH = "RRRG RRRB GGGR GGGB BBBR BBBG RRGB RGGB RGBB RRGG RRBB GGBB RRRR GGGG BBBB"
MONOMIALS = {
    len(text.split()): text.split()
    for text in (
        _LINEAR,
        f"{_LINEAR} 1",
        f"{_LINEAR} RGB 1",
        f"{_LINEAR} {_PAIRS} 1",
        f"{_LINEAR} {_PAIRS} RGB 1",
        f"{_SECOND} 1",
        f"{_SECOND} RGB 1",
        f"{_SECOND} RGB {_CUBES} 1",
        f"{_THIRD} {_CUBES}",
        f"{_THIRD} {_CUBES} 1",
        _MIXED,
        f"{_MIXED} 1",
        f"{_MIXED} RRGB RGGB RGBB",
        f"{_MIXED} {_FOURTH} 1",
    )
}


def expand(rgb: Float[np.ndarray, "... 3"], terms: int) -> Float[np.ndarray, "... T"]:
    """The `terms` monomials of linear RGB. Raises ValueError for a count that the method does not define."""
    if terms not in MONOMIALS:
        raise ValueError(f"a colour polynomial of {terms} terms is not defined; it may have {sorted(MONOMIALS)}")
    channel = {"R": rgb[..., 0], "G": rgb[..., 1], "B": rgb[..., 2], "1": np.ones_like(rgb[..., 0])}
    columns = []
    for monomial in MONOMIALS[terms]:
        column = channel[monomial[0]]
        for factor in monomial[1:]:
            column = column * channel[factor]
        columns.append(column)
    return np.stack(columns, -1)


def decode(encoded: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((np.maximum(encoded, 0) + 0.055) / 1.055) ** 2.4)


def encode(linear: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Linear light to sRGB, the inverse of `decode`."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


@cache
def _table() -> Float[np.ndarray, "256"]:
    return decode(np.arange(256) / 255).astype(np.float32)


def correct(picture: UInt8[np.ndarray, "H W 3"], matrix: Float[np.ndarray, "3 T"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture with its camera's correction applied. Raises ValueError if `matrix` has an undefined width."""
    linear = expand(_table()[picture], matrix.shape[1]) @ matrix.T.astype(np.float32)  # [H, W, 3]
    return np.rint(255 * np.clip(encode(linear), 0, 1)).astype(np.uint8)
