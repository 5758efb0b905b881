"""From UV texels to the mesh: which triangle a texel lies in, and where in it (the paper's set Omega).

One rasterizer serves two purposes. On a chart it turns every texel centre into (face, barycentric): the
places where Gaussians live. On projected vertices it is a z-buffer, for pictures and for finding what a pixel
shows.
"""

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@numba.njit(cache=True, inline="always")
def _edge(ax, ay, bx, by, px, py):
    """Twice the signed area of (a, b, p), rounded alike for (a, b) and (b, a): from the smaller end."""
    if ax < bx or (ax == bx and ay <= by):
        return (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    return -((ax - bx) * (py - by) - (ay - by) * (px - bx))


@numba.njit(cache=True, inline="always")
def _owns(dx, dy):
    """Whether a triangle owns the points exactly on its edge of direction (dx, dy).

    The two triangles beside an edge walk it in opposite directions, so exactly one of them owns it.
    """
    return dy < 0.0 or (dy == 0.0 and dx > 0.0)


@numba.njit(cache=True)
def _rasterize(xy, z, faces, width, height, face_out, bary_out, depth_out):
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if not (z[i] > 0.0 and z[j] > 0.0 and z[k] > 0.0):
            continue  # behind the camera, or not a number
        ax, ay, bx, by, cx, cy = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1], xy[k, 0], xy[k, 1]
        area = _edge(ax, ay, bx, by, cx, cy)
        if not (area != 0.0 and np.isfinite(area)):
            continue
        flip = 1.0 if area > 0.0 else -1.0  # both windings are drawn
        own_a = _owns(flip * (cx - bx), flip * (cy - by))
        own_b = _owns(flip * (ax - cx), flip * (ay - cy))
        own_c = _owns(flip * (bx - ax), flip * (by - ay))
        # Pixel j has its centre at j + 0.5: the first and last centres inside the bounding box. Clamped as
        # floats, so that a vertex far outside the picture cannot overflow an integer.
        col0 = int(max(np.ceil(min(ax, bx, cx) - 0.5), 0.0))
        col1 = int(min(np.floor(max(ax, bx, cx) - 0.5), width - 1.0))
        row0 = int(max(np.ceil(min(ay, by, cy) - 0.5), 0.0))
        row1 = int(min(np.floor(max(ay, by, cy) - 0.5), height - 1.0))
        for row in range(row0, row1 + 1):
            py = row + 0.5
            for col in range(col0, col1 + 1):
                px = col + 0.5
                wa = flip * _edge(bx, by, cx, cy, px, py)
                wb = flip * _edge(cx, cy, ax, ay, px, py)
                wc = flip * _edge(ax, ay, bx, by, px, py)
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                if (wa == 0.0 and not own_a) or (wb == 0.0 and not own_b) or (wc == 0.0 and not own_c):
                    continue
                # Linear on the screen are value / depth and 1 / depth: their ratio is the surface's value.
                wa, wb, wc = wa / z[i], wb / z[j], wc / z[k]
                total = wa + wb + wc
                wa, wb, wc = wa / total, wb / total, wc / total
                depth = wa * z[i] + wb * z[j] + wc * z[k]
                if depth < depth_out[row, col]:
                    depth_out[row, col] = depth
                    face_out[row, col] = f
                    bary_out[row, col, 0], bary_out[row, col, 1], bary_out[row, col, 2] = wa, wb, wc


def rasterize_triangles(
    xy: Float[np.ndarray, "V 2"],
    depth: Float[np.ndarray, " V"],
    faces: Int[np.ndarray, "F 3"],
    width: int,
    height: int,
) -> tuple[Int[np.ndarray, "H W"], Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
    """Z-buffered triangles sampled at pixel centres (j + 0.5, i + 0.5).

    `xy` are pixels, `depth` is the distance along the viewing axis (any positive constant for a flat chart).
    Returns the face of every pixel (int32, -1 where there is none), its barycentric weights on the surface
    (perspective-correct, float64, summing to 1) and its depth (infinite where there is none). Both windings
    are drawn; triangles with a vertex at depth <= 0, and triangles without area, are not. A centre exactly on
    a shared edge belongs to one side only; where triangles overlap at equal depth the first one stays.
    Raises ValueError when shapes or vertex numbers do not fit.
    """
    xy = np.ascontiguousarray(xy, np.float64)
    depth = np.ascontiguousarray(depth, np.float64)
    faces = np.ascontiguousarray(faces, np.int64)
    if xy.ndim != 2 or xy.shape[1] != 2 or depth.shape != xy.shape[:1]:
        raise ValueError(f"xy must be [V, 2] and depth [V], got {xy.shape} and {depth.shape}")
    _check_faces(faces, len(xy), "faces")
    face_out = np.full((height, width), -1, np.int32)
    bary_out = np.zeros((height, width, 3))
    depth_out = np.full((height, width), np.inf)
    _rasterize(xy, depth, faces, width, height, face_out, bary_out, depth_out)
    return face_out, bary_out, depth_out


def _check_faces(faces: np.ndarray, n: int, name: str) -> None:
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"{name} must be [F, 3], got {faces.shape}")
    if faces.size and not (faces.min() >= 0 and faces.max() < n):
        raise ValueError(f"{name} names vertices {faces.min()} to {faces.max()}, but there are only {n}")


TexelPairs = tuple[Bool[Tensor, "N N-1"], Bool[Tensor, "N-1 N"]]  # (texel, next column), (texel, next row)


@dataclass
class UVMap:
    """The valid texels of a chart in row-major order: texel g is where Gaussian g lives.

    Texel (row i, column j) has its centre at u = (j + 0.5) / size, v = 1 - (i + 0.5) / size.
    """

    size: int  # N: the chart is sampled at N x N texel centres
    face: Int[Tensor, " G"]  # the triangle it lies in: a row of the chart's `ft` and of the mesh's faces
    bary: Float[Tensor, "G 3"]  # where in that triangle, float32, sums to 1
    row: Int[Tensor, " G"]  # i, from the top
    col: Int[Tensor, " G"]  # j, from the left

    def __len__(self) -> int:
        return len(self.face)

    @property
    def valid(self) -> Bool[Tensor, "N N"]:
        """The mask of Omega."""
        mask = torch.zeros(self.size, self.size, dtype=torch.bool, device=self.row.device)
        mask[self.row, self.col] = True
        return mask

    def scatter(self, values: Float[Tensor, "G C"]) -> Float[Tensor, "N N C"]:
        """Per-texel values as an image, zero outside Omega; differentiable."""
        image = values.new_zeros(self.size, self.size, values.shape[-1])
        return image.index_put((self.row, self.col), values)

    def to(self, device: torch.device | str) -> "UVMap":
        """The same map with its tensors on `device`."""
        return UVMap(self.size, *(t.to(device) for t in (self.face, self.bary, self.row, self.col)))


def build_uv_map(vt: Float[np.ndarray, "Nvt 2"], ft: Int[np.ndarray, "F 3"], size: int = 256) -> UVMap:
    """Samples a chart (corners `vt`, triangles `ft`: arrays or CPU tensors) at its size x size texel centres.

    Raises ValueError when the chart leaves the unit square or no texel centre lies inside a triangle.
    """
    vt, ft = np.asarray(vt, np.float64), np.asarray(ft)
    if vt.ndim != 2 or vt.shape[1] != 2 or not (vt.min() >= 0.0 and vt.max() <= 1.0):
        raise ValueError(f"vt must be [Nvt, 2] inside the unit square: {vt.shape}, {vt.min()} to {vt.max()}")
    xy = np.stack([vt[:, 0] * size, (1.0 - vt[:, 1]) * size], axis=1)  # [Nvt, 2] texels, v up
    face, bary, _ = rasterize_triangles(xy, np.ones(len(xy)), ft, size, size)
    row, col = np.nonzero(face >= 0)
    if len(row) == 0:
        raise ValueError(f"no texel centre at {size} x {size} lies inside any of the {len(ft)} triangles")
    return UVMap(
        size=size,
        face=torch.from_numpy(face[row, col].astype(np.int64)),
        bary=torch.from_numpy(bary[row, col].astype(np.float32)),
        row=torch.from_numpy(row),
        col=torch.from_numpy(col),
    )


def texel_pairs(valid: Bool[Tensor, "N N"]) -> TexelPairs:
    """Where a texel and the next one in its row, or in its column, are both valid."""
    return valid[:, :-1] & valid[:, 1:], valid[:-1] & valid[1:]


def seam_pairs(
    uv_map: UVMap, vt: Float[np.ndarray, "Nvt 2"], ft: Int[np.ndarray, "F 3"], faces: Int[np.ndarray, "F 3"]
) -> TexelPairs:
    """The pairs of neighbouring valid texels that are no neighbours on the mesh.

    Such a pair lies on both sides of a seam or of an opening: the straight line between the two centres leaves the
    chart, and the two triangles (`faces`: rows of the mesh beside those of `ft`) have no vertex in common. Vertices
    alone would not do, because where texels are larger than triangles most neighbours share none; the line alone
    would not do either, because at the end of a cut both sides still meet. Arrays or CPU tensors.
    """
    N, ft = uv_map.size, np.asarray(ft)
    xy = np.asarray(vt, np.float64) * (N, -N) + (0, N)  # [Nvt, 2] texels
    edges, uses = np.unique(np.sort(ft[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)), axis=0, return_counts=True)
    outline = xy[edges[uses == 1]]  # [E, 2, 2]
    corners = np.full((N, N, 3), -1)
    corners[uv_map.row.cpu(), uv_map.col.cpu()] = np.asarray(faces)[uv_map.face.cpu()]
    across = _unconnected(outline, corners)
    down = _unconnected(outline[..., ::-1], corners.transpose(1, 0, 2)).T
    return tuple(torch.from_numpy(pairs.copy()).to(uv_map.row.device) for pairs in (across, down))


def _unconnected(outline: Float[np.ndarray, "E 2 2"], corners: Int[np.ndarray, "N N 3"]) -> Bool[np.ndarray, "N N-1"]:
    """For texels and their right neighbours; `corners` are mesh vertices, -1 outside the chart."""
    N = len(corners)
    crossed = np.zeros((N, N + 1), bool)  # [i, j]: the outline crosses row i between the centres of j - 1 and j
    for edge in outline:
        (x0, y0), (x1, y1) = edge[edge[:, 1].argsort()]
        rows = np.arange(np.ceil(y0 - 0.5), np.ceil(y1 - 0.5), dtype=int)  # centres in [y0, y1)
        crossed[rows, np.floor(x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0) + 0.5).astype(int)] = True
    left, right = corners[:, :-1], corners[:, 1:]  # [N, N - 1, 3]
    meet = (left[..., :, None] == right[..., None, :]).any((-1, -2))
    return crossed[:, 1:N] & (left[..., 0] >= 0) & (right[..., 0] >= 0) & ~meet
