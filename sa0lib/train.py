"""Training of the generator: the steps of one phase of App. A.2, and checkpoints.

A run that was stopped goes on from its checkpoint to the same numbers as one that never was.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from sa0lib.avatar import render
from sa0lib.binding import triangle_frames
from sa0lib.camera import Camera
from sa0lib.checkpoint import read_checkpoint, write_checkpoint
from sa0lib.datasets import Batch, to_float
from sa0lib.datasets.clip import Views
from sa0lib.generator_losses import PHASE_1, GeneratorWeights, generator_loss
from sa0lib.jacobian import jacobian_penalty
from sa0lib.losses import composite
from sa0lib.metrics import psnr
from sa0lib.nets import Generator, Prediction

GEOMETRY = ("means", "log_scales")  # what must not depend on the viewing direction, Eq. (3)


@dataclass(frozen=True)
class TrainConfig:
    """One phase. Defaults are Phase 1's."""

    steps: int
    lr: float = 2.5e-4  # paper, Adam
    clip_norm: float = 5.0  # paper: of the whole gradient
    weights: GeneratorWeights = field(default_factory=lambda: PHASE_1)
    seed: int = 0  # of backgrounds and of the Jacobian's projections
    checkpoint_every: int = 200  # steps
    data: str = ""  # names what it learns from, so that a run does not go on with other data


class Trainer:
    """The state of a run: generator, optimizer, random numbers, step. `step()` is one step."""

    def __init__(self, generator: Generator, config: TrainConfig):
        self.generator, self.config = generator, config
        self.trained = {n: p for n, p in generator.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.Adam(self.trained.values(), config.lr, fused=True)
        self.random = torch.Generator().manual_seed(config.seed)
        self.iteration = 0
        self.seconds = 0.0  # spent in `train`, over all the sessions of this run
        self.history: list[dict[str, float]] = []
        self.valid = generator.uv_map.valid.to(generator.start_means.device)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step on a batch, float in [0, 1], on the generator's device; returns its terms and PSNR."""
        prediction = self.generator(batch.sources, batch.target)
        backgrounds = torch.rand(len(batch.names), 3, generator=self.random).to(self.valid.device)
        rendered = render_batch(self.generator, prediction, batch.target, backgrounds)
        target = on_background(batch.target, backgrounds)
        jacobian = None
        if self.config.weights.jacobian:
            maps = [prediction.maps.attributes[name] for name in GEOMETRY]
            jacobian = jacobian_penalty(maps, prediction.gamma, self.valid, self.random)
        loss, terms = generator_loss(
            rendered,
            target,
            batch.target.face_box,
            *(prediction.maps.attributes[name] for name in GEOMETRY),
            prediction.maps.deltas,
            self.valid,
            jacobian,
            self.config.weights,
        )
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.config.clip_norm, error_if_nonfinite=True)
        self.optimizer.step()
        self.iteration += 1
        row = {"loss": loss.detach(), "gradient": norm, "psnr": psnr(rendered.detach(), target).mean(), **terms}
        return {name: float(value) for name, value in row.items()}

    def save(self, path: Path) -> None:
        """Write the whole state atomically."""
        state = {
            "config": asdict(self.config),
            "generator": {n: p.detach() for n, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "history": self.history,
        } | described(self.generator)
        write_checkpoint(path, state)

    def load(self, path: Path) -> None:
        """Continue from `save`d state. Raises ValueError: what `load_generator` raises, or another configuration."""
        state = load_generator(self.generator, path)
        if state["config"] != asdict(self.config):
            changed = {k for k, v in asdict(self.config).items() if state["config"].get(k) != v}
            raise ValueError(f"{path}: was written with another {', '.join(sorted(changed))}; choose another folder")
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])
        self.iteration, self.seconds, self.history = state["iteration"], state["seconds"], state["history"]


def described(generator: Generator) -> dict:
    """What a checkpoint must agree with: the generator's sizes, and the head whose frames its numbers mean."""
    return {"sizes": asdict(generator.config), "basis": generator.head[0].basis}


def load_generator(generator: Generator, path: Path) -> dict:
    """Put a checkpoint's weights into a generator; returns the whole state.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, for another head or another size, or tensors are missing, too many or of other shapes;
            names them. The generator is then as it was.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    state = read_checkpoint(path, generator.start_means.device)
    weights = state.get("generator", {})
    for name, mine in described(generator).items():
        if state.get(name) != mine:
            raise ValueError(f"{path}: its {name} are {state.get(name)}, this generator's {mine}")
    wanted = {n: p for n, p in generator.named_parameters() if p.requires_grad}
    missing, extra = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    shapes = [n for n in wanted.keys() & weights.keys() if wanted[n].shape != weights[n].shape]
    for what, names in (("missing", missing), ("unknown", extra), ("of another shape", sorted(shapes))):
        if names:
            raise ValueError(f"{path}: {len(names)} tensors are {what}: {', '.join(names[:5])}")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(weights[name])
    return state


def render_batch(
    generator: Generator, prediction: Prediction, target: Views, backgrounds: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 3 H W"]:
    """The prediction from the target's cameras, on these backgrounds. `target` [B, ...]."""
    head = generator.head[0]
    with torch.no_grad():
        vertices = head(**target.params)  # [B, V, 3]
    height, width = target.image.shape[-2:]
    pictures = []
    for i, background in enumerate(backgrounds):
        frames = triangle_frames(vertices[i : i + 1], head.faces)
        camera = Camera(target.K[i], target.viewmat[i], width, height)
        color, alpha, _ = render(generator.gaussians(prediction, i), frames, camera)
        pictures.append(composite(color, alpha, background))
    return torch.cat(pictures)


def on_background(views: Views, backgrounds: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 H W"]:
    """Pictures with what is outside their mattes replaced."""
    return views.image * views.mask + (1 - views.mask) * backgrounds[..., None, None]


@torch.no_grad()
def score(generator: Generator, batch: Batch) -> Float[Tensor, " B"]:
    """PSNR of each target on white, dB."""
    white = torch.ones(len(batch.names), 3, device=batch.target.image.device)
    rendered = render_batch(generator, generator(batch.sources, batch.target), batch.target, white)
    return psnr(rendered, on_background(batch.target, white))


def train(trainer: Trainer, batches: Iterable[Batch], checkpoint: Path | None = None, progress: bool = True) -> None:
    """Step through `batches`, which begin at the trainer's step; a row of the history every 20 steps."""
    config, recent, start = trainer.config, [], time.perf_counter() - trainer.seconds
    bar = tqdm(total=config.steps, initial=trainer.iteration, desc="train", disable=not progress)
    for batch in batches:
        recent.append(trainer.step(to_float(batch, trainer.valid.device)))
        bar.update(1)
        last = trainer.iteration == config.steps
        if trainer.iteration % 20 == 0 or last:
            row = {k: sum(r.get(k, math.nan) for r in recent) / len(recent) for k in recent[0]}
            trainer.history.append({"step": trainer.iteration, **row})
            bar.set_postfix(psnr=f"{row['psnr']:.2f} dB")
            recent = []
        if checkpoint is not None and (trainer.iteration % config.checkpoint_every == 0 or last):
            trainer.seconds = time.perf_counter() - start
            trainer.save(checkpoint)
    trainer.seconds = time.perf_counter() - start
    bar.close()
