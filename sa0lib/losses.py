"""Losses between pictures: the image terms of Eq. (2) in their App. A.2 forms, and those of refinement, Sec. 3.3."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa0lib.metrics import SSIM_C1, SSIM_C2, blur_matrix, ssim, window_reach

MS_SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0)  # pixels, App. A.2
BOX_DILATION = 1.65  # App. A.2: of the sides of the face box


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


def l1(image: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """L_1 of App. A.2, ||image - target||_1 / (H W): three times the mean over pixels and channels."""
    expect_shape("target", target, tuple(image.shape))
    return (image - target).abs().sum(1).mean()


def ms_ssim(image: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """MS-SSIM of App. A.2 at full resolution, in [0, 1], 1 for equal images: with windows of `MS_SIGMAS`,

        mean over pixels and channels of luminance(sigma = 8) * product over sigma of contrast-structure(sigma).

    This is the form of Zhao et al. (2017), every exponent 1; the five sigmas are theirs. Wang et al. (2003) halve the
    image instead. Windows reach 3.5 sigma, 57 pixels at most, and are reflected at the border. Where the images are
    anticorrelated at some scale its factor counts as 0: otherwise two negative factors would make a likeness.

    Raises ValueError if the shapes differ or a side is under 29 pixels (there is nothing to reflect).
    """
    smallest = window_reach(max(MS_SIGMAS)) + 1
    if image.shape != target.shape or image.dim() != 4 or min(image.shape[-2:]) < smallest:
        shapes = f"{list(image.shape)} and {list(target.shape)}"
        raise ValueError(f"two batches [B, C, H, W] of one shape, at least {smallest} pixels a side, not {shapes}")
    with torch.autocast(image.device.type, enabled=False):  # variances are differences of nearly equal numbers
        a, b = at_least_float32(image), at_least_float32(target)
        squares, product, result = a * a + b * b, a * b, 1.0
        for sigma in MS_SIGMAS:
            rows, columns = (blur_matrix(n, a.dtype, a.device, sigma) for n in a.shape[-2:])  # [H, H], [W, W]
            mean_a, mean_b, mean_squares, mean_product = (rows @ (x @ columns.T) for x in (a, b, squares, product))
            means = mean_a**2 + mean_b**2
            variances = mean_squares - means  # of both images, added; rounding is far below the stabiliser
            covariance = mean_product - mean_a * mean_b
            result = result * ((2 * covariance + SSIM_C2) / (variances + SSIM_C2)).clamp_min(0)
        luminance = (2 * mean_a * mean_b + SSIM_C1) / (means + SSIM_C1)  # of the last sigma, the largest
        return (luminance * result).mean((1, 2, 3))


def box_l1(
    image: Float[Tensor, "B 3 H W"], target: Float[Tensor, "B 3 H W"], face_box: Float[Tensor, "B 4"]
) -> Float[Tensor, ""]:
    """L_box of App. A.2: `l1` over each image's own dilated face box; an image whose box misses it counts as 0."""
    expect_shape("target", target, tuple(image.shape))
    mask = box_mask(face_box, *image.shape[-2:])
    error = ((image - target).abs().sum(1) * mask).sum((1, 2))  # [B]
    return (error / mask.sum((1, 2)).clamp_min(1)).mean()


def box_mask(
    face_box: Float[Tensor, "B 4"], height: int, width: int, dilation: float = BOX_DILATION
) -> Bool[Tensor, "B H W"]:
    """The pixels whose centres lie in the box (x0 y0 x1 y1, pixels) after its sides grew `dilation`-fold."""
    expect_shape("face_box", face_box, (None, 4))
    center, half = (face_box[:, :2] + face_box[:, 2:]) / 2, (face_box[:, 2:] - face_box[:, :2]) * dilation / 2
    x, y = (torch.arange(n, device=face_box.device) + 0.5 for n in (width, height))
    low, high = (center - half)[..., None], (center + half)[..., None]  # [B, 2, 1]
    columns, rows = (low[:, 0] <= x) & (x < high[:, 0]), (low[:, 1] <= y) & (y < high[:, 1])  # [B, W], [B, H]
    return rows[:, :, None] & columns[:, None, :]


def expect_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raises ValueError unless the tensor has this shape; None stands for any size."""
    if tensor.dim() != len(shape) or any(want not in (None, n) for n, want in zip(tensor.shape, shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must be [{wanted}], not {list(tensor.shape)}")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision widened; float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
