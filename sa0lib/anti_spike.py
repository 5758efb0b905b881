"""The three brakes on needle-shaped Gaussians of Sec. 3.3 and App. A.4 (the third, the warm-up, is in refine.py)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def log_aspect_2d(covars2d: Float[Tensor, "... 3"], eps: float = 1e-12) -> Float[Tensor, "..."]:
    """Half the log ratio of the eigenvalues of the projected covariance [[a, b], [b, c]]: log of the axes' ratio.

    `covars2d` holds (a, b, c) in px^2 as the projection leaves them, before the rasterizer's screen blur: the
    blur would hide exactly the thin footprints that the penalty is after.
    """
    a, b, c = covars2d.unbind(-1)
    mean = 0.5 * (a + c)
    # sqrt has no gradient at an exact circle: the floor keeps it finite and is far below one part in a million
    radius = (0.25 * (a - c) ** 2 + b * b + eps * mean.detach() ** 2 + 1e-30).sqrt()
    largest = mean + radius
    # det / largest instead of mean - radius: no cancellation for needles
    smallest = (a * c - b * b).clamp_min(0.0) / largest
    floor = 1e-8 * largest.detach()  # edge-on discs have rank one; their aspect saturates at 1e4
    return 0.5 * (largest.log() - torch.maximum(smallest, floor).log())


def aspect_loss(covars2d: Float[Tensor, "N 3"], visible: Bool[Tensor, " N"], tau: float) -> Float[Tensor, ""]:
    """Eq. (4): mean over the visible Gaussians of ReLU(log screen-space aspect - tau)."""
    excess = torch.relu(log_aspect_2d(covars2d) - tau)  # [N]
    return (excess * visible).sum() / visible.sum().clamp_min(1)


@torch.no_grad()
def clamp_log_scales_(
    log_scales: Float[Tensor, "N 3"], lowest: float, highest: float, max_spread: float
) -> Float[Tensor, "N 3"]:
    """App. A.4's hard clamp, in place: absolute range first, then the deviation from each Gaussian's mean.

    Clamping the deviation to +-max_spread / 2 bounds the spread max - min by max_spread, so the world-space aspect
    ratio by exp(max_spread). The range still holds afterwards: the mean lies in it, and the deviation only shrinks.
    """
    log_scales.clamp_(lowest, highest)
    mean = log_scales.mean(-1, keepdim=True)  # [N, 1]
    return log_scales.sub_(mean).clamp_(-0.5 * max_spread, 0.5 * max_spread).add_(mean)


def max_aspect_ratio(log_scales: Float[Tensor, "N 3"]) -> float:
    """Largest world-space axis ratio of any Gaussian (s_f is isotropic, so local and world ratios are equal)."""
    return float((log_scales.amax(-1) - log_scales.amin(-1)).max().exp())
