"""One function, three backends: `reference` (plain torch), `cpu` (numba), `cuda` (gsplat).

All mean the same by their arguments and draw the same picture: gsplat's. A splat's alpha is its opacity times its
Gaussian, capped at 0.999 and skipped under 1/255; splats are taken front to back in order of (depth, index) until
the next one would bring the pixel's transmittance to 1e-4 or below.
"""

import math
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from numbers import Integral
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sa0lib.lanes import threads_for_kernels

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
BACKENDS = ("auto", "reference", "cpu", "cuda")


def rasterization(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "N D"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    backgrounds: Float[Tensor, "C D"] | None = None,
    render_mode: Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"] = "RGB",
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto",
) -> tuple[Float[Tensor, "C H W X"], Float[Tensor, "C H W 1"], dict]:
    """Draw N Gaussians as C cameras see them; arguments and meaning are gsplat's.

    means in metres; quats wxyz of any length; scales in metres (not their logarithms); opacities in [0, 1] (not
    logits); colors of any number of channels; viewmats world to camera, OpenCV axes; Ks in pixels, no skew; planes in
    metres; eps2d is added to the projected variances, square pixels; backgrounds default to black.
    backend "auto" takes `cuda` for CUDA tensors and `cpu` for the rest.

    Returns the image (X = D; with "+D" one more channel, the accumulated depth, with "+ED" the expected one, over
    black; "D" and "ED" are that channel alone), the accumulated alpha, and meta, where every entry but radii has a
    gradient:
    means2d [C, N, 2] px; depths [C, N] m; conics [C, N, 3] = xx, xy, yy of the inverse of covars2d_blurred;
    covars2d [C, N, 3] = xx, xy, yy in px^2 of J W Sigma W^T J^T, before the blur: the one in Eq. (4);
    covars2d_blurred, the same after it; radii [C, N, 2] int px, 0 for Gaussians that are not drawn.
    Gaussians outside near_plane..far_plane have the unit circle for covariance; `cuda` leaves all that it does not draw
    at zero and at the unit circle: mask with radii > 0.

    Gradients reach means, quats, scales, opacities, colors and backgrounds, not the cameras.
    Raises ValueError for wrong shapes, dtypes or devices, for values that are not finite or out of range, and for
    cameras that ask for a gradient; RuntimeError for "cuda" without CUDA. The message names the argument.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, not {backend!r}")
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {RENDER_MODES}, not {render_mode!r}")
    if backend == "auto":
        backend = "cuda" if means.is_cuda else "cpu"
    if not (isinstance(width, Integral) and isinstance(height, Integral) and width > 0 and height > 0):
        raise ValueError(f"width and height must be positive integers, not {width!r} and {height!r}")
    if not 0 < near_plane < far_plane:
        raise ValueError(f"planes must satisfy 0 < near_plane < far_plane, not {near_plane} and {far_plane}")
    if not 0 <= eps2d < float("inf"):
        raise ValueError(f"eps2d must be a finite number of square pixels, at least zero, not {eps2d}")
    tensors = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "viewmats": viewmats, "Ks": Ks,
    }  # fmt: skip
    if backgrounds is not None:
        tensors["backgrounds"] = backgrounds
    options = width, height, near_plane, far_plane, eps2d, backgrounds, render_mode
    with threads_for_kernels() if backend == "cpu" else nullcontext():
        check_tensors(tensors, torch.float32 if backend in ("cpu", "cuda") else means.dtype, backend)
        if backend == "cuda":
            from sa0lib.rasterize.cuda import rasterization as draw
        else:
            module = import_module(f"sa0lib.rasterize.{backend}")
            draw = partial(project_and_composite, module)
        return draw(means, quats, scales, opacities, colors, viewmats, Ks, *options)


def project_and_composite(
    module, means, quats, scales, opacities, colors, viewmats, Ks, width, height,
    near, far, eps2d, backgrounds, render_mode,
):  # fmt: skip
    """`rasterization` with the `project` and the `composite` of one of our modules."""
    cameras = viewmats.shape[0]
    p = module.project(means, quats, scales, opacities, viewmats, Ks, width, height, near, far, eps2d)
    if backgrounds is None:
        backgrounds = colors.new_zeros(cameras, colors.shape[-1])
    channels = colors.expand(cameras, -1, -1)  # [C, N, D]
    if render_mode in ("D", "ED"):
        channels, backgrounds = p.depths[..., None], colors.new_zeros(cameras, 1)
    elif render_mode != "RGB":
        channels = torch.cat([channels, p.depths[..., None]], -1)  # [C, N, D + 1]
        backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(cameras, 1)], -1)
    image, alpha = module.composite(p, opacities, channels, backgrounds, width, height)
    if render_mode.endswith("ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha.clamp_min(1e-10)], -1)
    meta = {"means2d": p.means2d, "depths": p.depths, "covars2d": p.covars2d}
    meta["radii"] = p.reach.ceil().clamp_max(2**30).int()
    later = {"conics": lambda: conics(p.factors), "covars2d_blurred": lambda: blurred(p.covars2d, eps2d)}
    return image, alpha, Meta(meta, later)


class Meta(dict):
    """gsplat's meta. Two entries that few callers want would cost each picture time: they are made when asked for."""

    def __init__(self, entries, later):
        super().__init__(entries)
        self.later = later

    def __missing__(self, name):
        if name not in self.later:
            raise KeyError(name)
        self[name] = self.later[name]()
        return self[name]


def conics(factors: Float[Tensor, "C N 3"]) -> Float[Tensor, "C N 3"]:
    """xx, xy, yy of a (dx + k dy)^2 + q dy^2."""
    a, k, q = factors.unbind(-1)
    return torch.stack([a, a * k, a * k * k + q], -1)


def blurred(covars2d: Float[Tensor, "C N 3"], eps2d: float) -> Float[Tensor, "C N 3"]:
    """The screen blur added to xx and yy."""
    return covars2d + eps2d * covars2d.new_tensor([1.0, 0.0, 1.0])


def check_tensors(tensors: dict[str, Tensor], dtype: torch.dtype, backend: str) -> None:
    """Raise ValueError naming the first argument of `rasterization` that cannot be drawn, and why."""
    N, C, D = tensors["means"].shape[:1], tensors["viewmats"].shape[:1], tensors["colors"].shape[-1:]
    shapes = {
        "means": (*N, 3), "quats": (*N, 4), "scales": (*N, 3), "opacities": N, "colors": (*N, *D),
        "viewmats": (*C, 4, 4), "Ks": (*C, 3, 3), "backgrounds": (*C, *D),
    }  # fmt: skip
    letters = {
        "means": "[N, 3]", "quats": "[N, 4]", "scales": "[N, 3]", "opacities": "[N]", "colors": "[N, D]",
        "viewmats": "[C, 4, 4]", "Ks": "[C, 3, 3]", "backgrounds": "[C, D]",
    }  # fmt: skip
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != tuple(shapes[name]) or tensor.dim() != letters[name].count(",") + 1:
            counts = f"N = {N[0] if N else '?'}, C = {C[0] if C else '?'}, D = {D[0] if D else '?'}"
            raise ValueError(f"{name} must be {letters[name]} with {counts}, not {list(tensor.shape)}")
        if tensor.device != tensors["means"].device:
            raise ValueError(f"{name} is on {tensor.device}, means on {tensors['means'].device}: move one of them")
        if tensor.dtype != dtype or not dtype.is_floating_point:
            raise ValueError(f'{name} is {tensor.dtype}; backend="{backend}" wants {dtype} here')
    if D[0] == 0:
        raise ValueError("colors has no channels")
    for name in ("viewmats", "Ks"):
        if tensors[name].requires_grad:
            raise ValueError(f"{name} requires a gradient, and cameras get none here: pass {name}.detach()")
    with torch.no_grad():  # everything in one tensor: on a GPU each number that is looked at waits for the device
        numbers = [tensor.sum() for tensor in tensors.values()]
        some = N[0] > 0
        numbers += [*tensors["opacities"].aminmax(), tensors["scales"].amin()] if some else 3 * numbers[:1]
        *sums, low, high, smallest, skew = torch.stack([*numbers, tensors["Ks"][:, 0, 1].square().sum()]).tolist()
    if not all(map(math.isfinite, sums)):
        check_finite(tensors)
    if some and (low < 0 or high > 1):
        raise ValueError(f"opacities must lie in [0, 1], not {low:.4g} to {high:.4g}: logits need a sigmoid")
    if some and smallest < 0:
        raise ValueError("scales has negative entries: log-scales need an exp")
    if skew:
        raise ValueError("Ks has skew (a non-zero entry at row 0, column 1), which no backend draws")


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Raise ValueError naming the tensor with NaN or infinite entries, and the first place of one."""
    for name, tensor in tensors.items():
        bad = ~tensor.isfinite()
        if bad.any():
            place = bad.nonzero()[0].tolist()
            raise ValueError(f"{name} holds {int(bad.sum())} NaN or infinite entries, the first at {place}")
