"""The CPU backend: numba kernels wrapped as two differentiable functions, projection and compositing.

As many threads as `torch.get_num_threads()`; images and gradients are bit-equal for any number of them. Kernels are
compiled once per machine and kept on disk.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sa0lib.lanes import kernel_threads, threads_for_kernels
from sa0lib.rasterize.composite import MOST_CHANNELS, composite_kernel
from sa0lib.rasterize.composite_gradient import composite_gradient, sum_columns
from sa0lib.rasterize.projection import project_gradient, project_kernel
from sa0lib.rasterize.reference import Projection
from sa0lib.rasterize.tiles import bin_splats, depth_order, pack, sum_entries


class Project(torch.autograd.Function):
    """`project_kernel` for C cameras, with its gradient to means, quats and scales."""

    @staticmethod
    def forward(ctx, means, quats, scales, log_reach, viewmats, Ks, size, planes, eps2d):
        C, N = viewmats.shape[0], means.shape[0]
        shapes = (C, N, 2), (C, N), (C, N, 3), (C, N, 3), (C, N, 2)
        outputs = [torch.empty(shape) for shape in shapes]
        gaussians = [t.detach().contiguous().numpy() for t in (means, quats, scales)]
        ctx.save_for_backward(means, quats, scales)  # so that changing them in place before backward is an error
        ctx.cameras = list(zip(*(t.double().contiguous().numpy() for t in (viewmats, Ks)), strict=True))
        ctx.screen = np.float64(size), np.float64(planes), np.float32(eps2d)
        with kernel_threads(project_kernel) as workers:
            for c, camera in enumerate(ctx.cameras):
                parts = [output[c].numpy() for output in outputs]
                project_kernel(*gaussians, log_reach.numpy(), *camera, *ctx.screen, workers, *parts)
        ctx.mark_non_differentiable(outputs[4])
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    @threads_for_kernels()
    def backward(ctx, g_means2d, g_depths, g_covars2d, g_factors, _):
        gaussians = [t.detach().contiguous().numpy() for t in ctx.saved_tensors]
        gradients = [torch.zeros(array.shape) for array in gaussians]
        into = [g.numpy() for g in gradients]
        count, cameras = len(gaussians[0]), len(ctx.cameras)
        g_means2d = torch.zeros(cameras, count, 2) if g_means2d is None else g_means2d
        g_factors = torch.zeros(cameras, count, 3) if g_factors is None else g_factors
        g_depths = torch.empty(cameras, 0) if g_depths is None else g_depths
        g_covars2d = torch.empty(cameras, 0, 3) if g_covars2d is None else g_covars2d
        with kernel_threads(project_gradient) as workers:
            for c, camera in enumerate(ctx.cameras):
                parts = [g[c].contiguous().numpy() for g in (g_means2d, g_depths, g_covars2d, g_factors)]
                project_gradient(*gaussians, *camera, *ctx.screen, workers, *parts, *into)
        return *gradients, None, None, None, None, None, None


@dataclass
class Lists:
    """What compositing for one camera leaves for its gradient."""

    splats: np.ndarray  # [N, 16+] from `pack`
    background: np.ndarray  # [P]
    bins: tuple[np.ndarray, ...]  # offsets, entries, first of `bin_splats`
    remaining: np.ndarray  # [H, W] final transmittance
    last: np.ndarray  # [H, W] place in the tile's list of the last splat that met the pixel open


def whole_lines(rows: int, columns: int) -> np.ndarray:
    """An array [rows, columns rounded up to 16] whose rows fill whole cache lines (torch aligns them, numpy not)."""
    return torch.empty(rows, (columns + 15) // 16 * 16).numpy()


class Composite(torch.autograd.Function):
    """Sort, bin and composite the splats of C cameras, with gradients to everything but depths and extents."""

    @staticmethod
    def forward(ctx, means2d, factors, opacities, colors, backgrounds, depths, reach, log_reach, width, height):
        cameras, count, channels = colors.shape
        padded = channels + -channels % 4
        image, alpha = torch.empty(cameras, height, width, channels), torch.empty(cameras, height, width)
        ctx.save_for_backward(opacities)
        ctx.lists = []
        with kernel_threads(depth_order, pack, bin_splats, composite_kernel) as workers:
            for c in range(cameras):
                extents = reach[c].numpy()
                order = depth_order(depths[c].detach().numpy().view(np.uint32), extents)
                splats = whole_lines(count, 7 + padded)
                color = colors[c].detach().contiguous().numpy()
                across = np.empty((count, 2), np.int32)
                where = means2d[c].detach().numpy(), factors[c].detach().numpy(), extents
                met = pack(*where, log_reach.numpy(), color, width, splats, across)
                background = np.zeros(padded, np.float32)
                background[:channels] = backgrounds[c].detach().numpy()
                bins = bin_splats(order, splats, across, met, width, height, workers)
                remaining, last = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
                planes = image[c].numpy(), alpha[c].numpy(), remaining, last
                composite_kernel(splats, *bins[:2], background, workers, *planes)
                ctx.lists.append(Lists(splats, background, bins, remaining, last))
        return image, alpha[..., None]

    @staticmethod
    @once_differentiable
    @threads_for_kernels()
    def backward(ctx, g_image, g_alpha):
        opacities = ctx.saved_tensors[0].detach().contiguous().numpy()
        cameras, channels, count = g_image.shape[0], g_image.shape[3], len(opacities)
        g_means2d, g_factors = torch.empty(cameras, count, 2), torch.empty(cameras, count, 3)
        g_opacities, g_colors = torch.zeros(count), torch.empty(cameras, count, channels)
        g_backgrounds = torch.zeros(cameras, channels) if ctx.needs_input_grad[4] else None
        with kernel_threads(composite_gradient, sum_entries) as workers:
            for c, lists in enumerate(ctx.lists):
                *where, first = lists.bins
                sums = whole_lines(first[-1], sum_columns(len(lists.background)))
                lost = lists.remaining, lists.last
                given = g_image[c].contiguous().numpy(), g_alpha[c, ..., 0].contiguous().numpy()
                composite_gradient(lists.splats, *where, lists.background, workers, *lost, *given, sums)
                into = g_means2d[c].numpy(), g_factors[c].numpy(), g_opacities.numpy(), g_colors[c].numpy()
                sum_entries(lists.splats, opacities, first, sums, *into)
                if g_backgrounds is not None:  # einsum adds in one fixed order
                    g_backgrounds[c] = torch.from_numpy(np.einsum("hw,hwd->d", lists.remaining, given[0]))
        return g_means2d, g_factors, g_opacities, g_colors, g_backgrounds, None, None, None, None, None


@dataclass
class CPUProjection(Projection):
    log_reach: Float[Tensor, " N"]  # 2 ln(255 opacity): at this squared distance in standard deviations alpha is 1/255


def project(means, quats, scales, opacities, viewmats, Ks, width, height, near, far, eps2d) -> CPUProjection:
    """N Gaussians as C cameras see them (float32; arguments as in `rasterization`)."""
    log_reach = 2 * torch.log(255 * opacities.detach())
    screen = (width, height), (near, far), eps2d
    return CPUProjection(*Project.apply(means, quats, scales, log_reach, viewmats, Ks, *screen), log_reach)


def composite(
    projection: CPUProjection,
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "C N D"],
    backgrounds: Float[Tensor, "C D"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"]]:
    """Colour, with the background behind it, and accumulated alpha; more channels than a kernel holds go in turns."""
    p, last = projection, (projection.depths, projection.reach, projection.log_reach, width, height)
    turns = zip(colors.split(MOST_CHANNELS, -1), backgrounds.split(MOST_CHANNELS, -1), strict=True)
    parts = [Composite.apply(p.means2d, p.factors, opacities, c, b, *last) for c, b in turns]
    return (parts[0][0] if len(parts) == 1 else torch.cat([image for image, _ in parts], -1)), parts[0][1]
