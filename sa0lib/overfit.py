"""Can the generator learn at all? It is trained on a few people and must know them, in frames it never saw too.

    python -m sa0lib.overfit [--data data/worlds/desk/celeb] [--record NAME]

A network that cannot overfit has a bug. The last frames of each person are held out; sources are always training
frames. It resumes where it was stopped.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from sa0lib.datasets import Batch, Collection
from sa0lib.datasets.batches import make_batch, to_float
from sa0lib.datasets.clip import Clip
from sa0lib.datasets.samplers import SamplerConfig, phase_1
from sa0lib.ledger import record_run
from sa0lib.nets import Generator, GeneratorConfig
from sa0lib.options import add_head_options, chosen_head
from sa0lib.paths import DATA, RUNS
from sa0lib.profile import current_profile
from sa0lib.train import TrainConfig, Trainer, on_background, render_batch, score, train

HELD_OUT = 2  # last frames of each person
SOURCES = 4  # training frames, evenly spread, that scores are taken from


def draw_batches(clips: list[Clip], config: SamplerConfig, batch_size: int, seed: int, first: int) -> Iterator[Batch]:
    """Batches of these clips, all in turn, from step `first` on."""
    for step in range(first, config.steps):
        chosen = [clips[(step * batch_size + slot) % len(clips)] for slot in range(batch_size)]
        yield make_batch(chosen, step, config, seed)


def asked(clip: Clip, frames: list[int]) -> Batch:
    """Each of these frames as a target, from SOURCES training frames that are others."""
    samples = []
    for i in frames:
        pool = [j for j in range(len(clip) - HELD_OUT) if j != i]
        chosen = [pool[round(k * (len(pool) - 1) / (SOURCES - 1))] for k in range(SOURCES)]
        views = clip.views([i, *chosen])
        samples.append(Batch(views.map(lambda t: t[1:]), views.map(lambda t: t[0]), clip.name, clip.identity))
    return to_float(torch.utils.data.default_collate(samples))


def scores(generator: Generator, clips: list[Clip], part: slice) -> list[list[float]]:
    """PSNR on white, dB, of this part of each person's frames."""
    return [score(generator, asked(clip, list(range(len(clip)))[part])).tolist() for clip in clips]


@torch.no_grad()
def preview(generator: Generator, clips: list[Clip]) -> Image.Image:
    """A row a person: a training frame and its prediction, the held-out frames and theirs."""
    rows = []
    for clip in clips:
        batch = asked(clip, [0, *range(len(clip) - HELD_OUT, len(clip))])
        white = torch.ones(len(batch.names), 3)
        made = render_batch(generator, generator(batch.sources, batch.target), batch.target, white)
        pairs = torch.stack([on_background(batch.target, white), made], 1).flatten(0, 1)  # [2 n, 3, H, W]
        rows.append(torch.cat(list(pairs), -1))
    pixels = (torch.cat(rows, -2).clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    profile = current_profile()
    parser.add_argument("--data", type=Path, default=DATA / "worlds" / profile.name / "celeb", help="a collection")
    add_head_options(parser)
    parser.add_argument("--out", type=Path, default=DATA / "overfit" / profile.name, help="checkpoint")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--uv-size", type=int, default=128)
    parser.add_argument("--backbone", default="alexnet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="NAME", help="keep scores and pictures in book/results/runs")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"overfit: {error}")


def run(arguments: argparse.Namespace) -> None:
    """Train, score and record."""
    start = time.perf_counter()
    collection, head = Collection(arguments.data, "train"), chosen_head(arguments)
    head.require_basis(collection.basis, str(arguments.data))
    if not 1 <= arguments.people <= len(collection):
        raise ValueError(f"{arguments.data} has {len(collection)} people to train on: --people {arguments.people}")
    clips = [collection[i] for i in range(arguments.people)]
    learnt = [clip.take(list(range(len(clip) - HELD_OUT))) for clip in clips]
    torch.manual_seed(arguments.seed)
    sizes = GeneratorConfig(
        arguments.backbone,
        arguments.uv_size,
        dense_channels=64,
        warped_channels=32,
        width=0.25,
        style=128,
        hidden=32,
    )
    generator = Generator(head, sizes)
    data = f"{collection.manifest.sha256[:12]}: {arguments.people} people, batches of {arguments.batch_size}"
    trainer = Trainer(generator, TrainConfig(arguments.steps, lr=arguments.lr, seed=arguments.seed, data=data))
    checkpoint = arguments.out / "checkpoint.pt"
    if checkpoint.is_file():
        trainer.load(checkpoint)
    config = phase_1(arguments.steps)
    batches = draw_batches(learnt, config, arguments.batch_size, arguments.seed, trainer.iteration)
    train(trainer, batches, checkpoint)
    seen = scores(generator, clips, slice(-HELD_OUT))
    new = scores(generator, clips, slice(-HELD_OUT, None))
    result = {
        "generator": asdict(sizes),
        "training": asdict(trainer.config),
        "people": [clip.identity for clip in clips],
        "psnr_training_frames": seen,
        "psnr_new_frames": new,
        "seconds_per_step": trainer.seconds / arguments.steps,
        "history": trainer.history,
    }
    name, folder = arguments.record or "record", RUNS if arguments.record else arguments.out
    path = record_run(name, result, arguments.seed, time.perf_counter() - start, folder)
    preview(generator, clips).save(path.with_suffix(".webp"), quality=85)
    for what, values in (("training frames", seen), ("new frames", new)):
        print(f"{what}: {torch.tensor(values).mean():.2f} dB")
    print(f"scores: {path}")


if __name__ == "__main__":
    main()
