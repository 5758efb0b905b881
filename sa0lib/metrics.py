"""Image metrics: PSNR, SSIM and LPIPS of `[B, C, H, W]` images in [0, 1], one number an image.

Every function takes an optional `box`, one `x0 y0 x1 y1` in pixels an image, and then scores only what lies inside it.
"""

import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sa0lib.paths import ASSETS
from sa0lib.ssim_cpu import SSIM
from sa0lib.torchvision_cpu import declare_torchvision_operators

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels: the window of Wang et al. (2004)
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # the paper's stabilisers for data in [0, 1]


def psnr(
    image: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], box: Float[Tensor, "B 4"] | None = None
) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio in dB, -10 log10(mean squared error); infinite for equal images.

    Raises ValueError if the shapes differ or a box holds no pixel.
    """
    pairs = _pairs(image, target, box)
    return torch.cat([-10 * (a - b).square().mean((1, 2, 3)).log10() for a, b in pairs])


def ssim(
    image: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], box: Float[Tensor, "B 4"] | None = None
) -> Float[Tensor, " B"]:
    """Structural similarity (Wang et al. 2004), 1 for equal images; differentiable.

    Gaussian window of 11 pixels, sigma 1.5, reflected at the border, averaged over pixels and channels: the numbers of
    `torchmetrics`. Written out because refinement calls it ten thousand times: for float32 on the CPU, with a gradient
    to the first image only, as kernels; otherwise as two matrix products, still twice as fast as convolutions.

    Raises ValueError if the shapes differ, or an image or a box is under 6 pixels (there is nothing to reflect).
    """
    return torch.cat([_ssim(a, b) for a, b in _pairs(image, target, box, smallest=SSIM_WINDOW // 2 + 1)])


def _ssim(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    rows, columns = (blur_matrix(n, a.dtype, a.device) for n in a.shape[-2:])  # [H, H], [W, W]
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and not b.requires_grad:
        return SSIM.apply(a, b, rows, columns, SSIM_C1, SSIM_C2)
    mean_a, mean_b, aa, bb, ab = rows @ torch.stack([a, b, a * a, b * b, a * b]) @ columns.T  # [B, C, H, W] each
    variance = (aa - mean_a**2).clamp_min(0) + (bb - mean_b**2).clamp_min(0)
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    return (luminance * (2 * covariance + SSIM_C2) / (variance + SSIM_C2)).mean((1, 2, 3))


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve gradients too
def blur_matrix(n: int, dtype: torch.dtype, device: torch.device, sigma: float = SSIM_SIGMA) -> Float[Tensor, "n n"]:
    """The Gaussian window along an axis of n pixels as a matrix; reflected pixels are folded back into it.

    It reaches 3.5 sigma (pixels) to both sides, the 11 pixels of `SSIM_WINDOW` for its sigma; n must exceed that reach.
    """
    half = window_reach(sigma)
    offsets = torch.arange(-half, half + 1)  # [2 half + 1]
    window = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    source = torch.arange(n)[:, None] + offsets  # [n, 2 half + 1]
    source = n - 1 - (n - 1 - source.abs()).abs()  # -1 -> 1 and n -> n - 2
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix.scatter_add_(1, source, (window / window.sum()).expand(n, -1).contiguous())
    return matrix.to(device, dtype)


def window_reach(sigma: float) -> int:
    """How many pixels a Gaussian window extends to each side: 3.5 sigma, rounded."""
    return int(3.5 * sigma + 0.5)


def lpips(
    image: Float[Tensor, "B 3 H W"],
    target: Float[Tensor, "B 3 H W"],
    box: Float[Tensor, "B 4"] | None = None,
    net: Literal["alex", "vgg"] = "alex",
) -> Float[Tensor, " B"]:
    """Learned perceptual distance (Zhang et al. 2018, version 0.1), 0 for equal images; differentiable.

    The networks want [-1, 1]; the images given here, in [0, 1], are mapped to it. Papers that feed [0, 1] directly get
    lower numbers, and AlexNet and VGG differ: say which when numbers are compared.

    Raises:
        ValueError: shapes differ, images are not RGB, or an image or a box is under 32 pixels.
        FileNotFoundError: the weights were not obtained (the message has the command).
    """
    if image.shape[1] != 3:
        raise ValueError(f"LPIPS compares RGB images [B, 3, H, W], not {list(image.shape)}")
    model = lpips_network(net, ASSETS).to(image.device)
    pairs = _pairs(image, target, box, smallest=32)
    return torch.cat([model(a.float(), b.float(), normalize=True).flatten() for a, b in pairs])


@lru_cache(maxsize=4)
def lpips_network(net: str, assets: Path) -> torch.nn.Module:
    """The `lpips` package's network with the backbone weights of `data_scripts/get_assets.py`, frozen."""
    path = assets / f"lpips_{net}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `python -m data_scripts.get_assets --only lpips`")
    declare_torchvision_operators()
    import lpips as package  # imports torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks torchvision for "no weights" in the old words
        model = package.LPIPS(net=net, pnet_rand=True, verbose=False).requires_grad_(False)
    try:
        with np.load(path) as weights:
            for name, parameter in model.net.named_parameters():  # "slice2.3.weight": torchvision's "features.3.weight"
                parameter.data = torch.from_numpy(weights["features." + name.split(".", 1)[1]])
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and run get_assets again") from error
    return model


def _pairs(image: Tensor, target: Tensor, box: Tensor | None, smallest: int = 1) -> list[tuple[Tensor, Tensor]]:
    """The whole batch as one pair, or one cropped pair an image; boxes are rounded and cut at the border."""
    if image.shape != target.shape or image.dim() != 4:
        raise ValueError(f"two batches [B, C, H, W] of one shape are compared, not {image.shape} and {target.shape}")
    pairs = [(image, target)]
    if box is not None:
        if tuple(box.shape) != (len(image), 4):
            raise ValueError(f"one box x0 y0 x1 y1 an image is wanted, [{len(image)}, 4], not {list(box.shape)}")
        edges = box.round().long().clamp_min(0).tolist()
        crops = [
            (slice(i, i + 1), slice(None), slice(y0, y1), slice(x0, x1)) for i, (x0, y0, x1, y1) in enumerate(edges)
        ]
        pairs = [(image[crop], target[crop]) for crop in crops]
    for a, _ in pairs:
        if min(a.shape[-2:]) < smallest:
            raise ValueError(
                f"an image or its box is {a.shape[-2]} x {a.shape[-1]} pixels; at least {smallest} are needed"
            )
    return pairs
