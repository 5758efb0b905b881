"""The square that follows the head, and its matte: refined on the picture, steadied in time, cut at the neck."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter1d, uniform_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull

from data_scripts.track.video import VideoInfo
from sa0lib.head import Head

SIZE = 512  # px, pictures of the dataset
MATTE = 192  # px, mattes are made at this size and enlarged: no finer than the network sees a head
HEAD_OF_FACE, SIDE_OF_HEAD = 1.3, 1.65  # head over face height; side of the square over head height
CROWN = 0.12  # the head's middle lies this share of the face height above the face's
CALM = 0.25  # s, standard deviation of the smoothing of the square's path
RADIUS, FLATNESS = 3, 1e-4  # px and squared intensity: window and regularisation of the guided filter
NECK_RAMP = 0.05  # of the picture: how softly the matte ends at the neck


def crop_path(face: Float[np.ndarray, "N 478 2"], info: VideoInfo) -> Float[np.ndarray, "N 3"]:
    """Square (x0, y0, side) in px for every frame, inside the picture, following the head smoothly.

    Frames without a face (NaN) are bridged.
    """
    low, high = face.min(1), face.max(1)  # [N, 2]
    height = (high - low).max(1)  # [N]
    path = np.stack([*((low + high) / 2).T, height], 1)  # [N, 3] middle and size
    path[:, 1] -= CROWN * height
    seen, index = ~np.isnan(height), np.arange(len(face))
    path = np.stack([np.interp(index, index[seen], column[seen]) for column in path.T], 1)
    path = gaussian_filter1d(path, CALM * info.fps, axis=0, mode="nearest")
    side = np.minimum(SIDE_OF_HEAD * HEAD_OF_FACE * path[:, 2], min(info.width, info.height))  # [N]
    corner = np.clip(path[:, :2] - side[:, None] / 2, 0, np.array([info.width, info.height]) - side[:, None])
    return np.concatenate([corner, side[:, None]], 1)


def crop(picture: UInt8[np.ndarray, "H W 3"], square: Float[np.ndarray, "3"], size: int = SIZE) -> Image.Image:
    """The square of a picture at `size` x `size` px (bicubic, antialiased where it shrinks)."""
    x0, y0, side = square
    return Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, (x0, y0, x0 + side, y0 + side))


def steady(
    mattes: UInt8[np.ndarray, "N h w"],
    windows: Float[np.ndarray, "N 3"],
    square: Float[np.ndarray, "3"],
    i: int,
    kept: Bool[np.ndarray, " N"],
) -> Float[np.ndarray, "M M"]:
    """Frame i's matte in its square, MATTE px wide, in [0, 1]: half of it and a quarter of each kept neighbour.

    `windows` says where each matte lies in its frame.
    """
    weights = {j: 1.0 if j == i else 0.5 for j in (i - 1, i, i + 1) if 0 <= j < len(kept) and kept[j]}
    x0, y0, side = square
    out = np.zeros((MATTE, MATTE), np.float32)
    for j, weight in weights.items():
        left, top, width = windows[j]
        scale = mattes.shape[1] / width  # matte px per px of the frame
        step = side / MATTE * scale
        offset = (np.array([y0 - top, x0 - left]) + 0.5 * side / MATTE) * scale - 0.5
        moved = affine_transform(mattes[j], (step, step), offset, (MATTE, MATTE), np.float32, order=1, mode="nearest")
        out += weight / sum(weights.values()) / 255 * moved
    return out


def guided_filter(guide: Float[np.ndarray, "H W 3"], matte: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The matte made locally affine in the picture's colours (He, Sun and Tang 2010, Eq. (19) to (21))."""

    def mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, (2 * RADIUS + 1,) * 2 + (0,) * (x.ndim - 2), mode="nearest")

    m, p = mean(guide), mean(matte)  # [H, W, 3], [H, W]
    products = (guide[..., :, None] * guide[..., None, :]).reshape(*matte.shape, 9)
    covariance = mean(products).reshape(*matte.shape, 3, 3) - m[..., :, None] * m[..., None, :]
    cross = mean(guide * matte[..., None]) - m * p[..., None]  # [H, W, 3]
    inverse = np.linalg.inv(covariance + FLATNESS * np.eye(3, dtype=np.float32))
    a = (inverse @ cross[..., None])[..., 0]
    b = p - (a * m).sum(-1)
    return np.clip((mean(a) * guide).sum(-1) + mean(b), 0, 1)


def neck_loop(head: Head) -> Int[np.ndarray, " K"]:
    """Vertices of the mesh's lowest open edge: the neck's. Raises ValueError for a closed mesh."""
    faces = head.faces.numpy()
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    edges = edges[count == 1]
    if not len(edges):
        raise ValueError(f"this {head.source} mesh is closed: it has no neck edge to end the matte at")
    n = len(head.v_template)
    graph = coo_matrix((np.ones(len(edges)), edges.T), (n, n))
    label = connected_components(graph, directed=False)[1]  # [V]
    loops = [np.flatnonzero(label == k) for k in np.unique(label[edges])]
    return min(loops, key=lambda loop: float(head.v_template[loop, 1].mean()))


def neck_cut(loop: Float[np.ndarray, "K 2"], down: Float[np.ndarray, "2"], size: int) -> Float[np.ndarray, "S S"]:
    """Mask in [0, 1] that ends softly at the visible rim of the neck's opening, and level with it on either side.

    Args:
        loop: the opening's vertices in px of a picture `size` px wide.
        down: the head's downward axis in the picture.
    """
    down = down / np.linalg.norm(down)
    turned = loop @ np.stack([[down[1], -down[0]], down], 1)  # [K, 2]: along the rim, and down
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    along = np.clip(x * down[1] - y * down[0], turned[:, 0].min(), turned[:, 0].max())  # [S, S]
    lines = ConvexHull(turned).equations  # a point p is inside where normal . p + offset <= 0 for every line
    lower = [-(offset + n0 * along) / n1 for n0, n1, offset in lines if n1 > 1e-6]
    end = np.min(lower, 0)  # [S, S] how far down the opening reaches
    t = np.clip((end - (x * down[0] + y * down[1])) / (NECK_RAMP * size), 0, 1)
    return t * t * (3 - 2 * t)


def enlarge(matte: UInt8[np.ndarray, "M M"], size: int = SIZE) -> UInt8[np.ndarray, "S S"]:
    """A matte at the size of its picture."""
    return np.asarray(Image.fromarray(matte).resize((size, size), Image.Resampling.BILINEAR))
