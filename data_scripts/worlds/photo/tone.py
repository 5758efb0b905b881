"""From a renderer's linear light to the bytes of a picture."""

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

SHOULDER = 0.7  # linear value from where bright light is compressed instead of clipped


def srgb(linear: Float[ndarray, "H W 3"]) -> Float[ndarray, "H W 3"]:
    """The sRGB curve over a soft shoulder: values above SHOULDER approach 1 instead of running into it."""
    x = np.maximum(linear, 0)
    over = (x - SHOULDER) / (1 - SHOULDER)
    x = np.where(x > SHOULDER, SHOULDER + (1 - SHOULDER) * over / (1 + np.maximum(over, 0)), x)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055)


def to_bytes(image: Float[ndarray, "..."]) -> UInt8[ndarray, "..."]:
    """0..1 to 0..255, rounded."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
