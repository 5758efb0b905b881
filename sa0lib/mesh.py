"""Plain pictures of a mesh: smooth-shaded, z-buffered, seen through a camera, or laid over a photograph."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from sa0lib.camera import Camera
from sa0lib.uv import rasterize_triangles

SKIN = (0.80, 0.62, 0.53)  # a mesh without colours of its own
# Where the lights stand, in camera axes (x right, y down, z forward), and how bright they are: a key light
# from the upper left, a weaker fill from the right, and some light from everywhere.
LIGHTS = (((-0.45, -0.60, -0.66), 0.62), ((0.75, -0.10, -0.65), 0.22))
Lights = Sequence[tuple[tuple[float, float, float], float]]
AMBIENT = 0.28


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals: the area-weighted mean over a vertex's faces, zero where none of them has area."""
    vertices = np.asarray(vertices, np.float64)
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]  # [F, 3]
    face_normals = np.cross(b - a, c - a)  # length = twice the area
    sums = [np.bincount(faces.ravel(), np.repeat(n, 3), len(vertices)) for n in face_normals.T]
    normals = np.stack(sums, axis=1)  # [V, 3]
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)


def _as_array(x) -> np.ndarray:
    return x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)


def _shade(vertices, faces, camera: Camera, colors, samples: int, lights: Lights) -> tuple[np.ndarray, np.ndarray]:
    """Linear-light colour, premultiplied, [H, W, 3] and coverage [H, W, 1] from samples x samples a pixel."""
    vertices, faces = _as_array(vertices).astype(np.float64), _as_array(faces).astype(np.int64)
    viewmat, K = _as_array(camera.viewmat).astype(np.float64), _as_array(camera.K).astype(np.float64)
    colors = np.broadcast_to(_as_array(SKIN if colors is None else colors), vertices.shape)  # [V, 3]
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    points = vertices @ rotation.T + translation  # [V, 3] camera axes
    normals = vertex_normals(vertices, faces) @ rotation.T
    depth = points[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):  # points at depth 0 are never drawn
        xy = (points @ K.T)[:, :2] / depth[:, None] * samples
    width, height = camera.width * samples, camera.height * samples
    face, bary, _ = rasterize_triangles(xy, depth, faces, width, height)

    hit = face >= 0
    corners, bary = faces[face[hit]], bary[hit][:, :, None]  # [P, 3], [P, 3, 1]
    normal = (normals[corners] * bary).sum(1)  # [P, 3]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    # Inner sides are lit as if they were outer ones. The face decides which side is seen, not the
    # interpolated normal, which leans away from the camera along every silhouette.
    a, b, c = (points[corners[:, n]] for n in range(3))
    normal *= np.where((np.cross(b - a, c - a) * a).sum(1) > 0, -1.0, 1.0)[:, None]
    light = np.full(len(corners), AMBIENT)
    for direction, power in lights:
        light += power * np.maximum(normal @ np.asarray(direction) / np.linalg.norm(direction), 0.0)
    albedo = (colors[corners] * bary).sum(1)  # [P, 3]

    image = np.zeros((height, width, 4))
    image[hit, :3] = np.clip(albedo, 0.0, 1.0) ** 2.2 * light[:, None]
    image[hit, 3] = 1.0
    image = image.reshape(camera.height, samples, camera.width, samples, 4).mean(axis=(1, 3))
    return image[..., :3], image[..., 3:]


def _compose(shaded, coverage, behind, opacity: float) -> UInt8[np.ndarray, "H W 3"]:
    """Lays the shaded mesh over a display-coded picture in [0, 1]; the edge pixels mix in linear light."""
    linear = opacity * shaded + (1.0 - opacity * coverage) * behind**2.2
    return np.rint(np.clip(linear, 0.0, 1.0) ** (1 / 2.2) * 255.0).astype(np.uint8)


def render_mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    colors: Float[np.ndarray, "V 3"] | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    samples: int = 2,
    lights: Lights = LIGHTS,
) -> UInt8[np.ndarray, "H W 3"]:
    """A shaded picture of the mesh (metres), anti-aliased by samples x samples rays a pixel.

    `colors` are per-vertex, or one colour for all, in [0, 1] as displayed; None is a plain skin tone. Arrays
    and tensors are both taken; `lights` are (where they stand in camera axes, how bright they are).
    """
    shaded, coverage = _shade(vertices, faces, camera, colors, samples, lights)
    behind = np.broadcast_to(np.asarray(background, np.float64), shaded.shape)
    return _compose(shaded, coverage, behind, opacity=1.0)


def overlay(
    image: UInt8[np.ndarray, "H W 3"] | Float[np.ndarray, "H W 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    colors: Float[np.ndarray, "V 3"] | None = None,
    opacity: float = 0.6,
    samples: int = 2,
    lights: Lights = LIGHTS,
) -> UInt8[np.ndarray, "H W 3"]:
    """The shaded mesh laid half-transparent over a picture of the camera's size (uint8, or float in [0, 1]).

    Raises ValueError when the picture and the camera disagree about the size.
    """
    image = _as_array(image)
    if image.shape != (camera.height, camera.width, 3):
        raise ValueError(f"image is {image.shape}, but the camera sees {(camera.height, camera.width, 3)}")
    behind = image / 255.0 if image.dtype == np.uint8 else image.astype(np.float64)
    shaded, coverage = _shade(vertices, faces, camera, colors, samples, lights)
    return _compose(shaded, coverage, behind, opacity)
