"""Photographs of a person by Mitsuba 3: path traced, denoised, with an exact matte.

Mitsuba's `scalar_rgb` runs on any CPU; `llvm_ad_rgb` is faster where a scene is photographed often, but see
`variant.py`. Each gives its own bytes, the same for the same seed. A scene is built once per person; poses only move
vertices and control points.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import drjit as dr
import mitsuba as mi
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from data_scripts.worlds.person import Body, Pose
from data_scripts.worlds.photo.denoise import Denoiser
from data_scripts.worlds.photo.materials import hair_bsdf, lamp, part_bsdf, skin_bsdf
from data_scripts.worlds.photo.stage import Stage
from data_scripts.worlds.photo.tone import srgb, to_bytes
from sa0lib.camera import Camera
from sa0lib.mesh import vertex_normals

AOV = "albedo:albedo,normal:sh_normal,uv:uv"  # what the denoiser is guided by, and the ownership of pixels
AOV_SAMPLES = 4  # per pixel: edges of clothes in the matte are this fine; noise of the guides is filtered
MAX_DEPTH = 5  # segments of light paths: fair hair is fair because light passes through several strands
ROULETTE = 2  # segments after which faint paths may end: dark hair, where paths are dearest, takes half the time
MARGIN = 16  # px around the person that the denoiser sees, too
REACH = 0.9  # metres: no part of a person is further from the middle of the head in what a camera sees
NOT_HEAD = 1000.0  # texture coordinate of what is no part of the head, far from every chart
LINE = 64  # bytes of a cache line
MITSUBA_AXES = np.diag([-1.0, -1.0, 1.0, 1.0])  # its cameras have x to the left, y up, z forward


@dataclass
class Shot:
    """One photograph."""

    image: UInt8[ndarray, "H W 3"]  # with its background
    mask: UInt8[ndarray, "H W"]  # matte of head, hair and what is worn on it; clothes and shoulders are not in it
    linear: Float[ndarray, "H W 3"]  # the image before the tone curve


@dataclass
class Survey:
    """What pixels show, without colour."""

    depth: Float[ndarray, "H W"]  # metres along the viewing axis, infinite where nothing is
    on_head: Bool[ndarray, "H W"]  # the head's own surface, not hair, glasses or clothes
    uv: Float[ndarray, "H W 2"]  # where on its chart (v up); NaN elsewhere


class Scene:
    """One person on one stage, ready to be posed and photographed in `size` x `size` pixels.

    Built once per person; `pose` moves what is there. The variant is Mitsuba's, for all of a process's scenes from
    here on: only the latest scene can be used.
    """

    def __init__(self, body: Body, stage: Stage, size: int, variant: str = "scalar_rgb"):
        mi.set_variant(variant)
        dr.flush_kernel_cache()  # what was compiled for the scene before serves no other, and would stay in memory
        self.body, self.stage, self.size = body, stage, size
        head = body.head
        # One Mitsuba vertex for each pair of vertex and chart corner: positions are shared over seams, UVs are not.
        pairs = np.stack([head.faces[: len(head.ft)].numpy().ravel(), head.ft.numpy().ravel()], 1)
        self.pairs, corner = np.unique(pairs, axis=0, return_inverse=True)  # [n, 2]
        uv = head.vt.numpy()[self.pairs[:, 1]] * [1, -1] + [0, 1]  # Mitsuba's bitmaps run downwards
        self.faces = {"head": head.faces.numpy()}
        scene = {
            "type": "scene",
            "env": {"type": "envmap", "bitmap": mi.Bitmap(stage.env.copy())},
            "lamp": lamp(stage),
            "sensor": {"type": "perspective", "film": _film(size), "sampler": {"type": "multijitter"}},
            "head": _mesh("head", len(self.pairs), corner.reshape(-1, 3), skin_bsdf(body.maps), uv),
        }
        for part in [*body.bust.parts, *body.worn]:
            outside = part in body.bust.parts
            uv = np.full((len(part.vertices), 2), NOT_HEAD) if outside else None
            scene[part.name] = _mesh(part.name, len(part.vertices), part.faces, part_bsdf(part), uv, part.color)
            self.faces[part.name] = part.faces
        with tempfile.TemporaryDirectory() as folder:
            for name, tuft in body.tufts.items():
                path = Path(folder, f"{name}.txt")
                _write_strands(path, _on_curve(tuft.points, tuft.radius))
                scene[name] = {"type": "linearcurve", "filename": str(path), "bsdf": hair_bsdf(tuft)}
            self.scene = mi.load_dict(scene)
        self.params = mi.traverse(self.scene)
        paths = {"type": "path", "max_depth": MAX_DEPTH, "rr_depth": ROULETTE, "hide_emitters": True}
        self.path = mi.load_dict(paths)
        self.guides = mi.load_dict({"type": "aov", "aovs": AOV})
        self.surveyor = mi.load_dict({"type": "aov", "aovs": "i:shape_index,p:position,uv:uv"})
        self.denoise = Denoiser()

    def pose(self, pose: Pose) -> None:
        """Bring the body into a pose."""
        self._move("head", pose.vertices, self.pairs[:, 0])
        for name, vertices in pose.solids.items():
            self._move(name, vertices, slice(None))
        for name, points in pose.strands.items():
            self.params[f"{name}.control_points"] = _aligned(_on_curve(points, self.body.tufts[name].radius))
        self.params.update()

    def shoot(self, camera: Camera, samples: int, seed: int) -> Shot:
        """A photograph with `samples` light paths a pixel.

        Raises ValueError for a camera of another size, whose principal point is not in the middle, or whose pixels are
        not square.
        """
        color, alpha, guides = self.trace(camera, samples, seed)
        clothed = guides[..., 6] / NOT_HEAD  # share of the guides' samples that hit what is not the head
        hit = np.maximum(np.linalg.norm(guides[..., 3:6], axis=-1), clothed)  # share that hit anything, where it counts
        mask = alpha * (1 - clothed / np.maximum(hit, 1e-6))
        # The backdrop is put behind before denoising, so that hair against it is cleaned as it will be seen.
        behind = self.stage.backdrop
        color = color * self.stage.exposure + (1 - alpha[..., None]) * behind
        albedo = guides[..., :3] + (1 - np.minimum(hit, 1))[..., None] * behind
        there = hit > 0  # beside it there is no noise
        there |= alpha > 0
        linear, mask = self.denoise(color, mask, albedo, guides[..., 3:6], _surroundings(there))
        return Shot(to_bytes(srgb(linear)), to_bytes(mask), linear)

    def trace(self, camera: Camera, samples: int, seed: int):
        """Raw results: linear colour [H, W, 3], coverage [H, W], and guides [H, W, 8] (albedo, normal, uv)."""
        self._aim(camera)
        traced = np.array(mi.render(self.scene, integrator=self.path, spp=samples, seed=seed))
        guides = np.array(mi.render(self.scene, integrator=self.guides, spp=AOV_SAMPLES, seed=seed + 1))
        return traced[..., :3], np.clip(traced[..., 3], 0, 1), guides

    def _aim(self, camera: Camera) -> None:
        K = camera.K.double().numpy()
        middle = self.size / 2
        if camera.width != self.size or camera.height != self.size or not np.allclose(K[:2, 2], middle, atol=1e-3):
            raise ValueError(f"the camera must be {self.size} px square with its principal point centred")
        if not np.isclose(K[0, 0], K[1, 1]) or K[0, 1]:
            raise ValueError("the camera's pixels must be square: K needs equal focal lengths and no skew")
        to_world = np.linalg.inv(camera.viewmat.double().numpy()) @ MITSUBA_AXES
        self.params["sensor.to_world"] = mi.ScalarTransform4f(to_world)
        # Guides see lamps, so whatever is nearer than the person could be is cut off.
        self.params["sensor.near_clip"] = max(float(camera.center.norm()) - REACH, 0.01)
        self.params["sensor.x_fov"] = float(np.degrees(2 * np.arctan(middle / K[0, 0])))
        self.params.update()

    def survey(self, camera: Camera, seed: int) -> Survey:
        """What one random ray through each pixel meets: the ground truth that tests compare with."""
        self._aim(camera)
        seen = np.array(mi.render(self.scene, integrator=self.surveyor, spp=1, seed=seed))
        shapes = [shape.id() for shape in self.scene.shapes()]
        index = np.rint(seen[..., 0]).astype(int)  # counted from 1; 0 is nothing
        hit = index > 0
        points = seen[..., 1:4]  # [H, W, 3]
        view = camera.viewmat.double().numpy()
        depth = np.where(hit, points @ view[2, :3] + view[2, 3], np.inf)
        on_head = index == shapes.index("head") + 1
        return Survey(depth, on_head, np.where(on_head[..., None], seen[..., 4:6] * [1, -1] + [0, 1], np.nan))

    def _move(self, name: str, vertices: Float[ndarray, "V 3"], rows) -> None:
        normals = vertex_normals(vertices, self.faces[name])[rows]
        self.params[f"{name}.vertex_positions"] = _aligned(vertices[rows])
        self.params[f"{name}.vertex_normals"] = _aligned(normals)


def _mesh(name: str, n: int, faces: ndarray, bsdf: dict, uv: ndarray | None, colors: ndarray | None = None):
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(bsdf)
    mesh = mi.Mesh(name, n, len(faces), has_vertex_normals=True, has_vertex_texcoords=uv is not None, props=properties)
    mesh.set_id(name)
    if colors is not None:
        mesh.add_attribute("vertex_color", 3, np.float32(colors).ravel())
    params = mi.traverse(mesh)
    params["faces"] = np.uint32(faces).ravel()
    if uv is not None:
        params["vertex_texcoords"] = np.float32(uv).ravel()
    params.update()
    return mesh


def _film(size: int) -> dict:
    # The box filter gives every sample to one pixel: pictures do not depend on the order of blocks, and the denoiser
    # sees independent pixels.
    return {"type": "hdrfilm", "width": size, "height": size, "pixel_format": "rgba", "rfilter": {"type": "box"}}


def _aligned(values: ndarray) -> Float[ndarray, " N"]:
    """A flat float32 copy that starts on a cache line.

    DrJit takes arrays over without copying and compiles other code where they start elsewhere, so that without this
    every pose would be compiled anew, which takes longer than the photograph.
    """
    flat = np.empty(values.size + LINE // 4, np.float32)
    start = -flat.ctypes.data % LINE // 4
    flat = flat[start : start + values.size]
    flat[:] = values.ravel()
    return flat


def _on_curve(points: Float[ndarray, "S P 3"], radius: Float[ndarray, "S P"]) -> Float[ndarray, "S P-2 4"]:
    """Where the B-splines of these control points have their joints, with radii.

    The polylines between them cannot be told from the curves in a picture, and rays meet them sooner.
    """
    x = np.concatenate([points, radius[..., None]], -1)
    return (x[:, :-2] + 4 * x[:, 1:-1] + x[:, 2:]) / 6


def _surroundings(there: Bool[ndarray, "H W"]) -> tuple[slice, slice]:
    """The rows and columns of a person with MARGIN around, in whole multiples of it: few different sizes."""
    spans = []
    for axis, size in ((1, there.shape[0]), (0, there.shape[1])):
        found = np.flatnonzero(there.any(axis)) if there.any() else np.arange(size)
        low, high = max(found[0] // MARGIN - 1, 0), found[-1] // MARGIN + 2
        spans.append(slice(low * MARGIN, min(high * MARGIN, size)))
    return tuple(spans)


def _write_strands(path: Path, strands: Float[ndarray, "S P 4"]) -> None:
    line = "%.6f %.6f %.6f %.7f\n" * strands.shape[1] + "\n"
    path.write_text("".join(line % tuple(strand.ravel()) for strand in strands))
