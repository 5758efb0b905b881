"""Collections as WebDataset shards: tar files of a hundred sequences, read from front to back.

35,000 clips of 100 frames are ten million small files, which file systems and copying tools bear badly. A shard holds
whole sequences, so that the K + 1 frames of a sample come together (one file: `sa0lib/datasets/shard_file.py`):

    manifest.json   as of any collection
    shards.json     {"format": 1, "split": "train", "shards": [{"file": "000000.tar", "sequences": [names]}, ...]}
    000000.tar ...

A sequence is held in memory whole: cut captures of thousands of pictures into shorter sequences first.
"""

import argparse
import json
import math
import random
import re
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from torch.utils.data import IterableDataset, get_worker_info
from tqdm import tqdm
from webdataset.filters import shuffle

from sa0lib.datasets.batches import BUFFER, SHARDS, Batch, check_plan, generator, make_batch
from sa0lib.datasets.clip import Clip
from sa0lib.datasets.collection import Collection
from sa0lib.datasets.layout import SPLITS
from sa0lib.datasets.manifest import FORMAT, MANIFEST, read_json, read_manifest, write_manifest
from sa0lib.datasets.samplers import SamplerConfig
from sa0lib.datasets.shard_file import read_shard, write_shard
from sa0lib.datasets.writer import whole_folder

INDEX = "shards.json"
FILE = re.compile(r"[A-Za-z0-9_+-]+\.tar")


def write_shards(collection: Collection, out: Path | str, sequences_per_shard: int = 100, seed: int = 0) -> Path:
    """Write one split as shards into the folder `out`, whole or not at all; returns it.

    Sequences are dealt to the shards in a shuffled order, so that reading one shard meets many people. The same
    collection and seed give the same bytes.

    Raises FileExistsError if `out` is something other than earlier shards; ValueError, FileNotFoundError for a
    sequence that cannot be read.
    """
    if sequences_per_shard < 1:
        raise ValueError(f"sequences_per_shard must be at least 1, not {sequences_per_shard}")
    order = generator(seed, SHARDS).permutation(len(collection))
    shards = []
    with whole_folder(out, marker=INDEX) as part, tqdm(total=len(order), desc="write shards", unit="clip") as progress:

        def clips() -> Iterator[Clip]:
            for i in order:
                progress.update()
                yield collection[int(i)]

        rest = clips()
        for number in range(math.ceil(len(order) / sequences_per_shard)):
            file = f"{number:06d}.tar"
            shards.append({"file": file, "sequences": write_shard(part / file, islice(rest, sequences_per_shard))})
        write_manifest(part, collection.manifest.world, collection.entries)
        index = {"format": FORMAT, "split": collection.split, "shards": shards}
        (part / INDEX).write_text(json.dumps(index, indent=1))
    return Path(out)


class Shards:
    """An opened folder of shards; `stream` reads it.

    Raises FileNotFoundError: manifest.json, shards.json or a tar file is missing. ValueError: one is damaged, or they
    do not list the same sequences.
    """

    def __init__(self, root: Path | str):
        self.root, self.manifest = Path(root), read_manifest(root)
        path, entries = self.root / INDEX, {entry.name: entry for entry in self.manifest.sequences}
        data = read_json(path)
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("split") not in SPLITS:
            raise ValueError(f"{path}: must be an object with format {FORMAT} and a split of {SPLITS}")
        self.split, self.entries, self.files = data["split"], [], []
        for i, shard in enumerate(data["shards"] if isinstance(data.get("shards"), list) else []):
            where = f"{path}: shards[{i}]"
            file, names = (shard.get("file"), shard.get("sequences")) if isinstance(shard, dict) else (None, None)
            if not isinstance(file, str) or not FILE.fullmatch(file):
                raise ValueError(f"{where}.file must be the name of a tar file in this folder, not {file!r}")
            if not isinstance(names, list) or not names:
                raise ValueError(f"{where}.sequences must be a list of names, not {names!r:.60}")
            for name in names:
                if not isinstance(name, str) or name not in entries or self.split not in entries[name].splits:
                    raise ValueError(f"{where}.sequences: {name!r} is listed twice or is not in {MANIFEST}")
            if not (self.root / file).is_file():
                raise FileNotFoundError(f"{self.root / file} is missing: copy all shards that {INDEX} lists")
            self.files.append((self.root / file, [entries.pop(name) for name in names]))
            self.entries += self.files[-1][1]
        if entries or not self.files:
            raise ValueError(f"{path}: sequences of {MANIFEST} are in no shard: {list(entries)[:3] or 'there is none'}")

    def stream(self, seed: int, epoch: int, worker: int = 0, workers: int = 1, buffer: int = 64) -> Iterator[Clip]:
        """One worker's clips of one epoch. All workers together give every sequence once; the order is the seed's.

        Shards are dealt to the workers in a new order each epoch; clips leave through a shuffle buffer of `buffer`.

        Raises ValueError naming shard and key: a shard is truncated, has members that it should not have, or other
            sequences or counts than the index says.
        """
        order = generator(seed, SHARDS, epoch).permutation(len(self.files))[worker::workers]
        clips = (clip for i in order for clip in read_shard(*self.files[i], self.split))
        rng = random.Random(int(generator(seed, BUFFER, epoch, worker).integers(2**63)))
        return shuffle(buffer, initial=buffer, rng=rng)(clips)


class ShardBatches(IterableDataset):
    """Batches from shards, `config.steps` of them, of which `first_step` are left out.

    The same seed, first step and number of workers give the same batches. Each sequence gives one sample an epoch of
    `Shards.stream`; workers with fewer or smaller shards are some clips ahead in theirs. A resumed run begins with a
    new order of the epoch in which it was stopped.

    Raises ValueError: what `Shards` and `check_plan` raise, or `buffer` is not positive.
    """

    def __init__(
        self,
        root: Path | str,
        config: SamplerConfig,
        batch_size: int,
        seed: int = 0,
        size: int | None = None,
        first_step: int = 0,
        buffer: int = 64,
    ):
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1 sequence, not {buffer}")
        self.shards = Shards(root)
        check_plan(self.shards, config, batch_size, size, first_step)
        self.config, self.batch_size, self.seed, self.size = config, batch_size, seed, size
        self.first_step, self.buffer = first_step, buffer

    @property
    def most_workers(self) -> int:
        """Each worker needs a shard of its own in every epoch."""
        return len(self.shards.files)

    def __len__(self) -> int:
        return self.config.steps - self.first_step

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        first_epoch = self.first_step * self.batch_size // len(self.shards.entries)
        clips = (
            clip
            for epoch in count(first_epoch)
            for clip in self.shards.stream(self.seed, epoch, worker, workers, self.buffer)
        )
        for step in range(self.first_step + worker, self.config.steps, workers):
            yield make_batch(list(islice(clips, self.batch_size)), step, self.config, self.seed, self.size)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write a collection as WebDataset shards.")
    parser.add_argument("root", type=Path, help="the collection: a folder with manifest.json")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--sequences-per-shard", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the order in which sequences are dealt to shards")
    options = parser.parse_args(arguments)
    try:
        collection = Collection(options.root, options.split)
        print(write_shards(collection, options.out, options.sequences_per_shard, options.seed))
    except (ValueError, OSError) as error:
        sys.exit(f"shards: {error}")


if __name__ == "__main__":
    main()
