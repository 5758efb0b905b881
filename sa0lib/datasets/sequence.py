"""Reader of a tracked or generated sequence on disk (layout: `sa0lib/datasets/layout.py`)."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sa0lib.camera import Camera, from_opengl_c2w
from sa0lib.datasets.layout import SOURCES, SPLITS, check_face_box, inside, integer, read_params, single, unique
from sa0lib.datasets.pictures import decode, reduce, resized

VHAP_BASIS = "FLAME 2023"  # VHAP does not write which model its codes belong to; this is its default
FINITE = float(np.finfo(np.float32).max)


@dataclass
class Frame:
    """One picture and everything known about it."""

    image: Float[Tensor, "3 H W"]  # in [0, 1], with its background
    mask: Float[Tensor, "1 H W"]  # matte in [0, 1]
    camera: Camera
    params: dict[str, Float[Tensor, "1 _"]]  # exactly Head.forward's keywords: radians, metres
    timestep: int
    camera_index: int
    face_box: Float[Tensor, "4"]  # px x0 y0 x1 y1 at this size


class Sequence:
    """One split of a sequence; `sequence[i]` is a Frame.

    Files of other tools are read as they are: a missing `face_box` becomes the matte's bounding box, a missing
    `codes_basis` is taken as VHAP's default, unknown keys are left alone. VHAP's `static_offset` (per-vertex metres on
    the template) is no argument of the head: it is kept as `sequence.static_offset` and announced by a warning, for
    the caller to add to `head.v_template`. `sequence.basis` says which head the codes belong to, for
    `Head.require_basis`.

    Args:
        root: the dataset's folder.
        split: "train", "val" or "test".
        size: longer side of the pictures in pixels, or None for the size on disk. Pictures are reduced by area
            averaging and K is scaled with them.

    Raises:
        FileNotFoundError: the split or a file it names is missing.
        ValueError: a file is damaged, a field is missing, of another type or size or not finite, a path leaves
            `root`, two frames have one picture, a picture is not of the size its entry states, or the codes' basis is
            unknown or changes.
    """

    def __init__(self, root: Path | str, split: str, size: int | None = None):
        self.root, self.split, self.size = Path(root), split, size
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
        if size is not None and size < 1:
            raise ValueError(f"size must be a positive number of pixels, not {size}")
        self.path = self.root / f"transforms_{split}.json"
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is missing: {self.root} is no dataset in the VHAP layout")
        try:
            self.meta = json.loads(self.path.read_text(), object_pairs_hook=unique)
            self.entries = [{**self.meta, **entry} for entry in self.meta.pop("frames")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{self.path} is no list of frames ({error!r}): re-run the tool that wrote it") from error
        self._params: dict[str, dict[str, Tensor]] = {}  # by file: cameras of one instant share theirs
        self.static_offset = None
        self.basis = None
        shown: dict[Path, int] = {}  # picture -> its frame
        for i in range(len(self.entries)):
            self._check(i, shown)
        if self.entries:
            self._check_first()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Frame:
        camera = self.camera(i)
        image = self._picture(i, "file_path", "RGB")  # [3, H, W]
        mask = self._picture(i, "fg_mask_path", "L")  # [1, H, W]
        box = self._face_box(i, mask)
        return Frame(image, mask, camera, self.params(i), self.timestep(i), self.camera_index(i), box)

    def timestep(self, i: int) -> int:
        """The moment in time that frame i shows."""
        return self.entries[i]["timestep_index"]

    def camera_index(self, i: int) -> int:
        """Which of the synchronised cameras took frame i; 0 where there is one."""
        return self.entries[i]["camera_index"]

    def face_box(self, i: int) -> Float[Tensor, "4"]:
        """Frame i's face_box at the size asked for; the picture is not decoded, the matte only where it must be."""
        if "face_box" in self.entries[i]:
            return self._face_box(i, None)
        return self._face_box(i, self._picture(i, "fg_mask_path", "L"))

    def files(self, i: int) -> tuple[Path, Path]:
        """Frame i's picture and matte on disk."""
        return tuple(inside(self.root, self.entries[i][field], field) for field in ("file_path", "fg_mask_path"))

    def params(self, i: int) -> dict[str, Float[Tensor, "1 _"]]:
        """Head.forward's keywords for frame i, without decoding its picture."""
        relative = self.entries[i]["flame_param_path"]
        if relative not in self._params:
            self._params[relative] = self._read_params(relative)
        return dict(self._params[relative])

    def camera(self, i: int) -> Camera:
        """Frame i's camera at the size asked for, without decoding its picture."""
        entry = self.entries[i]
        K = torch.eye(3)
        for name, (row, col) in {"fl_x": (0, 0), "fl_y": (1, 1), "cx": (0, 2), "cy": (1, 2)}.items():
            K[row, col] = self._numbers(i, name, ())
        if not (K.diagonal() > 0).all():
            raise ValueError(f"{self.path}: frame {i}, fl_x and fl_y must be positive (a mirrored picture?)")
        c2w = self._numbers(i, "transform_matrix", (4, 4))
        try:
            viewmat = from_opengl_c2w(c2w)
        except ValueError as error:
            raise ValueError(f"{self.path}: frame {i}, transform_matrix: {error}") from error
        if c2w[3].tolist() != [0, 0, 0, 1]:
            raise ValueError(f"{self.path}: frame {i}, transform_matrix must end in the row 0 0 0 1 (transposed?)")
        camera = Camera(K, viewmat, entry["w"], entry["h"])
        size = resized((camera.width, camera.height), self.size)
        return camera if self.size is None else camera.resized(*size)

    def _check(self, i: int, shown: dict[Path, int]) -> None:
        entry = self.entries[i]
        needed = ("file_path", "fg_mask_path", "flame_param_path", "timestep_index", "transform_matrix", "w", "h")
        for field in (*needed, "fl_x", "fl_y", "cx", "cy"):
            if field not in entry:
                raise ValueError(f"{self.path}: frame {i} has no {field!r}")
        for field, least in {"w": 1, "h": 1, "timestep_index": 0, "camera_index": 0}.items():
            entry[field] = integer(entry.get(field, 0), least, f"{self.path}: frame {i}, {field}")
        for field in ("file_path", "fg_mask_path", "flame_param_path"):
            if not isinstance(entry[field], str):
                raise ValueError(f"{self.path}: frame {i}, {field} must be a path in quotes, not {entry[field]!r}")
            file = inside(self.root, entry[field], field)
            if not file.is_file():
                raise FileNotFoundError(f"{file} is missing (frame {i} of {self.path.name}): copy the whole dataset")
            if field == "file_path" and (first := shown.setdefault(file, i)) != i:
                raise ValueError(f"{self.path}: frames {first} and {i} have one {field}, {entry[field]!r}: remove one")

    def _check_first(self) -> None:
        """Basis and offsets, which belong to the subject: the first file speaks for all."""
        path = inside(self.root, self.entries[0]["flame_param_path"], "flame_param_path")
        _, others = read_params(path)
        self.basis = str(others["codes_basis"]) if "codes_basis" in others else VHAP_BASIS
        if not any(self.basis == source or self.basis.startswith(source + " ") for source in SOURCES):
            raise ValueError(f"{path}: unknown codes_basis {self.basis!r}; known are {', '.join(SOURCES)}")
        for field in ("static_offset", "dynamic_offset"):
            value = others.get(field, np.zeros(3))
            if value.dtype.kind not in "fiu" or value.size % 3 or not np.isfinite(single(value)).all():
                raise ValueError(f"{path}: {field} must be finite vectors of 3, not {value.shape} of {value.dtype}")
        if "dynamic_offset" in others and np.any(others["dynamic_offset"]):
            raise ValueError(f"{path}: dynamic_offset is not zero; a moving offset per vertex cannot be read here")
        if "static_offset" in others and np.any(others["static_offset"]):
            self.static_offset = torch.from_numpy(single(others["static_offset"])).reshape(-1, 3)
            millimetres = float(self.static_offset.norm(dim=-1).max()) * 1000
            warnings.warn(
                f"{path}: static_offset up to {millimetres:.1f} mm is not part of the codes; "
                "add it with head.v_template += sequence.static_offset",
                stacklevel=3,
            )

    def _read_params(self, relative: str) -> dict[str, Tensor]:
        path = inside(self.root, relative, "flame_param_path")
        params, others = read_params(path)
        basis = str(others["codes_basis"]) if "codes_basis" in others else VHAP_BASIS
        if basis != self.basis:
            raise ValueError(f"{path}: codes_basis {basis!r}, but the sequence begins with {self.basis!r}")
        return params

    def _numbers(self, i: int, field: str, shape: tuple[int, ...]) -> Tensor:
        value = np.array(self.entries[i][field], dtype=object)  # as they stand there: true is no 1.0
        if value.shape != shape or not all(type(v) in (int, float) and abs(v) <= FINITE for v in value.flat):
            raise ValueError(f"{self.path}: frame {i}, {field} must be finite numbers of shape {list(shape)}")
        return torch.from_numpy(value.astype(np.float32))

    def _picture(self, i: int, field: str, mode: str) -> Tensor:
        path = inside(self.root, self.entries[i][field], field)
        size = (self.entries[i]["w"], self.entries[i]["h"])
        picture = decode(path, mode, size, str(path), self.path.name)
        return torch.from_numpy(reduce(picture, resized(size, self.size))) / 255  # [C, H, W]

    def _face_box(self, i: int, mask: Tensor | None) -> Tensor:
        entry = self.entries[i]
        if "face_box" in entry:
            box = self._numbers(i, "face_box", (4,))
            check_face_box(box, (entry["w"], entry["h"]), f"{self.path}: frame {i}, face_box")
            return box * (resized((entry["w"], entry["h"]), self.size)[0] / entry["w"])
        rows, cols = torch.nonzero(mask[0] > 0.5, as_tuple=True)
        if not len(rows):
            raise ValueError(f"{self.path}: frame {i} has no face_box and an empty matte to take it from")
        return torch.stack([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]).float()
