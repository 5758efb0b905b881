"""The five worlds: who is in each, where, and how it is filmed. Sizes are the profile's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data_scripts.worlds.acting import Mood, codes, perform
from data_scripts.worlds.identity import Identities
from data_scripts.worlds.person import Person, sample_person
from data_scripts.worlds.photo.stage import Place, Stage, capture_ring, free_camera, sample_stage
from data_scripts.worlds.traits import Family
from sa0lib.camera import Camera
from sa0lib.head import Head
from sa0lib.profile import Profile, WorldSize

FPS = 25.0  # of the performances that frames are taken from


@dataclass(frozen=True)
class World:
    """One world, in the part of a dataset of the paper."""

    name: Literal["celeb", "studio", "wild", "podium", "subjects"]
    plays: str  # whose part it takes
    seed: int  # of its first person; the others follow
    family: Family  # how people are made
    places: tuple[Place, ...]
    moods: tuple[Mood, ...]
    seconds: float  # of performance for each frame that is kept
    split: Literal["train", "test", "time"]  # where frames go; "time": the last ones of a clip are held out


WORLDS = {
    w.name: w
    for w in (
        World("celeb", "CelebV-HQ", 1_000_000, "a", ("anywhere",), ("talk", "listen", "act", "calm"), 0.8, "train"),
        World("studio", "NeRSemble v2", 2_000_000, "a", ("capture hall",), ("act",), 1.2, "train"),
        World("wild", "VFHQ", 3_000_000, "b", ("outdoors", "anywhere"), ("talk", "act"), 0.6, "test"),
        World("podium", "HDTF", 4_000_000, "c", ("lectern",), ("talk",), 0.6, "test"),
        World("subjects", "SplattingAvatar", 5_000_000, "a", ("home",), ("talk",), 0.08, "time"),
    )
}


@dataclass(frozen=True)
class ClipPlan:
    """All that decides one clip's pictures, before any is made."""

    world: World
    size: WorldSize
    index: int  # of the clip in its world
    person: Person
    stage: Stage
    mood: Mood
    params: dict[str, Tensor]  # Head.forward's keywords without the shape, [frames, _]
    seconds: list[float]  # time of each frame in the performance
    cameras: list[Camera]

    @property
    def name(self) -> str:
        return f"{self.index:06d}"

    @property
    def shots(self) -> list[tuple[int, int]]:
        """(frame, camera) of every picture."""
        return [(t, c) for t in range(self.size.frames) for c in range(len(self.cameras))]

    def split(self, frame: int) -> str:
        """Which of the three transforms files a frame belongs to."""
        if self.world.split == "time":
            return "test" if frame >= self.size.frames - self.size.held_out else "train"
        return "test" if self.index >= self.size.sequences else self.world.split


def n_clips(world: World, size: WorldSize) -> int:
    """Clips of a world, the held-out people among them."""
    return size.sequences + (0 if world.split == "time" else size.held_out)


def world_size(world: World, profile: Profile) -> WorldSize:
    """What the profile says about a world."""
    return getattr(profile, world.name)


def plan_clip(world: World, size: WorldSize, index: int, head: Head, identities: Identities) -> ClipPlan:
    """Draw clip `index`: person, stage, performance and cameras; the same for the same numbers."""
    seed = world.seed + index
    person = sample_person(seed, world.family, identities)
    stage_rng, acting_rng, camera_rng = np.random.default_rng([seed, 2]).spawn(3)
    place, mood = (options[index % len(options)] for options in (world.places, world.moods))
    every = max(round(world.seconds * FPS), 1)  # frames of the performance for each that is kept
    kept = np.arange(size.frames) * every
    performance = perform(acting_rng, int(kept[-1]) + 1, FPS, mood).at(kept)
    params = {name: value for name, value in codes(performance, head, person.shape).items() if name != "shape"}
    if size.cameras > 1:
        cameras = capture_ring(size.pixels, size.cameras)
    else:
        cameras = [free_camera(camera_rng, place, size.pixels)]
    return ClipPlan(
        world=world,
        size=size,
        index=index,
        person=person,
        stage=sample_stage(stage_rng, place, size.pixels),
        mood=mood,
        params=params,
        seconds=[round(float(k / FPS), 3) for k in kept],
        cameras=cameras,
    )


def face_box(head: Head, clip: ClipPlan, frame: int, camera: Camera) -> tuple[float, float, float, float]:
    """px x0 y0 x1 y1 around the face's landmarks, with a tenth of its size added, inside the picture."""
    with torch.no_grad():
        vertices = head(shape=clip.person.shape, **{k: v[frame : frame + 1] for k, v in clip.params.items()})
        points, _ = camera.project(head.landmarks(vertices, "478")[0])
    low, high = points.min(0).values, points.max(0).values
    margin = 0.1 * (high - low)
    box = torch.cat([low - margin, high + margin]).clamp(0, clip.size.pixels)
    return tuple(float(v) for v in box)
