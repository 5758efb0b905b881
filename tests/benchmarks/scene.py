"""What is timed: the refined avatar of the quickstart, posed to one of its frames, and the refining of that avatar."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sa0lib.avatar import PosedFrames, load_posed_frames
from sa0lib.binding import triangle_frames
from sa0lib.camera import Camera
from sa0lib.datasets import Sequence
from sa0lib.gaussians import Gaussians, load_ply
from sa0lib.head import Head, load_head
from sa0lib.profile import current_profile
from sa0lib.refine import ATTRIBUTES, RefineConfig, Refiner
from sa0lib.rotation import quaternion_to_matrix


@dataclass(frozen=True)
class Subject:
    """An avatar and where its frames lie on disk."""

    head: Head  # its device is where frames and refinement live
    gaussians: Gaussians  # on the CPU
    data: Path

    @classmethod
    def load(cls, data: Path, avatar: Path, device: str = "cpu") -> "Subject":
        """The dataset folder and the PLY that `sa0lib.refine` made of it. Raises what `load_ply` raises."""
        return cls(load_head().to(device), load_ply(avatar), data)

    def frames(self, size: int, count: int | None = None) -> PosedFrames:
        """`count` evenly spaced training frames, or all, at `size` pixels, their meshes posed."""
        return load_posed_frames(self.head, Sequence(self.data, "train", size), count)


@dataclass(frozen=True)
class Scene:
    """Gaussians in the world, as `rasterization` takes them, and the one camera that sees them."""

    name: str  # "avatar", or "resampled" after a change of the count
    gaussians: tuple[Tensor, ...]  # means [N, 3] m, quats [N, 4] wxyz, scales [N, 3] m, opacities [N], colors [N, D]
    camera: Camera

    def __len__(self) -> int:
        return len(self.gaussians[0])

    @property
    def channels(self) -> int:
        """D, the channels of the colours."""
        return self.gaussians[4].shape[1]

    def resized(self, size: int) -> "Scene":
        """The same view on `size` x `size` pixels."""
        return replace(self, camera=self.camera.resized(size, size))

    def with_channels(self, channels: int) -> "Scene":
        """Its own colours where it has as many channels, noise otherwise."""
        if channels == self.channels:
            return self
        noise = torch.rand(len(self), channels, generator=torch.Generator().manual_seed(0))
        return replace(self, gaussians=(*self.gaussians[:4], noise.to(self.gaussians[4])))

    def resampled(self, count: int) -> "Scene":
        """About the same picture from another number of Gaussians: n of them, from n0.

        Scales change by sqrt(n0 / n), so that the sum of all areas, and with it the overlap, stays. Fewer: a random
        subset. More: copies, each moved by a sample of its original's Gaussian that is sqrt(1 - n0 / n) as wide; the
        copies of one together then have its covariance.
        """
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(self), generator=generator)[torch.arange(count) % len(self)]
        means, quats, scales, opacities, colors = (values[chosen] for values in self.gaussians)
        ratio = len(self) / count
        noise = torch.randn(count, 3, generator=generator) * max(1 - ratio, 0) ** 0.5
        moved = (quaternion_to_matrix(quats) @ (scales * noise)[..., None])[..., 0]  # [n, 3] m
        return replace(self, name="resampled", gaussians=(means + moved, quats, scales * ratio**0.5, opacities, colors))

    def to(self, device: str) -> "Scene":
        """`Tensor.to` on everything."""
        return replace(
            self, gaussians=tuple(values.to(device) for values in self.gaussians), camera=self.camera.to(device)
        )


@torch.no_grad()
def posed(subject: Subject, train: PosedFrames) -> Scene:
    """The avatar as the camera of the middle one of these frames sees it."""
    i = len(train) // 2
    means, quats, scales, opacities, colors = subject.gaussians.world(
        triangle_frames(train.vertices[i : i + 1], subject.head.faces)
    )
    return Scene("avatar", (means[0], quats[0], scales[0], opacities, colors), train.cameras[i])


def refiner_of(subject: Subject, train: PosedFrames) -> Refiner:
    """A refinement that goes on from the avatar, at an iteration at which Eq. (4) is part of the objective.

    Raises:
        ValueError: the avatar was refined at another rung of the ladder than SA0_PROFILE names now.
    """
    config = RefineConfig(image_size=train.images.shape[-1], uv_size=current_profile().uv_size)
    refiner = Refiner(subject.head, train, config)
    if len(refiner.gaussians) != len(subject.gaussians):
        raise ValueError(
            f"the avatar has {len(subject.gaussians)} Gaussians, the {current_profile().name} rung refines "
            f"{len(refiner.gaussians)}: set SA0_PROFILE to the rung that it was refined at"
        )
    with torch.no_grad():
        for name in ATTRIBUTES:
            getattr(refiner.gaussians, name).copy_(getattr(subject.gaussians, name))
    refiner.iteration = config.aspect_from
    return refiner
