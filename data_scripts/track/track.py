"""What tracking gives, and the one small file it can be packed into, without the video's pictures."""

import io
import json
import lzma
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from data_scripts.track.matte import MATTE, SIZE
from data_scripts.track.rig import Fit
from sa0lib.camera import Camera
from sa0lib.head import Head

LEVELS = 12  # steps of a packed matte
ERROR_STEP = 0.05  # px: resolution of a packed reprojection error
PROBES = 200  # vertices by which a head is recognised as the one that was tracked
PROBE_TOLERANCE = 1e-4  # m
NOTE = "Numbers and mattes derived from the video; no picture of it is inside. CC0; the video keeps its own licence."
FIT = ("shape", "expr", "rotation", "jaw", "eyes", "translation")


@dataclass
class Track:
    """A tracked video: everything the dataset needs but the pictures and the head."""

    meta: dict  # source, sha256, width, height, fps, basis, reasons of all frames, seconds by stage
    kept: Int[np.ndarray, " N"]  # number in the video of every frame kept
    squares: Float[np.ndarray, "N 3"]  # crop in px of the video: x0, y0, side
    face_boxes: Float[np.ndarray, "N 4"]  # px of the crop: x0, y0, x1, y1
    errors: Float[np.ndarray, "N 68"]  # reprojection of the iBUG points, px of the crop
    mattes: UInt8[np.ndarray, "N M M"]
    fit: Fit

    def camera(self, i: int) -> Camera:
        """The crop's camera: it stands in front of the head, where the head of the fit is on average at the origin."""
        (x0, y0, side), focal = self.squares[i].tolist(), self.fit.focal
        zoom = SIZE / side
        K = torch.eye(3)
        K[0, 0] = K[1, 1] = focal * zoom
        K[0, 2], K[1, 2] = (self.meta["width"] / 2 - x0) * zoom, (self.meta["height"] / 2 - y0) * zoom
        viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        viewmat[2, 3] = self.distance
        return Camera(K, viewmat, SIZE, SIZE)

    @property
    def distance(self) -> float:
        """From the camera to the origin of the dataset, m."""
        return -float(self.fit.translation[:, 2].median())

    def params(self, i: int) -> dict[str, torch.Tensor]:
        """Head.forward's keywords for kept frame i, the origin at `distance` in front of the camera."""
        params = self.fit.params(i)
        return params | {"translation": params["translation"] + torch.tensor([0.0, 0.0, self.distance])}


def rounded(track: Track) -> Track:
    """The track with the precision that `pack` keeps, so that packed and unpacked datasets are equal."""
    fit = track.fit
    levels = np.rint(track.mattes.astype(np.float32) * (LEVELS / 255))
    return Track(
        meta=track.meta,
        kept=track.kept,
        squares=track.squares.astype(np.float32),
        face_boxes=track.face_boxes.astype(np.float16).astype(np.float32),
        errors=np.rint(np.minimum(track.errors, 255 * ERROR_STEP) / ERROR_STEP) * ERROR_STEP,
        mattes=np.rint(levels * (255 / LEVELS)).astype(np.uint8),
        fit=Fit(**{name: getattr(fit, name) for name in FIT} | {"expr": fit.expr.half().float()}, focal=fit.focal),
    )


def pack(track: Track, head: Head, path: Path) -> None:
    """Write a rounded track to one npz, atomically."""
    levels = np.rint(track.mattes.astype(np.float32) * (LEVELS / 255)).astype(np.uint8)
    arrays = {name: getattr(track.fit, name).numpy() for name in FIT}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        meta=np.array(json.dumps(track.meta | {"note": NOTE})),
        kept=track.kept.astype(np.int32),
        squares=track.squares,
        face_boxes=track.face_boxes.astype(np.float16),
        errors=np.rint(track.errors / ERROR_STEP).astype(np.uint8),
        mattes=np.frombuffer(lzma.compress(levels.tobytes(), preset=9), np.uint8),
        focal=np.array(track.fit.focal),
        probes=_probes(track, head),
        **(arrays | {"expr": arrays["expr"].astype(np.float16)}),
    )
    part = path.with_suffix(".part")
    part.write_bytes(buffer.getvalue())
    os.replace(part, path)


def unpack(path: Path, head: Head) -> Track:
    """Read a packed track.

    Raises ValueError if the file is damaged, or if its codes give another shape on `head`: then its expression
    directions are not those that the video was tracked with.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        meta = json.loads(str(arrays["meta"]))
        del meta["note"]
        levels = np.frombuffer(lzma.decompress(arrays["mattes"].tobytes()), np.uint8).reshape(-1, MATTE, MATTE)
        codes = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in FIT}
        track = Track(
            meta=meta,
            kept=arrays["kept"],
            squares=arrays["squares"],
            face_boxes=arrays["face_boxes"].astype(np.float32),
            errors=arrays["errors"] * ERROR_STEP,
            mattes=np.rint(levels * (255 / LEVELS)).astype(np.uint8),
            fit=Fit(**codes, focal=float(arrays["focal"])),
        )
    except Exception as error:  # zip, lzma, json and numpy each have their own
        raise ValueError(f"{path} is damaged ({error!r}): take it from the repository again") from error
    probes = _probes(track, head)
    off = np.inf if probes.shape != arrays["probes"].shape else np.abs(probes - arrays["probes"]).max()
    if off > PROBE_TOLERANCE:
        raise ValueError(
            f"{path}: tracked with {meta['basis']}, this head is {head.basis} and its vertices lie up to "
            f"{off * 1000:.1f} mm elsewhere. Track again: `make track` on the clip with --pack {path}"
        )
    return track


def _probes(track: Track, head: Head) -> Float[np.ndarray, "3 P 3"]:
    """Some vertices of the first, the middle and the last frame."""
    places = np.linspace(0, len(head.v_template) - 1, PROBES).astype(int)
    n = len(track.kept)
    with torch.no_grad():
        return np.stack([head(**track.params(i))[0, places].numpy() for i in (0, n // 2, n - 1)])
