"""A clip: one split of a sequence as numbers in memory and pictures still encoded, ready to draw views from.

Numbers are those on disk (pixels of the stored size); `Clip.views` decodes what was chosen and brings it to the size
asked for. Where the pictures lie, in files or in the bytes of a shard, makes no difference here.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sa0lib.datasets.layout import inside
from sa0lib.datasets.manifest import SequenceEntry
from sa0lib.datasets.pictures import decode, reduce, resized
from sa0lib.datasets.sequence import Sequence
from sa0lib.head import WIDTHS, viewing_direction


class Views(NamedTuple):
    """Pictures and everything known about them; leading dimensions are [...]. A tuple, so that torch collates it."""

    image: UInt8[Tensor, "... 3 H W"] | Float[Tensor, "... 3 H W"]  # 0..255 with the background; in [0, 1] once float
    mask: UInt8[Tensor, "... 1 H W"] | Float[Tensor, "... 1 H W"]  # matte, likewise
    K: Float[Tensor, "... 3 3"]  # intrinsics, pixels of this size
    viewmat: Float[Tensor, "... 4 4"]  # world to camera, OpenCV axes, metres
    params: dict[str, Float[Tensor, "... _"]]  # exactly Head.forward's keywords
    face_box: Float[Tensor, "... 4"]  # px x0 y0 x1 y1 of this size
    timestep: Int[Tensor, "..."]
    camera_index: Int[Tensor, "..."]

    def map(self, function) -> "Views":
        """The same with `function` applied to every tensor."""
        return Views(*({k: function(t) for k, t in v.items()} if isinstance(v, dict) else function(v) for v in self))


@dataclass
class Clip:
    """N pictures of one person. Raises ValueError if two of them are of the same timestep and camera."""

    name: str  # of its sequence in the collection
    identity: str
    basis: str  # the head model that params belong to
    K: Float[Tensor, "N 3 3"]
    viewmat: Float[Tensor, "N 4 4"]
    size: Int[Tensor, "N 2"]  # stored width and height, pixels
    params: dict[str, Float[Tensor, "N _"]]
    face_box: Float[Tensor, "N 4"]
    timestep: Int[Tensor, " N"]
    camera_index: Int[Tensor, " N"]
    images: list[Path | bytes] = field(repr=False)  # N encoded pictures
    masks: list[Path | bytes] = field(repr=False)  # N encoded mattes
    origin: str = ""  # what errors call the place this came from

    def __post_init__(self):
        shown = list(zip(self.timestep.tolist(), self.camera_index.tolist(), strict=True))
        if len(set(shown)) < len(shown):
            first = next(pair for i, pair in enumerate(shown) if pair in shown[:i])
            raise ValueError(f"{self.origin}: two frames with timestep {first[0]} and camera_index {first[1]}")

    def __len__(self) -> int:
        return len(self.timestep)

    @cached_property
    def direction(self) -> Float[Tensor, "N 3"]:
        """Viewing directions in the frame of the skull, see `viewing_direction`."""
        return viewing_direction(self.params, self.viewmat)

    def take(self, chosen: list[int]) -> "Clip":
        """These frames alone, as a clip of their own."""
        tensors = ("K", "viewmat", "size", "face_box", "timestep", "camera_index")
        numbers = {name: getattr(self, name)[chosen] for name in tensors}
        params = {name: codes[chosen] for name, codes in self.params.items()}
        pictures = {name: [getattr(self, name)[i] for i in chosen] for name in ("images", "masks")}
        return replace(self, params=params, **numbers, **pictures)

    def views(self, chosen: list[int], size: int | None = None) -> Views:
        """The chosen frames as Views [n, ...]; pictures are uint8, their longer side `size` pixels (None: as stored).

        Raises ValueError: a picture is damaged or not of its stated size, or the frames' sizes differ.
        """
        sizes = {resized(tuple(self.size[i].tolist()), size) for i in chosen}
        if len(sizes) > 1:
            raise ValueError(
                f"{self.origin}: frames {chosen} have sizes {sorted(sizes)}; crop them alike to batch them"
            )
        (to,) = sizes
        factor = torch.tensor(to) / self.size[chosen]  # [n, 2], x and y
        return Views(
            torch.stack([self._picture(i, self.images, "RGB", "file_path", to) for i in chosen]),
            torch.stack([self._picture(i, self.masks, "L", "fg_mask_path", to) for i in chosen]),
            self.K[chosen] * torch.cat([factor, torch.ones(len(chosen), 1)], 1)[..., None],
            self.viewmat[chosen],
            {name: value[chosen] for name, value in self.params.items()},
            self.face_box[chosen] * factor.repeat(1, 2),
            self.timestep[chosen],
            self.camera_index[chosen],
        )

    def _picture(self, i: int, encoded: list[Path | bytes], mode: str, label: str, to: tuple[int, int]) -> Tensor:
        source, size = encoded[i], tuple(self.size[i].tolist())
        where = str(source) if isinstance(source, Path) else f"{self.origin}: {label} of frame {i}"
        picture = decode(source, mode, size, where, self.origin)
        if to != size:
            picture = reduce(picture, to).round().astype(np.uint8)
        return torch.from_numpy(picture)


def read_clip(root: Path, entry: SequenceEntry, split: str) -> Clip:
    """A clip from its folder `root/entry.name`.

    Raises FileNotFoundError, ValueError: what `Sequence` raises, or the frames or the basis are not as the entry says.
    """
    sequence = Sequence(inside(root, entry.name, "the sequence's name"), split)
    count = entry.splits[split].frames
    if len(sequence) != count:
        raise ValueError(f"{sequence.path} has {len(sequence)} frames, the manifest says {count}: write it again")
    if sequence.basis != entry.basis:
        raise ValueError(f"{sequence.path}: codes_basis is {sequence.basis!r}, the manifest says {entry.basis!r}")
    cameras = [sequence.camera(i) for i in range(count)]
    params = [sequence.params(i) for i in range(count)]
    files = [sequence.files(i) for i in range(count)]
    return Clip(
        name=entry.name,
        identity=entry.identity,
        basis=entry.basis,
        K=torch.stack([camera.K for camera in cameras]),
        viewmat=torch.stack([camera.viewmat for camera in cameras]),
        size=torch.tensor([[camera.width, camera.height] for camera in cameras]),
        params={name: torch.cat([codes[name] for codes in params]) for name in WIDTHS},
        face_box=torch.stack([sequence.face_box(i) for i in range(count)]),
        timestep=torch.tensor([sequence.timestep(i) for i in range(count)]),
        camera_index=torch.tensor([sequence.camera_index(i) for i in range(count)]),
        images=[image for image, _ in files],
        masks=[mask for _, mask in files],
        origin=str(sequence.path),
    )
