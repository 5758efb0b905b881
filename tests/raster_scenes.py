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
KINDS = (
    "ordinary", "needle", "giant", "tiny", "before the near plane", "on the near plane", "beyond the near plane",
    "behind", "beyond the far plane", "off-screen", "zero opacity", "opaque", "same depth", "same but for colour",
    "stack",
)  # fmt: skip
NEAR, FAR = 0.25, 64.0  # metres, of `mixed_scene`: exact in binary, so that "on the plane" survives every dtype


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
    planes: tuple[float, float] = (0.01, 1e10)  # near and far, metres
    kinds: tuple[str, ...] = ()  # of each Gaussian, where `mixed_scene` made it

    def leaves(self, dtype=torch.float32, device="cpu") -> list[torch.Tensor]:
        """Fresh differentiable copies, in the order of INPUTS."""
        return [getattr(self, name).detach().to(device, dtype, copy=True).requires_grad_() for name in INPUTS]

    def render(self, leaves=None, backend="cpu", **options):
        """`rasterization` of this scene in the dtype, and on the device, of `leaves`."""
        *gaussians, backgrounds = self.leaves() if leaves is None else leaves
        viewmats = torch.stack([camera.viewmat for camera in self.cameras]).to(backgrounds)
        Ks = torch.stack([camera.K for camera in self.cameras]).to(backgrounds)
        size = self.cameras[0].width, self.cameras[0].height
        return rasterization(
            *gaussians, viewmats, Ks, *size, *self.planes, backgrounds=backgrounds, backend=backend, **options
        )

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


def group_of_kind(kind: str, count: int, K: torch.Tensor, size: torch.Tensor, g: torch.Generator):
    """Means [n, 3], quats [n, 4], scales [n, 3] and opacities [n] that a camera at the origin sees as `kind` says."""
    pixels = (1.2 * torch.rand(count, 2, generator=g) - 0.1) * size
    depths = 1 + 2 * torch.rand(count, generator=g)  # metres
    lengths = 0.5 * 24 ** torch.rand(count, 3, generator=g)  # standard deviations, pixels: 0.5 to 12
    quats = torch.randn(count, 4, generator=g) * 8 ** (2 * torch.rand(count, 1, generator=g) - 1)
    opacities = 0.05 + 0.9 * torch.rand(count, generator=g)
    if kind == "needle":
        lengths = lengths[:, :1] * torch.tensor([2.0, 2e-3, 2e-3])
    elif kind == "giant":
        lengths = lengths * 100 * size.max()
    elif kind == "tiny":
        lengths = lengths * 1e-4
    elif kind == "before the near plane":
        depths = NEAR * (1 - 0.01 * depths)
    elif kind == "on the near plane":
        depths = torch.full_like(depths, NEAR)
    elif kind == "beyond the near plane":
        depths = NEAR * (1 + 0.01 * depths)
    elif kind == "behind":
        depths = -depths
    elif kind == "beyond the far plane":
        depths = FAR * depths
    elif kind == "off-screen":
        side = (pixels - size / 2).sign()
        pixels, lengths = size / 2 + side * size * depths[:, None] * 0.55, 3 * lengths  # up to a size beyond a corner
    elif kind == "zero opacity":
        opacities = opacities * (torch.arange(count) % 2) / 255  # every other one a little above zero
    elif kind == "opaque":
        opacities, lengths = torch.ones(count), 2 * lengths
    elif kind == "same depth":
        depths = torch.full_like(depths, 2.0)
    elif kind == "same but for colour":
        pixels, depths, lengths, quats = (t[:1].expand_as(t) for t in (pixels, depths, lengths, quats))
    elif kind == "stack":
        pixels, lengths, opacities = size / 2 + 0.1 * pixels, lengths + size.max(), 0.7 + 0.3 * opacities
    slopes = (pixels - K[:2, 2]) / K.diagonal()[:2]  # [n, 2]
    means = torch.cat([slopes * depths[:, None], depths[:, None]], 1)
    return means, quats, lengths * depths.abs()[:, None] / K[0, 0], opacities


def mixed_scene(groups=(("ordinary", 5),), seed=0, size=(40, 24), channels=3, cameras=1) -> Scene:
    """Groups of (kind, count) Gaussians in this order; a kind is a way in which splats are awkward (see KINDS).

    They are made for the first camera, which stands at the origin and looks along +z; the second sees them askance.
    """
    g = torch.Generator().manual_seed(seed)
    width, height = size
    K = torch.tensor([[1.5 * width, 0.0, 0.45 * width], [0.0, 1.4 * width, 0.55 * height], [0.0, 0.0, 1.0]])
    views = [torch.eye(4), cam.orbit(0.5, 0.3, 2.0, torch.tensor([0.0, 0.0, 2.0]))][:cameras]
    none = [torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0)]
    parts = [none] + [group_of_kind(kind, count, K, torch.tensor(size).float(), g) for kind, count in groups]
    means, quats, scales, opacities = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return Scene(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=torch.rand(len(means), channels, generator=g),
        backgrounds=torch.rand(cameras, channels, generator=g),
        cameras=[cam.Camera(K, view, width, height) for view in views],
        planes=(NEAR, FAR),
        kinds=tuple(kind for kind, count in groups for _ in range(count)),
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
def undecided_pixels(scene: Scene, alpha_margin=3e-4, light_margin=1e-3, depth_margin=None) -> torch.Tensor:
    """Pixels [C, H, W] at which rounding may decide: the image jumps there, so no two roundings must agree.

    A pixel is marked if, before it closes, some alpha lies within a relative margin of 1/255 (taken or skipped) or
    of 0.999 (gradient or none), or some next transmittance within one of 1e-4 (taken or closed); with a depth_margin,
    also if two splats, one taken after the other, lie within it in relative depth. Evaluated in float64.
    """
    *gaussians, _ = scene.leaves(torch.float64)
    width, height = scene.cameras[0].width, scene.cameras[0].height
    marked = torch.zeros(len(scene.cameras), height, width, dtype=torch.bool)
    for c, camera in enumerate(scene.cameras):
        view, K = camera.viewmat[None].double(), camera.K[None].double()
        p = reference.project(*gaussians[:4], view, K, width, height, *scene.planes, 0.3)
        order = p.depths[0].float().argsort(stable=True)
        order = order[p.reach[0, order, 0] > 0]
        means2d, factors, reach = p.means2d[0, order], p.factors[0, order], p.reach[0, order] * 1.01
        opacities, depths = gaussians[3][order], p.depths[0, order]
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
                if depth_margin is not None:
                    depth = torch.where(alpha >= 1 / 255, depths[near], 0)  # [P, n]
                    last = torch.cat([0 * depth[:, :1], depth.cummax(-1).values[:, :-1]], -1)
                    on_edge = on_edge | (depth > 0) & (depth - last <= depth_margin * depth)
                alpha = torch.where(alpha >= 1 / 255, alpha.clamp(max=0.999), 0)
                after = torch.cumprod(1 - alpha, -1)
                before = after / (1 - alpha)
                on_edge = on_edge | ((after / 1e-4 - 1).abs() < light_margin)
                hit = (on_edge & (before > 1e-4 * (1 - light_margin))).any(-1)
                marked[c, top : top + 16, left : left + 16] = hit.reshape(y.shape)
    return marked
