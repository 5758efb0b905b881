"""The reference backend: Gaussian splatting written out in plain torch, for reading and for testing the others.

Any dtype (float64 too), any number of channels, gradients by autograd. Dense: every pixel of a block meets every
Gaussian that reaches the block. Slow, and meant to be.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sa0lib.rotation import quaternion_to_matrix

ALPHA_MIN = 1 / 255  # fainter contributions are skipped
ALPHA_MAX = 0.999  # stronger ones are capped, which stops their gradient
CLOSED = 1e-4  # a pixel takes no splat that would bring its transmittance to this or below
BLOCK = 16  # pixels, both ways, evaluated at once


@dataclass
class Projection:
    """What C cameras see of N Gaussians; all but `reach` carry gradients."""

    means2d: Float[Tensor, "C N 2"]  # centres, pixels
    depths: Float[Tensor, "C N"]  # along the viewing axis
    covars2d: Float[Tensor, "C N 3"]  # xx, xy, yy in square pixels BEFORE the blur; 1, 0, 1 outside near..far
    factors: Float[Tensor, "C N 3"]  # a, k, q of the inverse AFTER the blur: a (dx + k dy)^2 + q dy^2
    reach: Float[Tensor, "C N 2"]  # half extents of the alpha >= 1/255 ellipse, pixels; 0 where nothing shows


def project(means, quats, scales, opacities, viewmats, Ks, width, height, near, far, eps2d) -> Projection:
    """Sigma_2D = J W R S S R^T W^T J^T (App. A.4, standard 3DGS), plus eps2d on the diagonal (the screen blur).

    The slopes x/z, y/z in the Jacobian J are clamped 0.3 of half the field of view beyond the image, as in gsplat.
    """
    M = quaternion_to_matrix(quats) * scales[:, None, :]  # [N, 3, 3]
    W = viewmats[:, None, :3, :3]  # [C, 1, 3, 3]
    points = (W @ means[:, :, None])[..., 0] + viewmats[:, None, :3, 3]  # [C, N, 3]
    depths = points[..., 2]
    in_front = (depths >= near) & (depths <= far)
    points = torch.where(in_front[..., None], points, points.new_tensor([0.0, 0.0, 1.0]))
    x, y, z = points.unbind(-1)  # [C, N]
    fx, fy, cx, cy = (Ks[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))  # [C, 1]
    beyond_x, beyond_y = 0.15 * width / fx, 0.15 * height / fy
    slope_x = torch.clamp(x / z, -cx / fx - beyond_x, (width - cx) / fx + beyond_x)
    slope_y = torch.clamp(y / z, -cy / fy - beyond_y, (height - cy) / fy + beyond_y)
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], -1).unflatten(-1, (2, 3))
    JWM = J @ W @ M  # [C, N, 2, 3]
    covars = JWM @ JWM.mT  # [C, N, 2, 2]
    circle = torch.eye(2, dtype=covars.dtype, device=covars.device)
    covars = torch.where(in_front[..., None, None], covars, circle)
    xx, xy, yy = covars[..., 0, 0], covars[..., 0, 1], covars[..., 1, 1]
    blurred = covars + eps2d * circle
    det = torch.linalg.det(blurred)
    factors = torch.stack([blurred[..., 1, 1] / det, -xy / blurred[..., 1, 1], 1 / blurred[..., 1, 1]], -1)
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    with torch.no_grad():
        stretch = (2 * torch.log(255 * opacities)).clamp_min(0).sqrt()  # in standard deviations
        reach = 1.0001 * stretch[:, None] * blurred.diagonal(dim1=-2, dim2=-1).sqrt()  # [C, N, 2]
        size = reach.new_tensor([width, height])
        seen = in_front & (reach > 0).all(-1) & ((means2d + reach > 0) & (means2d - reach < size)).all(-1)
        reach = torch.where(seen[..., None], reach, torch.zeros_like(reach))
    return Projection(means2d, depths, torch.stack([xx, xy, yy], -1), factors, reach)


def composite_pixels(
    pixels: Float[Tensor, "P 2"],
    means2d: Float[Tensor, "N 2"],
    factors: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, "P D"], Float[Tensor, " P"]]:
    """C = sum_i c_i alpha_i prod_{j<i} (1 - alpha_j) over splats given front to back, and the final transmittance."""
    dx, dy = (pixels[:, None] - means2d).unbind(-1)  # [P, N]
    a, k, q = factors.unbind(-1)
    alpha = (opacities * torch.exp(-(a * (dx + k * dy) ** 2 + q * dy**2) / 2)).clamp(max=ALPHA_MAX)  # [P, N]
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    alpha = torch.where(torch.cumprod(1 - alpha, -1) > CLOSED, alpha, 0)  # once closed, a pixel stays closed
    after = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], -1)
    return (alpha * before) @ colors, after[:, -1]


def composite(
    projection: Projection,
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "C N D"],
    backgrounds: Float[Tensor, "C D"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"]]:
    """Colour, with the background behind it, and accumulated alpha.

    Splats are sorted by (depth rounded to float32, index): the order that every backend uses.
    """
    cameras, _, channels = colors.shape
    image = colors.new_zeros(cameras, height, width, channels)
    alpha = colors.new_zeros(cameras, height, width, 1)
    for c in range(cameras):
        means2d, reach = projection.means2d[c], projection.reach[c]
        order = projection.depths[c].detach().float().argsort(stable=True)
        image[c] = backgrounds[c]
        for top in range(0, height, BLOCK):
            for left in range(0, width, BLOCK):
                rows, cols = min(BLOCK, height - top), min(BLOCK, width - left)
                corner = means2d.new_tensor([left, top])
                far = corner + means2d.new_tensor([cols, rows])
                near = ((means2d + reach > corner) & (means2d - reach < far) & (reach > 0)).all(-1)  # [N]
                ids = order[near[order]]
                if len(ids) == 0:
                    continue
                y, x = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
                pixels = torch.stack([x, y], -1).flatten(0, 1).to(means2d) + corner + 0.5  # [P, 2]
                splats = means2d[ids], projection.factors[c, ids], opacities[ids], colors[c, ids]
                color, light = checkpoint(composite_pixels, pixels, *splats, use_reentrant=False)
                color = color + light[:, None] * backgrounds[c]
                image[c, top : top + rows, left : left + cols] = color.unflatten(0, (rows, cols))
                alpha[c, top : top + rows, left : left + cols] = (1 - light).unflatten(0, (rows, cols))[..., None]
    return image, alpha
