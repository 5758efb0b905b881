"""Batches of K sources and a target, and the loader that prepares them in other processes.

From folders (`FolderBatches`) a batch is a function of the seed and of its number alone, so a run can be resumed at any
step, and one worker, two or none give the same bytes. Shards (`sa0lib/datasets/shards.py`) are read in their own order:
there the number of workers and the first step matter too.
"""

import math
from collections.abc import Sequence as SequenceABC
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from sa0lib.datasets.clip import Clip, Views
from sa0lib.datasets.collection import Collection
from sa0lib.datasets.samplers import SamplerConfig, draw_frames, draw_recipe

ORDER, RECIPE, FRAMES, SHARDS, BUFFER = range(5)  # what a generator is for: no two purposes share a stream


class Batch(NamedTuple):
    """B samples of K sources and a target, as uint8 until `to_float`. A tuple, so that torch collates and pins it."""

    sources: Views  # [B, K, ...]
    target: Views  # [B, ...]
    names: tuple[str, ...]  # B sequences
    identities: tuple[str, ...]


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """Independent streams of one seed, by purpose and number."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def to_float(batch: Batch, device: torch.device | str = "cpu") -> Batch:
    """The batch on a device, pictures and mattes in [0, 1] float32. They travel as uint8: a quarter of the bytes."""

    def moved(views: Views) -> Views:
        views = views.map(lambda tensor: tensor.to(device, non_blocking=True))
        return views._replace(image=views.image.float() / 255, mask=views.mask.float() / 255)

    return batch._replace(sources=moved(batch.sources), target=moved(batch.target))


def make_batch(clips: SequenceABC[Clip], step: int, config: SamplerConfig, seed: int, size: int | None = None) -> Batch:
    """Batch number `step` of these clips: K and mode are drawn once, the frames for each clip.

    Raises ValueError: a clip is too short for the draw (`draw_frames`), a picture is damaged, or sizes differ.
    """
    recipe = draw_recipe(step, config, generator(seed, RECIPE, step))
    samples = []
    for slot, clip in enumerate(clips):
        target, sources = draw_frames(clip, recipe, config, generator(seed, FRAMES, step, slot))
        views = clip.views([target, *sources], size)
        samples.append(Batch(views.map(lambda t: t[1:]), views.map(lambda t: t[0]), clip.name, clip.identity))
    sizes = {sample.target.image.shape[1:]: sample.names for sample in samples}
    if len(sizes) > 1:
        seen = ", ".join(f"{name} {w} x {h}" for (h, w), name in sizes.items())
        raise ValueError(f"pictures of one batch must be of one size ({seen}): crop the sequences alike")
    return default_collate(samples)


class FolderBatches(Dataset):
    """Batches from a Collection, `config.steps` of them; item i is the batch of step `first_step` + i.

    Every sequence is seen once before any is seen again, in an order that each pass shuffles anew.

    Raises ValueError: what `check_plan` raises.
    """

    most_workers = math.inf  # any number can share it

    def __init__(
        self,
        collection: Collection,
        config: SamplerConfig,
        batch_size: int,
        seed: int = 0,
        size: int | None = None,
        first_step: int = 0,
    ):
        check_plan(collection, config, batch_size, size, first_step)
        self.collection, self.config, self.batch_size = collection, config, batch_size
        self.seed, self.size, self.first_step = seed, size, first_step

    def __len__(self) -> int:
        return self.config.steps - self.first_step

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self):
            raise IndexError(i)
        step = self.first_step + i
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        count = len(self.collection)
        clips = [self.collection[_order(self.seed, place // count, count)[place % count]] for place in places]
        return make_batch(clips, step, self.config, self.seed, self.size)


@lru_cache(2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, ORDER, epoch).permutation(count)


def check_plan(collection, config: SamplerConfig, batch_size: int, size: int | None, first_step: int) -> None:
    """Raise ValueError for numbers out of range, or a sequence (of a Collection or of Shards) with too few frames
    (Phase 2: cameras or timesteps) for the largest K: now, not after a day of training."""
    if batch_size < 1 or (size is not None and size < 1):
        raise ValueError(f"batch_size and size must be at least 1, not {batch_size} and {size}")
    if not 0 <= first_step <= config.steps:
        raise ValueError(f"first_step must be 0 to {config.steps}, the steps of the phase, not {first_step}")
    needed = config.max_sources + 1
    for entry in collection.entries:
        span = entry.splits[collection.split]
        counts = {"frames": span.frames}
        if config.cross_camera is not None:
            counts = {"cameras": len(span.cameras), "timesteps": span.timesteps}
        for what, count in counts.items():
            if count < needed:
                raise ValueError(
                    f"{collection.manifest.path}: {entry.name} has {count} {what} in {collection.split!r}, "
                    f"{config.max_sources} sources and a target need {needed}; leave it out with Collection.where "
                    "(of shards: when they are written)"
                )


def loader(batches: Dataset | IterableDataset, workers: int = 0) -> DataLoader:
    """Batches prepared ahead by `workers` processes, in pinned memory where there is a GPU.

    Workers are spawned, not forked: numba and OpenMP do not survive a fork. A script that uses them needs
    `if __name__ == "__main__":`.

    Raises ValueError if there are more workers than the batches can be shared among (shards: one each).
    """
    if workers > batches.most_workers:
        raise ValueError(
            f"{workers} workers for {batches.most_workers} shards: give at most one worker a shard, or write the "
            "shards again with fewer sequences in each"
        )
    context = "spawn" if workers else None
    pin = torch.cuda.is_available()
    return DataLoader(batches, batch_size=None, num_workers=workers, multiprocessing_context=context, pin_memory=pin)
