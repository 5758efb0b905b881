"""The barycentric feature warp (App. A.1): from a source picture to the texels of the chart.

A texel knows its triangle and where in it it lies, so it has a place on the source's mesh; that place is projected
into the source picture, and feature and colour are read there.

The paper does not say what happens to texels that the source does not see: projected like the others, the back of the
head reads the face. Here such texels can be found and emptied; chapter 04 measures both.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from sa0lib.uv import UVMap

CELL = (
    3.0  # texels' mean spacing in the picture: cells of the z-buffer are this wide, so that none of a surface is empty
)
DEPTH_SLACK = 0.012  # metres that a texel may lie behind the nearest one of its cell; a nose stands out by twice that
FACING = 0.1  # cosine to the viewing ray from which on a surface counts as seen


def texel_points(
    uv_map: UVMap, vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]
) -> tuple[Float[Tensor, "B G 3"], Float[Tensor, "B G 3"]]:
    """Where the texels lie on these meshes (metres), and the unit normals of their triangles."""
    corners = vertices[:, faces[uv_map.face]]  # [B, G, 3, 3]
    points = (corners * uv_map.bary[..., None]).sum(2)
    a, b, c = corners.unbind(2)
    normal = torch.linalg.cross(b - a, c - a)
    return points, normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-20)


def project(
    points: Float[Tensor, "B G 3"], viewmat: Float[Tensor, "B 4 4"], K: Float[Tensor, "B 3 3"]
) -> tuple[Float[Tensor, "B G 2"], Float[Tensor, "B G"]]:
    """Pixels and depths (metres) of points. What lies behind the camera gets pixels far outside of any picture."""
    seen = points @ viewmat[:, :3, :3].mT + viewmat[:, None, :3, 3]  # [B, G, 3]
    depth = seen[..., 2]
    xy = (seen @ K.mT)[..., :2] / depth[..., None].clamp_min(1e-6)
    return torch.where(depth[..., None] > 0, xy, -1e6), depth


@torch.no_grad()
def visible(
    points: Float[Tensor, "B G 3"],
    normals: Float[Tensor, "B G 3"],
    viewmat: Float[Tensor, "B 4 4"],
    K: Float[Tensor, "B 3 3"],
    size: tuple[int, int],
) -> Bool[Tensor, "B G"]:
    """Which texels a camera of `size` (height, width) sees: those that face it, inside the picture, nothing in front.

    The texels themselves are the z-buffer, in cells wide enough that a surface leaves none of them empty: one scatter
    on any device, instead of a rasterizer of triangles for each source.
    """
    xy, depth = project(points, viewmat, K)
    ray = points - _center(viewmat)[:, None]
    facing = -(normals * ray).sum(-1) / ray.norm(dim=-1).clamp_min(1e-6) > FACING  # [B, G]
    height, width = size
    inside = ((xy >= 0) & (xy < xy.new_tensor([width, height]))).all(-1) & (depth > 0)
    spread = (xy.amax(1) - xy.amin(1)).clamp(1, max(size)).prod(-1)  # [B] px^2: what the head covers
    cell = CELL * (spread / points.shape[1]).sqrt().clamp_min(0.25)[:, None]  # [B, 1] px
    columns, rows = (math.ceil(side / (0.25 * CELL)) for side in (width, height))  # of the smallest cells
    column = (xy[..., 0] / cell).long().clamp(0, columns - 1)
    row = (xy[..., 1] / cell).long().clamp(0, rows - 1)
    place = row * columns + column  # [B, G]
    nearest = depth.new_full((len(points), columns * rows), torch.inf)
    shown = torch.where(inside & facing, depth, torch.inf)
    nearest.scatter_reduce_(1, place, shown, "amin")
    return inside & facing & (depth <= nearest.gather(1, place) + DEPTH_SLACK)


def warp(
    uv_map: UVMap,
    image: Float[Tensor, "B C H W"],
    xy: Float[Tensor, "B G 2"],
    size: tuple[int, int],
) -> Float[Tensor, "B C N N"]:
    """Bilinear samples of a map at the texels' pixels, on the chart, zero outside Omega and outside the picture.

    `xy` are pixels of a picture of `size` (height, width); the map may be of another resolution.
    """
    scale = xy.new_tensor([2 / size[1], 2 / size[0]])
    read = grid_sample(image, (xy * scale - 1)[:, None], mode="bilinear", align_corners=False)  # [B, C, 1, G]
    return on_chart(uv_map, read[:, :, 0])


def on_chart(uv_map: UVMap, values: Float[Tensor, "B C G"]) -> Float[Tensor, "B C N N"]:
    """Values of the texels as maps, zero outside Omega."""
    place = (uv_map.row * uv_map.size + uv_map.col).expand_as(values)
    chart = values.new_zeros(*values.shape[:2], uv_map.size**2).scatter(2, place, values)
    return chart.unflatten(2, (uv_map.size, uv_map.size))


def _center(viewmat: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B 3"]:
    """The camera's place in the world, metres."""
    return -(viewmat[:, :3, :3].mT @ viewmat[:, :3, 3:])[..., 0]
