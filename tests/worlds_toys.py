"""Small generated people, stages and an executor for tests of data_scripts.worlds."""

from concurrent.futures import Executor, Future
from dataclasses import fields, is_dataclass, replace

import numpy as np
import torch

from data_scripts.worlds.person import Person, sample_person
from data_scripts.worlds.photo.stage import ENV, Stage
from data_scripts.worlds.traits import Traits
from sa0lib.camera import Camera, intrinsics, orbit

AVERAGE = Traits(gender=0.5, age=40, muscle=0.5, weight=0.5, height=0.5, african=1 / 3, asian=1 / 3, caucasian=1 / 3)
GRAY = 0.25  # linear value of `even_stage`'s backdrop


def bald_person(identities, seed: int = 3) -> Person:
    """Somebody without hair on scalp and chin, glasses or cap: what is in front of the skin is known."""
    person = sample_person(seed, "a", identities)
    beard = replace(person.hair.beard, name="none")
    return replace(person, hair=replace(person.hair, style=None, beard=beard), glasses=False, cap=False)


def even_stage(size: int, lamp=(0.0, 0.5, 1.6), power: float = 0.0, lamp_size: float = 0.5, env=1.0) -> Stage:
    """The same light from everywhere (or `env`, a map of it), a lamp, and a gray backdrop."""
    env = np.ascontiguousarray(np.broadcast_to(env, (*ENV, 3)), np.float32)
    return Stage(env, lamp, lamp_size, (power,) * 3, np.full((size, size, 3), GRAY, np.float32), 1.0)


def front_camera(size: int, distance: float = 1.0, azimuth: float = 0.0, span: float = 0.38) -> Camera:
    """A camera that sees `span` metres of a head from before it; positive azimuth is the subject's left."""
    viewmat = orbit(azimuth, 0.05, distance, torch.tensor([0.0, -0.015, 0.0]))
    return Camera(intrinsics(size * distance / span, size, size), viewmat, size, size)


def differences(a, b, where: str = "") -> list[str]:
    """Where two trees of dataclasses, dicts, sequences, arrays and plain values differ."""
    if type(a) is not type(b):
        return [where]
    if is_dataclass(a):
        pairs = [(f.name, getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    elif isinstance(a, dict):
        pairs = [(name, a.get(name), b.get(name)) for name in {**a, **b}]
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            return [where]
        pairs = [(str(i), x, y) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return [] if np.array_equal(np.asarray(a), np.asarray(b)) else [where]
    return [found for name, x, y in pairs for found in differences(x, y, f"{where}.{name}")]


class Here(Executor):
    """Runs jobs at once in this process; before number `stop` (from 0) it behaves as if Ctrl-C were pressed."""

    def __init__(self, stop: int | None = None):
        self.stop, self.done = stop, 0

    def submit(self, function, /, *args, **kwargs) -> Future:
        if self.done == self.stop:
            raise KeyboardInterrupt
        self.done += 1
        job = Future()
        try:
            job.set_result(function(*args, **kwargs))
        except Exception as error:
            job.set_exception(error)
        return job
