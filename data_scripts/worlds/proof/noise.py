"""How noisy is a picture of a path tracer?"""

import numpy as np
from jaxtyping import Bool, Float, UInt8


def picture_noise(
    picture: UInt8[np.ndarray, "H W 3"] | Float[np.ndarray, "H W 3"],
    reference: UInt8[np.ndarray, "H W 3"] | Float[np.ndarray, "H W 3"],
    skin: Bool[np.ndarray, "H W"],
) -> float:
    """RMS difference on skin from a picture of many more samples, in steps of an 8-bit picture (1/255).

    Both as displayed: uint8, or float in [0, 1], which is better, since rounding alone makes 0.4 of two equal pictures'
    difference. Give the two different seeds, or what they share is not counted.
    Raises ValueError if the sizes differ or no pixel is skin.
    """
    if picture.shape != reference.shape or skin.shape != picture.shape[:2]:
        raise ValueError(f"sizes differ: picture {picture.shape}, reference {reference.shape}, skin {skin.shape}")
    if not skin.any():
        raise ValueError("no pixel is skin: nothing to measure")
    a, b = (image[skin] / (1.0 if image.dtype == np.uint8 else 1 / 255) for image in (picture, reference))  # [P, 3]
    return float(np.sqrt(np.mean((a - b) ** 2)))
