"""Splatting by 16-pixel tiles in plain PyTorch: what one would write without a kernel, as the yardstick of the table.

Binning is a few whole-array operations; then each tile composites its own list, all pixels and splats at once, and
autograd does the rest. All lists are gathered in one step: gathered tile by tile, the backward of every tile would
write a gradient as large as the scene.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from sa0lib.rasterize.reference import ALPHA_MAX, ALPHA_MIN, CLOSED, project

TILE = 16  # pixels, both ways


def rasterize_tiles(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "N D"],
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "H W D"], Float[Tensor, "H W 1"]]:
    """Colour over black and accumulated alpha for one camera; arguments, units and picture as in `rasterization`."""
    p = project(means, quats, scales, opacities, viewmat[None], K[None], width, height, 0.01, 1e10, 0.3)
    means2d, reach = p.means2d[0], p.reach[0]
    rows, columns = -(-height // TILE), -(-width // TILE)
    order = p.depths[0].detach().float().argsort(stable=True)
    order = order[reach[order, 0] > 0]
    splats, counts = tile_lists(means2d[order].detach(), reach[order], rows, columns)
    listed = order[splats]  # [M] the Gaussian of every list entry, tile by tile, front to back
    attributes = torch.cat([means2d, p.factors[0], opacities[:, None], colors], -1)  # [N, 6 + D]
    entries = attributes.index_select(0, listed).split(counts.tolist())  # one [n, 6 + D] a tile
    offsets = torch.arange(TILE, dtype=means.dtype) + 0.5
    tiles = []
    for tile, splats in enumerate(entries):
        x, y = offsets + tile % columns * TILE, offsets + tile // columns * TILE  # [16] pixel centres
        tiles.append(composite_tile(x, y, splats))
    image = torch.stack(tiles).unflatten(0, (rows, columns))  # [rows, columns, 16, 16, D + 1]
    image = image.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:height, :width]
    return image[..., :-1], image[..., -1:]


def tile_lists(
    means2d: Float[Tensor, "K 2"], reach: Float[Tensor, "K 2"], rows: int, columns: int
) -> tuple[Int[Tensor, " M"], Int[Tensor, " tiles"]]:
    """Which splats reach which tile: splat numbers tile after tile, ascending in each, and how many each tile has."""
    end = means2d.new_tensor([columns, rows])
    low = ((means2d - reach) / TILE).floor().clamp_min(0).minimum(end).long()  # [K, 2] first tile in x and y
    high = ((means2d + reach) / TILE).ceil().clamp_min(0).minimum(end).long()  # one past the last
    wide, tall = (high - low).unbind(-1)  # [K]
    each = wide * tall
    splat = torch.arange(len(each)).repeat_interleave(each)  # [M]
    nth = torch.arange(len(splat)) - (each.cumsum(0) - each)[splat]  # which of its splat's tiles, row by row
    tile = (low[splat, 1] + nth // wide[splat]) * columns + low[splat, 0] + nth % wide[splat]
    return splat[tile.argsort(stable=True)], tile.bincount(minlength=rows * columns)


def composite_tile(
    x: Float[Tensor, "16"], y: Float[Tensor, "16"], splats: Float[Tensor, "n 6+D"]
) -> Float[Tensor, "16 16 D+1"]:
    """Colour and alpha of one tile over its splats, front to back: centre x, y; a, k, q; opacity; colour.

    The exponent log(opacity) - (a (dx + k dy)^2 + q dy^2) / 2 is put together from one part per column and two per
    row, so that few operations touch every pixel and splat: such arrays, made and kept for the backward, are the cost.
    """
    (center_x, center_y, a, k, q, opacity), color = splats[:, :6].unbind(-1), splats[:, 6:]
    dx, dy = x[:, None] - center_x, y[:, None] - center_y  # [16, n]
    root = (a / 2).sqrt()
    u = (root * dx) + (root * k * dy)[:, None]  # [16, 16, n]: rows, columns, splats
    alpha = torch.exp((opacity.log() - q / 2 * dy**2)[:, None] - u.square())
    alpha = F.threshold(alpha.clamp(max=ALPHA_MAX), ALPHA_MIN, 0.0)  # zero where it is no larger
    after = torch.cumprod(1 - alpha, -1)
    before = F.pad(after[..., :-1], (1, 0), value=1.0)
    weights = torch.where(after > CLOSED, alpha * before, 0)  # the product only falls: once closed, closed for good
    return weights @ F.pad(color, (0, 1), value=1.0)  # the channel of ones sums the weights: alpha
