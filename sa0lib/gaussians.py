"""The avatar itself: Gaussians that live in the frames of mesh triangles, and their PLY files."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from plyfile import PlyData, PlyElement
from torch import Tensor

from sa0lib.binding import Frames, bind, local_from_barycentric, triangle_frames
from sa0lib.uv import UVMap

C0 = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi)): f_dc = (rgb - 0.5) / C0

# How an avatar starts. On an even grid of splats seen straight on, this spread and opacity let at most two per cent
# through anywhere, which leaves the skin closed when a laugh stretches it. More only swells the outline and blurs.
SPREAD = 0.75  # standard deviation in units of the texel spacing
OPACITY = 0.9
THICKNESS = 0.4  # along the normal, relative to the smaller tangential extent
MAX_STRETCH = 2.0  # the two tangential extents differ by no more than this
MAX_SIZE = 4.0  # in medians of all extents: the mouth's inside has few texels, and must not show through the lips

MEANS, F_DC = ("x", "y", "z"), ("f_dc_0", "f_dc_1", "f_dc_2")
SCALES, QUATS = ("scale_0", "scale_1", "scale_2"), ("rot_0", "rot_1", "rot_2", "rot_3")
BINDING = "binding_0"


@dataclass
class Gaussians:
    """G Gaussians, each rigidly bound to one triangle; stored before their activations, as they are optimised."""

    means: Float[Tensor, "G 3"]  # in the triangle's frame, units of s_f
    quats: Float[Tensor, "G 4"]  # wxyz, in the triangle's frame, any length
    log_scales: Float[Tensor, "G 3"]  # log of standard deviations in units of s_f; axes: first edge, normal, third
    opacity_logits: Float[Tensor, " G"]
    color_logits: Float[Tensor, "G 3"]  # sigmoid of it is rgb in [0, 1]
    face: Int[Tensor, " G"]  # the triangle

    def __len__(self) -> int:
        return len(self.face)

    @property
    def scales(self) -> Float[Tensor, "G 3"]:
        """Standard deviations in units of s_f."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, " G"]:
        """In (0, 1)."""
        return self.opacity_logits.sigmoid()

    @property
    def colors(self) -> Float[Tensor, "G 3"]:
        """rgb in (0, 1)."""
        return self.color_logits.sigmoid()

    def world(self, frames: Frames) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Eq. (1) on activated attributes: what a rasterizer takes, for every pose of the batch.

        Returns means [B, G, 3] m, unit quats [B, G, 4] wxyz, scales [B, G, 3] m, opacities [G], colors [G, 3].
        """
        return *bind(self.means, self.quats, self.scales, self.face, frames), self.opacities, self.colors

    @classmethod
    @torch.no_grad()
    def initial(
        cls,
        uv_map: UVMap,
        vertices: Float[Tensor, "V 3"],
        faces: Int[Tensor, "F 3"],
        colors: Float[Tensor, "G 3"],
    ) -> "Gaussians":
        """One Gaussian a valid texel, on the surface of this mesh (metres), as large as its texel; rgb in [0, 1].

        Local rotation is the identity, so the axes are those of the triangle. Tangential extents come from the
        distances to the neighbouring texels, times `SPREAD`, within `MAX_SIZE`. The normal axis is thinner, because
        thickness only swells the outline; with `MAX_STRETCH` the longest axis stays within 5 times the shortest, so
        that nothing starts as a needle.
        """
        local = local_from_barycentric(uv_map.bary, uv_map.face, vertices, faces)
        frames = triangle_frames(vertices[None], faces)
        s, R = frames.scale[0, uv_map.face], frames.R[0, uv_map.face]  # [G], [G, 3, 3]
        points = (vertices[faces[uv_map.face]] * uv_map.bary[..., None]).sum(1)  # [G, 3]
        steps = _texel_steps(uv_map, points, normals=R[..., 1], alone=R[..., 0] * s[:, None] / 2)  # [G, 2, 3]
        extent = (steps @ R).square().sum(1).sqrt()  # [G, 3] along the first edge, the normal, the third axis
        across = torch.stack([extent[:, 0], extent[:, 2]], -1)  # [G, 2]
        across = across.clamp_max(MAX_SIZE * across.median())
        longest = across.amax(-1, keepdim=True).clamp_min(1e-6)  # a micrometre: nothing a texel can be
        across = torch.maximum(across, longest / MAX_STRETCH)
        normal = THICKNESS * across.amin(-1)
        scales = SPREAD * torch.stack([across[:, 0], normal, across[:, 1]], -1)
        return cls(
            means=local,
            quats=local.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(local), 1),
            log_scales=(scales / s[:, None].clamp_min(1e-10)).log(),
            opacity_logits=torch.logit(torch.full_like(s, OPACITY)),
            color_logits=_color_logits(colors),
            face=uv_map.face,
        )

    def save_ply_local(self, path: Path | str) -> None:
        """The 3DGS layout in triangle frames, with the triangle as int `binding_0`: GaussianAvatars reads it.

        Raises ValueError, and writes nothing, if an attribute holds NaN or infinity.
        """
        _save(path, self.means, self.quats, self.log_scales, self.opacity_logits, self.colors, self.face)

    def save_ply_world(self, path: Path | str, frames: Frames, index: int = 0) -> None:
        """The 3DGS layout baked to the world for pose `index` of `frames`: any splat viewer shows it.

        Raises ValueError, and writes nothing, if an attribute holds NaN or infinity.
        """
        means, quats, scales, _, colors = self.world(frames)
        log_scales = scales[index].clamp_min(1e-10).log()  # on a collapsed triangle they are zero
        _save(path, means[index], quats[index], log_scales, self.opacity_logits, colors, None)


def load_ply(path: Path | str) -> Gaussians:
    """A set that `save_ply_local` or GaussianAvatars wrote (which stores `binding_0` as float); float32, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged or truncated, a property is missing, not finite or not a triangle number, the file is
            baked to the world (no `binding_0`), or it holds view-dependent colour, which this set has no room for.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        rows = PlyData.read(path, mmap=False)["vertex"].data
    except Exception as error:  # plyfile's own errors, and numpy's for impossible headers
        raise ValueError(f"{path}: damaged or no PLY ({error}); export it again") from error
    if BINDING not in rows.dtype.names:
        raise ValueError(f"{path}: no {BINDING}, so it is baked to the world or bound to no mesh; load a local export")
    if any(np.any(rows[name]) for name in rows.dtype.names if name.startswith("f_rest_")):
        raise ValueError(f"{path}: f_rest holds view-dependent colour; train or export it with SH degree 0")

    def read(*names: str) -> Tensor:
        for name in names:
            if name not in rows.dtype.names or rows.dtype[name].kind not in "fiu":
                raise ValueError(f"{path}: no number {name!r}, so it is no 3DGS PLY; export it again")
            if not np.isfinite(rows[name]).all():
                raise ValueError(f"{path}: {name} holds NaN or infinity; export it again from a healthy checkpoint")
        return torch.from_numpy(np.stack([rows[name] for name in names], 1).astype(np.float32))

    face = read(BINDING)[:, 0]
    if (face < 0).any() or (face != face.round()).any():
        raise ValueError(f"{path}: {BINDING} holds values that are no triangle numbers")
    return Gaussians(
        means=read(*MEANS),
        quats=read(*QUATS),
        log_scales=read(*SCALES),
        opacity_logits=read("opacity")[:, 0],
        color_logits=_color_logits(read(*F_DC) * C0 + 0.5),
        face=face.long(),
    )


def _save(path: Path | str, means, quats, log_scales, opacity_logits, colors, face: Tensor | None) -> None:
    path = Path(path)
    columns = {
        MEANS: ("means", means),
        ("nx", "ny", "nz"): ("normals", torch.zeros_like(means)),  # of the layout; splats have none
        F_DC: ("color_logits", (colors - 0.5) / C0),
        ("opacity",): ("opacity_logits", opacity_logits[:, None]),
        SCALES: ("log_scales", log_scales),
        QUATS: ("quats", quats),
    }
    bound = [] if face is None else [(BINDING, "<i4")]
    rows = np.empty(len(means), [(name, "<f4") for names in columns for name in names] + bound)
    for names, (attribute, values) in columns.items():
        bad = int((~values.isfinite()).any(-1).sum())
        if bad:
            raise ValueError(f"{path} not written: {attribute} of {bad} Gaussians is NaN or infinite")
        for name, column in zip(names, values.detach().cpu().numpy().T, strict=True):
            rows[name] = column
    if face is not None:
        rows[BINDING] = face.cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # of a full disk, say


def _color_logits(colors: Float[Tensor, "G 3"]) -> Float[Tensor, "G 3"]:
    """Logits of rgb, kept finite at black and white by a tenth of a grey level."""
    return torch.logit(colors.clamp(0.1 / 255, 1 - 0.1 / 255))


def _texel_steps(
    uv_map: UVMap, points: Float[Tensor, "G 3"], normals: Float[Tensor, "G 3"], alone: Float[Tensor, "G 3"]
) -> Float[Tensor, "G 2 3"]:
    """How far the surface moves (metres) from each texel to the next one in its column and in its row.

    Of the neighbours on both sides the nearer counts: across a seam the other one lies elsewhere on the head. With
    none on either side the step is as long as the other direction's and at right angles to it; a texel with no
    neighbour at all takes `alone`.
    """
    grid = torch.nn.functional.pad(uv_map.scatter(points), (0, 0, 1, 1, 1, 1))  # [N + 2, N + 2, 3]
    valid = torch.nn.functional.pad(uv_map.valid, (1, 1, 1, 1))
    steps, known = [], []
    for dr, dc in ((1, 0), (0, 1)):
        places = [(uv_map.row + 1 + sign * dr, uv_map.col + 1 + sign * dc) for sign in (1, -1)]
        sides = torch.stack([grid[place] - points for place in places])  # [2, G, 3]
        there = torch.stack([valid[place] for place in places])  # [2, G]
        nearer = sides.norm(dim=-1).masked_fill(~there, torch.inf).argmin(0)  # [G]
        steps.append(sides.gather(0, nearer[None, :, None].expand(1, -1, 3))[0])
        known.append(there.any(0)[:, None])
    first = torch.where(known[0], steps[0], torch.where(known[1], torch.linalg.cross(normals, steps[1]), alone))
    second = torch.where(known[1], steps[1], torch.linalg.cross(normals, first))
    return torch.stack([first, second], 1)
