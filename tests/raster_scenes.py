"""Scenes for the rasterizer tests, and the pixels at which its image is not continuous."""

import math
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from sa0lib import camera as cam
from sa0lib.paths import ASSETS
from sa0lib.rasterize import rasterization, reference
from sa0lib.rotation import matrix_to_quaternion, normalize

INPUTS = ("means", "quats", "scales", "opacities", "colors", "backgrounds")
PAPER_COUNT = 58_173  # Gaussians of one avatar


@contextmanager
def threads(count: int):
    """Torch on `count` threads: small float64 tensors are faster on one, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Scene:
    """Gaussians [N], their backgrounds [C, D] and cameras, float32."""

    means: torch.Tensor
    quats: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    colors: torch.Tensor
    backgrounds: torch.Tensor
    cameras: list[cam.Camera]

    def leaves(self, dtype=torch.float32) -> list[torch.Tensor]:
        """Fresh differentiable copies, in the order of INPUTS."""
        return [getattr(self, name).detach().to(dtype, copy=True).requires_grad_() for name in INPUTS]

    def render(self, leaves=None, backend="cpu", **options):
        """`rasterization` of this scene in the dtype of `leaves`."""
        *gaussians, backgrounds = self.leaves() if leaves is None else leaves
        dtype = gaussians[0].dtype
        viewmats = torch.stack([camera.viewmat for camera in self.cameras]).to(dtype)
        Ks = torch.stack([camera.K for camera in self.cameras]).to(dtype)
        size = self.cameras[0].width, self.cameras[0].height
        return rasterization(*gaussians, viewmats, Ks, *size, backgrounds=backgrounds, backend=backend, **options)

    def reference(self, **options):
        """The float64 reference of `render`, without gradients."""
        with threads(1), torch.no_grad():
            return self.render(self.leaves(torch.float64), backend="reference", **options)


def random_scene(seed=0, count=200, channels=3, width=70, height=50, cameras=1) -> Scene:
    """Gaussians of many sizes and shapes in and around the view, some behind the camera, some off the screen."""
    g = torch.Generator().manual_seed(seed)
    views = [cam.orbit(0.3 + 0.7 * c, 0.2, 1.2, torch.zeros(3)) for c in range(cameras)]
    return Scene(
        means=torch.randn(count, 3, generator=g) * 0.4,
        quats=torch.randn(count, 4, generator=g),
        scales=torch.exp(torch.randn(count, 3, generator=g) * 0.8 - 3),
        opacities=torch.rand(count, generator=g),
        colors=torch.rand(count, channels, generator=g),
        backgrounds=torch.rand(cameras, channels, generator=g),
        cameras=[cam.Camera(cam.intrinsics(1.7 * width, width, height), view, width, height) for view in views],
    )


def grid(rows: torch.Tensor, cols: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column values of every node [R, C]."""
    return torch.meshgrid(rows, cols, indexing="ij")


def head_surface(count: int, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Points and normals [count, 3] spread over a head (an ellipsoid where OpenHead is not built) and its area, m^2."""
    path = ASSETS / "open_head.npz"
    if path.exists():
        with np.load(path) as head:
            vertices, faces = torch.from_numpy(head["v_template"]).double(), torch.from_numpy(head["f"]).long()
        vertices = vertices - vertices.mean(0)
    else:
        n = 100
        theta, phi = grid(torch.linspace(0.03, math.pi - 0.03, n), torch.arange(n) * (2 * math.pi / n))
        ball = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], -1).flatten(0, 1)
        vertices = ball.double() * torch.tensor([0.075, 0.115, 0.095], dtype=torch.float64)
        i, j = grid(torch.arange(n - 1), torch.arange(n))
        a, b, c, d = i * n + j, i * n + (j + 1) % n, (i + 1) * n + j, (i + 1) * n + (j + 1) % n
        faces = torch.cat([torch.stack([a, c, b], -1).flatten(0, 1), torch.stack([b, c, d], -1).flatten(0, 1)])
    a, b, c = vertices[faces].unbind(1)  # [F, 3]
    normals = torch.linalg.cross(b - a, c - a)
    areas = normals.norm(dim=-1) / 2
    face = torch.multinomial(areas, count, replacement=True, generator=g)
    u, v = torch.rand(2, count, 1, generator=g, dtype=torch.float64)
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    points = a[face] + u * (b - a)[face] + v * (c - a)[face]
    return points, normalize(normals[face]), float(areas.sum())


def head_scene(size=256, spacing=0.6, count=PAPER_COUNT, seed=0) -> Scene:
    """Discs on a head, `spacing` times as large as they lie apart, mostly opaque: front, back and inside overlap."""
    g = torch.Generator().manual_seed(seed)
    points, normals, area = head_surface(count, g)
    along = normalize(torch.linalg.cross(normals, normals.new_tensor([0.3, 0.5, 0.8]).expand_as(normals)))
    frames = torch.stack([along, torch.linalg.cross(normals, along), normals], -1)  # [N, 3, 3]
    scales = math.sqrt(area / count) * spacing * torch.exp(0.25 * torch.randn(count, 3, generator=g))
    scales[:, 2] *= 0.3
    view = cam.orbit(0.3, 0.1, 1.0, torch.zeros(3))
    return Scene(
        means=points.float(),
        quats=matrix_to_quaternion(frames).float(),
        scales=scales,
        opacities=torch.sigmoid(1.5 * torch.randn(count, generator=g) + 1.5),
        colors=torch.rand(count, 3, generator=g),
        backgrounds=torch.rand(1, 3, generator=g),
        cameras=[cam.Camera(cam.intrinsics(3.0 * size, size, size), view, size, size)],
    )


@threads(1)
@torch.no_grad()
def undecided_pixels(scene: Scene, alpha_margin=3e-4, light_margin=1e-3) -> torch.Tensor:
    """Pixels [C, H, W] at which rounding may decide: the image jumps there, so no two roundings must agree.

    A pixel is marked if, before it closes, some alpha lies within a relative margin of 1/255 (taken or skipped) or
    of 0.999 (gradient or none), or some next transmittance within one of 1e-4 (taken or closed). Evaluated in float64.
    """
    *gaussians, _ = scene.leaves(torch.float64)
    width, height = scene.cameras[0].width, scene.cameras[0].height
    marked = torch.zeros(len(scene.cameras), height, width, dtype=torch.bool)
    for c, camera in enumerate(scene.cameras):
        view, K = camera.viewmat[None].double(), camera.K[None].double()
        p = reference.project(*gaussians[:4], view, K, width, height, 0.01, 1e10, 0.3)
        order = p.depths[0].float().argsort(stable=True)
        order = order[p.reach[0, order, 0] > 0]
        means2d, factors, reach = p.means2d[0, order], p.factors[0, order], p.reach[0, order] * 1.01
        opacities = gaussians[3][order]
        for top in range(0, height, 16):
            for left in range(0, width, 16):
                corner = means2d.new_tensor([left, top])
                near = ((means2d + reach > corner) & (means2d - reach < corner + 16)).all(-1)
                y, x = grid(torch.arange(min(16, height - top)), torch.arange(min(16, width - left)))
                pixels = torch.stack([x, y], -1).flatten(0, 1) + corner + 0.5
                dx, dy = (pixels[:, None] - means2d[near]).unbind(-1)
                a, k, q = factors[near].unbind(-1)
                alpha = opacities[near] * torch.exp(-(a * (dx + k * dy) ** 2 + q * dy**2) / 2)  # [P, n]
                on_edge = ((alpha * 255 - 1).abs() < alpha_margin) | ((alpha / 0.999 - 1).abs() < alpha_margin)
                alpha = torch.where(alpha >= 1 / 255, alpha.clamp(max=0.999), 0)
                after = torch.cumprod(1 - alpha, -1)
                before = after / (1 - alpha)
                on_edge = on_edge | ((after / 1e-4 - 1).abs() < light_margin)
                hit = (on_edge & (before > 1e-4 * (1 - light_margin))).any(-1)
                marked[c, top : top + 16, left : left + 16] = hit.reshape(y.shape)
    return marked
