"""Pictures of many people on OpenHead, for the calibration of its landmarks: who, how, and where every vertex is."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.head import Head
from sa0lib.mesh import overlay, vertex_normals

SIZE = 512  # px, pictures are square
OPEN_MOUTHS = 0.4  # part of the pictures with an open jaw, which tells the lips apart
SHAPE = 0.5  # spread of the identities
VIEW = np.array([0.32, 0.15])  # radians, spread of azimuth and elevation
FACING = 0.3  # cosine of the angle to the camera below which a place counts as hidden


@dataclass
class Views:
    """Pictures of random heads and where their vertices are."""

    images: UInt8[ndarray, "N H W 3"]
    points: Float[ndarray, "N V 3"]  # vertices in camera axes, metres
    facing: Float[ndarray, "N V"]  # cosine between a vertex's normal and the direction to the camera
    focal: Float[ndarray, " N"]  # px

    def project(self, corners: Int[ndarray, "C 3"], bary: Float[ndarray, "C 3"]):
        """Surface points in px [N, C, 2], px per mm [N, C], and whether they face the camera [N, C]."""
        p = np.einsum("nckd,ck->ncd", self.points[:, corners], bary)
        scale = self.focal[:, None] / p[..., 2]
        facing = np.einsum("nck,ck->nc", self.facing[:, corners], bary) > FACING
        return p[..., :2] * scale[..., None] + SIZE / 2, scale / 1000, facing


def paint(head: Head, rng: np.random.Generator, brows: ndarray | None) -> Float[ndarray, "V 3"]:
    """The head's own colours under another skin tone, but with eyebrows only where `brows` [V] says so."""
    colors = head.vertex_color.numpy().copy()
    region = np.array(head.region_names)[head.region.numpy()]
    eye = head.v_template.numpy()[region == "eye_left"]
    forehead = (region == "face") & (head.v_template.numpy()[:, 1] > eye.mean(0)[1] + 0.4 * np.ptp(eye[:, 1]))
    colors[forehead] = np.median(colors[forehead], axis=0)  # whatever brows the asset has been given
    skin = np.isin(region, ("face", "ears", "neck"))
    colors[skin] *= rng.uniform(0.5, 1.15) * rng.uniform(0.96, 1.04, 3)
    hair = rng.uniform(0.05, 0.35) * np.array([1.0, 0.75, 0.55])
    colors[region == "scalp"] = hair
    if brows is not None:
        colors += 0.8 * brows[:, None] * (hair - colors)
    return colors.clip(0, 1)


def render(head: Head, n: int, seed: int, brows: ndarray | None) -> Views:
    """n people with random expressions, gazes and views, before random blurred backgrounds."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    images, points, facing, focals = [], [], [], []
    for _ in range(n):
        scores = rng.uniform(0, 1, 52) * (rng.uniform(size=52) < rng.choice([0.0, 0.06, 0.12]))
        if rng.uniform() < OPEN_MOUTHS:
            scores[head.arkit_names.index("jawOpen")] = rng.uniform(0.1, 0.8)
        code = head.arkit(torch.from_numpy(scores.astype(np.float32))[None])
        gaze = (0.15 * draw(1, 2)).repeat(1, 2)  # both eyes the same way, up and sideways
        code["eyes"] = code["eyes"] + torch.cat([gaze[:, :2], torch.zeros(1, 1), gaze[:, 2:], torch.zeros(1, 1)], 1)
        vertices = head(shape=SHAPE * draw(1, 300), **code)[0]
        distance = float(rng.uniform(0.5, 1.5))
        target = vertices.mean(0) + 0.01 * draw(3)
        viewmat = orbit(*(VIEW * rng.standard_normal(2)).clip(-0.7, 0.7), distance, target)
        roll = torch.tensor(rng.uniform(-0.2, 0.2))
        turn = torch.eye(4)
        turn[:2, :2] = torch.stack([roll.cos(), -roll.sin(), roll.sin(), roll.cos()]).view(2, 2)
        focal = float(distance * SIZE * rng.uniform(2.2, 3.2))
        camera = Camera(intrinsics(focal, SIZE, SIZE), turn @ viewmat.float(), SIZE, SIZE)

        coarse = torch.from_numpy(rng.uniform(0, 0.9, (1, 1, 4, 4)) + rng.uniform(0, 0.1, (1, 3, 4, 4)))
        behind = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
        behind, colors = behind[0].permute(1, 2, 0), paint(head, rng, brows)
        key = ((rng.uniform(-1, 1), rng.uniform(-1, 0.2), -0.6), rng.uniform(0.5, 0.8))
        lights = (key, ((-key[0][0], -0.1, -0.6), rng.uniform(0, 0.2)))  # the second fills the shadows of the first
        images.append(overlay(behind, vertices, head.faces, camera, colors, opacity=1.0, lights=lights))
        R, t = camera.viewmat[:3, :3].numpy(), camera.viewmat[:3, 3].numpy()
        p = vertices.numpy() @ R.T + t
        normals = vertex_normals(vertices.numpy(), head.faces.numpy()) @ R.T
        points.append(p)
        facing.append(-(normals * p).sum(1) / np.linalg.norm(p, axis=1))
        focals.append(focal)
    stack = [np.array(x, np.float32) for x in (points, facing, focals)]
    return Views(np.array(images), *stack)
