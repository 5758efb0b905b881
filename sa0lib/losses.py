"""The refinement objective of Sec. 3.3: photometric terms and the shared random background of App. A.4."""

from jaxtyping import Float
from torch import Tensor

from sa0lib.metrics import ssim


def composite(
    color: Float[Tensor, "B 3 H W"], alpha: Float[Tensor, "B 1 H W"], background: Float[Tensor, "3"]
) -> Float[Tensor, "B 3 H W"]:
    """Eq. (13), premultiplied: `color` already carries its alpha, so only the background is weighted.

    The rendered side passes the splatter's own alpha, the target side the matte. Eq. (13) as printed multiplies
    the render by the matte too; then a pixel outside the matte never sees the render and nothing pulls alpha
    to the matte there. The text of App. A.4 (iii) describes the form used here.
    """
    return color + (1.0 - alpha) * background.view(1, 3, 1, 1)


def photometric_loss(
    rendered: Float[Tensor, "B 3 H W"],
    target: Float[Tensor, "B 3 H W"],
    l1_weight: float,
    ssim_weight: float,
) -> Float[Tensor, ""]:
    """First two terms of Eq. (5): l1_weight * L1 + ssim_weight * (1 - SSIM), both means over pixels."""
    return l1_weight * (rendered - target).abs().mean() + ssim_weight * (1.0 - ssim(rendered, target)).mean()
