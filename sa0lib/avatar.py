"""An avatar is a set of bound Gaussians and the head that carries them: posing, rendering, first colours, scores."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from sa0lib.binding import Frames, triangle_frames
from sa0lib.camera import Camera
from sa0lib.datasets import Sequence
from sa0lib.gaussians import Gaussians
from sa0lib.head import Head
from sa0lib.losses import composite
from sa0lib.metrics import lpips, psnr, ssim
from sa0lib.rasterize import rasterization
from sa0lib.rotation import axis_angle_to_matrix
from sa0lib.uv import UVMap, rasterize_triangles


@dataclass
class PosedFrames:
    """A split held in memory, its meshes already deformed: refinement freezes them, so LBS runs once a frame."""

    images: Tensor  # [N, 3, H, W] uint8, with their background
    masks: Tensor  # [N, 1, H, W] uint8, the matte
    vertices: Tensor  # [N, V, 3] m
    cameras: list[Camera]
    face_boxes: Tensor  # [N, 4] px: x0 y0 x1 y1
    jaw: Tensor  # [N, 3] axis-angle, for the choice of the reference frame
    timesteps: list[int]

    def __len__(self) -> int:
        return len(self.cameras)

    def target(self, i: int) -> tuple[Float[Tensor, "1 3 H W"], Float[Tensor, "1 1 H W"]]:
        """Frame i premultiplied by its matte, and the matte, both in [0, 1]."""
        matte = self.masks[i : i + 1].float() / 255
        return self.images[i : i + 1].float() / 255 * matte, matte

    def on_white(self, i: int) -> Float[Tensor, "1 3 H W"]:
        """Frame i with its background replaced by white: what scores are taken on."""
        return composite(*self.target(i), self.images.new_ones(3, dtype=torch.float32))


@torch.no_grad()
def load_posed_frames(head: Head, sequence: Sequence, count: int | None = None) -> PosedFrames:
    """Read a split, all of it or `count` evenly spaced frames, and deform the head to each, on the head's device.

    Raises:
        ValueError: the codes belong to another head than this one.
    """
    head.require_basis(sequence.basis, str(sequence.root))
    device = head.v_template.device
    count = min(count or len(sequence), len(sequence))
    chosen = np.linspace(0, len(sequence) - 1, count).round().astype(int).tolist()
    first, cameras, codes, boxes = sequence.camera(chosen[0]), [], [], torch.empty(count, 4)
    # as float32, or as a list to be stacked, the frames of a clip would take gigabytes
    size = first.height, first.width
    images, masks = (torch.empty(count, channels, *size, dtype=torch.uint8) for channels in (3, 1))
    for n, i in enumerate(chosen):
        frame = sequence[i]
        images[n], masks[n], boxes[n] = (frame.image * 255).round(), (frame.mask * 255).round(), frame.face_box
        cameras.append(frame.camera.to(device))
        codes.append(frame.params)
    params = {key: torch.cat([code[key] for code in codes]).to(device) for key in codes[0]}
    params["shape"] = params["shape"][:1]  # one person: the shape part of the mesh is computed once
    return PosedFrames(
        images=images.to(device),
        masks=masks.to(device),
        vertices=head(**params),
        cameras=cameras,
        face_boxes=boxes,
        jaw=params["jaw"],
        timesteps=[sequence.timestep(i) for i in chosen],
    )


def render(
    gaussians: Gaussians, frames: Frames, camera: Camera, backend: str = "auto"
) -> tuple[Float[Tensor, "1 3 H W"], Float[Tensor, "1 1 H W"], dict]:
    """Eq. (1), then the splatter: premultiplied colour, alpha (Eq. 12) and the rasterizer's meta for one pose."""
    means, quats, scales, opacities, colors = gaussians.world(frames)
    image, alpha, meta = rasterization(
        means[0],
        quats[0],
        scales[0],
        opacities,
        colors,
        camera.viewmat[None],
        camera.K[None],
        camera.width,
        camera.height,
        backend=backend,
    )
    return image.permute(0, 3, 1, 2), alpha.permute(0, 3, 1, 2), meta


def reference_frame(jaw: Float[Tensor, "T 3"], noise: float = 1e-3, seed: int = 0) -> int:
    """App. A.4's choice of the reference frame: the smallest |jaw|_1, the earliest of equals.

    If even that is below `noise` (a silent clip, or a tracker that lost the jaw), the minimum means nothing:
    a uniformly random frame of the lowest decile is taken instead.
    """
    size = jaw.abs().sum(-1)  # [T]
    if size.min() >= noise:
        return int(size.argmin())
    pool = torch.nonzero(size <= torch.quantile(size, 0.1)).flatten()
    generator = torch.Generator().manual_seed(seed)
    return int(pool[torch.randint(len(pool), (1,), generator=generator)])


def first_colors(
    uv_map: UVMap,
    vertices: Float[Tensor, "V 3"],
    faces: Tensor,
    camera: Camera,
    image: Float[Tensor, "3 H W"],
    matte: Float[Tensor, "1 H W"],
    depth_tolerance: float = 0.004,
) -> Float[Tensor, "G 3"]:
    """The reference frame's colour at every texel that it sees; hidden texels take their nearest seen texel's.

    A texel is seen where its surface point is within `depth_tolerance` (m) of the mesh's front at that pixel and
    the matte covers the pixel.

    Raises:
        ValueError: the frame sees no texel at all (the fitted head lies outside the picture or the matte is empty).
    """
    corners = vertices[faces[uv_map.face]]  # [G, 3, 3]
    points = (corners * uv_map.bary[..., None]).sum(1)  # [G, 3]
    xy, depth = camera.project(points)  # [G, 2], [G]
    mesh_xy, mesh_depth = camera.project(vertices)
    _, _, front = rasterize_triangles(mesh_xy, mesh_depth, faces, camera.width, camera.height)
    size = torch.tensor([camera.width, camera.height])
    grid = (xy / size * 2 - 1)[None, None]  # [1, 1, G, 2] in [-1, 1], pixel centres at +0.5

    def sample(values: Tensor, mode: str = "bilinear") -> Tensor:
        picked = F.grid_sample(values[None], grid, mode=mode, padding_mode="zeros", align_corners=False)
        return picked[0, :, 0].T  # [G, C]

    front = torch.as_tensor(front, dtype=image.dtype)[None].nan_to_num(posinf=0.0)
    seen = (sample(front, "nearest")[:, 0] - depth).abs() < depth_tolerance
    seen &= sample(matte)[:, 0] > 0.95
    if not seen.any():
        raise ValueError("the reference frame sees no texel: check its camera, its head pose and its matte")
    unseen = np.ones((uv_map.size, uv_map.size), dtype=bool)
    unseen[uv_map.row, uv_map.col] = ~seen.numpy()
    nearest = distance_transform_edt(unseen, return_distances=False, return_indices=True)  # [2, N, N]
    grid_colors = uv_map.scatter(sample(image))  # [N, N, 3]
    rows, cols = nearest[:, uv_map.row, uv_map.col]
    return grid_colors[rows, cols]


@torch.no_grad()
def picture(
    gaussians: Gaussians, head: Head, vertices: Float[Tensor, "V 3"], camera: Camera
) -> Float[Tensor, "1 3 H W"]:
    """The avatar on white, with the mesh posed to `vertices`, in [0, 1]."""
    color, alpha, _ = render(gaussians, triangle_frames(vertices[None], head.faces), camera)
    return composite(color, alpha, color.new_ones(3)).clamp(0, 1)


METRICS = {"psnr": psnr, "ssim": ssim, "lpips": lpips}


def evaluate(gaussians: Gaussians, head: Head, posed: PosedFrames) -> list[dict[str, float]]:
    """PSNR, SSIM and LPIPS of every frame on white, on the full frame and (box_*) inside its face box."""
    rows = []
    for i, camera in enumerate(posed.cameras):
        image = picture(gaussians, head, posed.vertices[i], camera)
        truth, box = posed.on_white(i), posed.face_boxes[i : i + 1]
        row = {name: float(score(image, truth)) for name, score in METRICS.items()}
        row |= {f"box_{name}": float(score(image, truth, box)) for name, score in METRICS.items()}
        rows.append({"timestep": posed.timesteps[i], **row})
    return rows


def mean_scores(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean over frames of every score."""
    names = [name for name in rows[0] if name != "timestep"]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


@torch.no_grad()
def error_by_place(gaussians: Gaussians, head: Head, posed: PosedFrames) -> dict[str, dict[str, float]]:
    """Where the squared error on white lies: {place: {share of pixels, share of error, psnr in dB}}.

    A pixel's place is the front-most part of the mesh, or, beside the mesh, "hair" inside the matte (whatever the
    person has that the head model has not) and "background" outside it.
    """
    names = [*head.region_names, "hair", "background"]
    pixels, errors = torch.zeros(len(names)), torch.zeros(len(names))
    faces, region = head.faces.cpu(), head.region.cpu()
    for i, camera in enumerate(posed.cameras):
        square = (picture(gaussians, head, posed.vertices[i], camera) - posed.on_white(i)).square().mean(1)[0].cpu()
        xy, depth = camera.project(posed.vertices[i])
        hit, _, _ = rasterize_triangles(xy.cpu(), depth.cpu(), faces, camera.width, camera.height)
        hit = torch.as_tensor(hit).long()
        beside = torch.where(posed.masks[i, 0].cpu() > 127, len(names) - 2, len(names) - 1)
        place = torch.where(hit >= 0, region[faces[hit.clamp_min(0), 0]], beside)
        pixels += torch.bincount(place.flatten(), minlength=len(names))
        errors += torch.bincount(place.flatten(), square.flatten(), minlength=len(names))
    return {
        name: {
            "pixels": float(n / pixels.sum()),
            "error": float(e / errors.sum()),
            "psnr": float(-10 * (e / n).log10()),
        }
        for name, n, e in zip(names, pixels, errors, strict=True)
        if n > 0
    }


@torch.no_grad()
def preview(gaussians: Gaussians, head: Head, posed: PosedFrames, i: int) -> Float[Tensor, "H W 3"]:
    """Side by side: frame i on white, the avatar from its camera, turned aside, in another frame's expression."""
    vertices, camera = posed.vertices[i], posed.cameras[i]
    center = vertices[head.region != head.region_names.index("neck")].mean(0)
    turn = axis_angle_to_matrix(vertices.new_tensor([0.0, math.radians(20), 0.0]))
    turned = (vertices - center) @ turn.T + center
    widest = int(posed.jaw.norm(dim=-1).argmax())
    poses = ((vertices, camera), (turned, camera), (posed.vertices[widest], posed.cameras[widest]))
    views = [posed.on_white(i), *(picture(gaussians, head, *pose) for pose in poses)]
    return torch.cat(views, -1)[0].permute(1, 2, 0).cpu()
