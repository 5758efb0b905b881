"""Make the pictures of clips, one file a shot, and put whole clips together.

A shot is kept as an RGBA file (the matte as alpha) until its clip is complete, so a run that was stopped goes on
where it was. Everything depends on the plan alone: two processes, or two runs, give the same bytes.
"""

import hashlib
import os
import shutil
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import drjit as dr
import numpy as np
import torch
from PIL import Image

from data_scripts.worlds.identity import Identities
from data_scripts.worlds.person import Body
from data_scripts.worlds.photo.picture import Scene
from data_scripts.worlds.worlds import WORLDS, ClipPlan, face_box, plan_clip
from sa0lib.datasets import Record, whole_folder, write_sequence
from sa0lib.head import Head, load_head
from sa0lib.profile import WorldSize

VERSION = 2  # raise it when a change gives other pictures (`python -m data_scripts.worlds --check 0.1` tells)
DETAIL = 512  # px: pictures of this size show every hair and the finest texture that is painted
TEXELS = 1024  # side of the skin's maps there


@lru_cache(maxsize=1)
def makers() -> tuple[Head, Identities]:
    """What all clips need, loaded once per process; every process works on one thread."""
    dr.set_thread_count(1)
    torch.set_num_threads(1)
    head = load_head()
    return head, Identities(head)


@lru_cache(maxsize=2)
def _clip(world: str, size: WorldSize, index: int) -> ClipPlan:
    return plan_clip(WORLDS[world], size, index, *makers())


def fingerprint(size: WorldSize, variant: str) -> str:
    """What finished pictures are kept for: generator, head model, size and renderer, in one word."""
    renderer = (variant, version("mitsuba"), version("pyoidn"))
    return hashlib.sha256(f"{VERSION} {makers()[0].basis} {size} {renderer}".encode()).hexdigest()[:16]


def shot_file(parts: Path, frame: int, camera: int) -> Path:
    """Where a shot waits for the others of its clip."""
    return parts / f"{frame:05d}_{camera:02d}.png"


def _is_whole(file: Path) -> bool:
    """Can it be decoded? A machine that went down may leave a file without its end."""
    try:
        with Image.open(file) as picture:
            picture.load()
        return True
    except (OSError, SyntaxError):  # missing, cut, or a chunk that is none
        return False


def make_shots(
    world: str, size: WorldSize, index: int, shots: list[tuple[int, int]], parts: Path, variant: str
) -> None:
    """Photograph (frame, camera) pairs of a clip into `parts`, those that are not there whole yet."""
    missing = [shot for shot in shots if not _is_whole(shot_file(parts, *shot))]
    if not missing:
        return
    clip, (head, _) = _clip(world, size, index), makers()
    share = min(size.pixels / DETAIL, 1.0)
    texels = max(TEXELS // 4, min(TEXELS, 1 << (2 * size.pixels - 1).bit_length()))
    body = Body(clip.person, head, texels, strands=max(share, 0.1))
    scene, posed = Scene(body, clip.stage, size.pixels, variant), None
    parts.mkdir(parents=True, exist_ok=True)
    for frame, camera in missing:
        if frame != posed:
            scene.pose(body.pose({name: value[frame : frame + 1] for name, value in clip.params.items()}))
            posed = frame
        seed = int(np.random.default_rng([clip.person.seed, frame, camera]).integers(2**31))
        shot = scene.shoot(clip.cameras[camera], size.samples, seed)
        file = shot_file(parts, frame, camera)
        beside = file.with_name(f".{os.getpid()}_{file.name}")
        Image.fromarray(np.dstack([shot.image, shot.mask])).save(beside, compress_level=1)
        os.replace(beside, file)


def assemble(world: str, size: WorldSize, index: int, parts: Path, out: Path) -> None:
    """Write a complete clip as a sequence at `out` and remove its loose shots."""
    clip, (head, _) = _clip(world, size, index), makers()

    def records():
        for frame, camera in clip.shots:
            pixels = np.asarray(Image.open(shot_file(parts, frame, camera)))
            params = {name: value[frame] for name, value in clip.params.items()}
            yield Record(
                image=np.ascontiguousarray(pixels[..., :3]),
                mask=np.ascontiguousarray(pixels[..., 3]),
                camera=clip.cameras[camera],
                params=params | {"shape": clip.person.shape[0]},
                face_box=face_box(head, clip, frame, clip.cameras[camera]),
                split=clip.split(frame),
                timestep=frame,
                camera_index=camera,
                extra={"seconds": clip.seconds[frame]},
            )

    with whole_folder(out) as folder:
        write_sequence(folder, records(), head.basis)
    shutil.rmtree(parts)
