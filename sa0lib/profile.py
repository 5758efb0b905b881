"""The scale ladder: one switch, the environment variable SA0_PROFILE, decides how large every run is.

Code is the same on every rung; only the fields below differ. A recorded number always says its rung.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class WorldSize:
    """How much of a generated world is made."""

    sequences: int  # clips, one person each
    frames: int  # instants of each
    pixels: int  # side of the square pictures
    samples: int  # light paths a pixel, before denoising
    cameras: int = 1  # synchronised ones
    held_out: int = 0  # further people kept for testing; of `subjects`, the last frames of each clip


@dataclass(frozen=True)
class Profile:
    """The sizes of one rung."""

    name: str  # smoke | desk | workstation | paper
    machine: str  # what it is meant for, in words
    image_size: int  # px: side of the square frames that a chapter fits and scores
    uv_size: int  # texels: side of the UV map; 256 gives about 58,000 Gaussians
    n_frames: int | None  # training frames taken from a clip, evenly spaced; None takes all
    n_eval_frames: int | None  # held-out frames that are scored, evenly spaced; None takes all
    quick_iters: int  # refinement steps that chapter 00 runs before the reader's eyes
    refine_iters: int  # refinement steps of a recorded result; the paper has 10,000
    generator_steps: int  # training steps that chapter 04 runs before the reader's eyes
    turntable_frames: int  # views of a turntable
    sweep_frames: int  # steps of an expression sweep
    demo_size: int  # px: side of the pictures that chapter 02 splats densely
    n_gaussians_demo: int  # Gaussians in those pictures
    celeb: WorldSize  # the generated worlds of chapter 10 ...
    studio: WorldSize
    wild: WorldSize
    podium: WorldSize
    subjects: WorldSize


PROFILES = {
    p.name: p
    for p in (
        Profile(
            name="smoke",
            machine="any CPU, seconds a notebook: every line runs, the numbers mean nothing",
            image_size=64,
            uv_size=64,
            n_frames=6,
            n_eval_frames=2,
            quick_iters=4,
            refine_iters=8,
            generator_steps=3,
            turntable_frames=4,
            sweep_frames=3,
            demo_size=48,
            n_gaussians_demo=64,
            celeb=WorldSize(3, 5, 32, 4, held_out=1),
            studio=WorldSize(2, 5, 32, 4, cameras=5),
            wild=WorldSize(2, 2, 32, 4),
            podium=WorldSize(2, 2, 32, 4),
            subjects=WorldSize(1, 6, 48, 4, held_out=2),
        ),
        Profile(
            name="desk",
            machine="two CPU cores, minutes a notebook, up to an hour a table: the numbers that the book shows",
            image_size=256,
            uv_size=256,
            n_frames=None,
            n_eval_frames=None,
            quick_iters=1_000,
            refine_iters=10_000,
            generator_steps=200,
            turntable_frames=36,
            sweep_frames=12,
            demo_size=128,
            n_gaussians_demo=800,
            celeb=WorldSize(400, 8, 128, 25, held_out=40),
            studio=WorldSize(17, 6, 128, 25, cameras=16),
            wild=WorldSize(25, 12, 128, 25),
            podium=WorldSize(19, 12, 128, 25),
            subjects=WorldSize(6, 300, 512, 6, held_out=100),
        ),
        Profile(
            name="workstation",
            machine="one GPU, up to two hours a table",
            image_size=512,
            uv_size=256,
            n_frames=None,
            n_eval_frames=None,
            quick_iters=2_000,
            refine_iters=10_000,
            generator_steps=1_000,
            turntable_frames=72,
            sweep_frames=24,
            demo_size=256,
            n_gaussians_demo=4_000,
            celeb=WorldSize(2_000, 8, 256, 36, held_out=40),
            studio=WorldSize(17, 24, 256, 36, cameras=16),
            wild=WorldSize(50, 25, 256, 36),
            podium=WorldSize(19, 50, 256, 36),
            subjects=WorldSize(6, 1_000, 512, 16, held_out=350),
        ),
        Profile(
            name="paper",
            machine="the paper's own: one H100 and the gated data",
            image_size=512,
            uv_size=256,
            n_frames=None,
            n_eval_frames=None,
            quick_iters=10_000,
            refine_iters=10_000,
            generator_steps=2_000,
            turntable_frames=72,
            sweep_frames=24,
            demo_size=256,
            n_gaussians_demo=4_000,
            celeb=WorldSize(15_653, 8, 512, 16, held_out=40),
            studio=WorldSize(17, 48, 512, 16, cameras=16),
            wild=WorldSize(50, 50, 512, 16),
            podium=WorldSize(19, 100, 512, 16),
            subjects=WorldSize(10, 2_000, 512, 16, held_out=350),
        ),
    )
}


def current_profile() -> Profile:
    """The rung named by SA0_PROFILE; `desk` where it is not set. Raises ValueError for a name that is no rung."""
    name = os.environ.get("SA0_PROFILE", "desk")
    if name not in PROFILES:
        raise ValueError(f"SA0_PROFILE={name!r} is no rung of the ladder; it may be {', '.join(PROFILES)}")
    return PROFILES[name]
