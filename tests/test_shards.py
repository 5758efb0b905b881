"""Shards: the same clips from tar files, each once, in an order that the seed decides."""

import hashlib
import shutil
import tarfile
from itertools import islice

import pytest
import torch
import webdataset
from test_datasets_collection import same
from toy_collection import write_collection

from sa0lib.datasets import Collection, loader
from sa0lib.datasets.batches import make_batch
from sa0lib.datasets.samplers import phase_1, phase_2
from sa0lib.datasets.shards import ShardBatches, Shards, main, write_shards

NAMES = [f"{i:06d}" for i in range(10)]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Twelve sequences of six frames, ten of them for training."""
    return write_collection(tmp_path_factory.mktemp("shards") / "celeb", 12, 6, test=2)


@pytest.fixture(scope="session")
def shards(world, tmp_path_factory):
    """The training split in four shards: 3 + 3 + 3 + 1."""
    return write_shards(Collection(world, "train"), tmp_path_factory.mktemp("shards") / "celeb_shards", 3)


def names(stream) -> list[str]:
    return [clip.name for clip in stream]


def test_a_clip_from_a_shard_is_the_clip_from_its_folder(world, shards):
    collection = Collection(world, "train")
    folder = {entry.name: i for i, entry in enumerate(collection.entries)}
    for clip in Shards(shards).stream(0, 0):
        other = collection[folder[clip.name]]
        assert same(clip.views(range(6)), other.views(range(6))) and clip.identity == other.identity
        assert torch.equal(clip.direction, other.direction)


def test_the_same_draw_from_a_shard_and_from_a_folder_is_the_same_batch(world, shards):
    clips = {clip.name: clip for clip in Shards(shards).stream(0, 0)}
    collection = Collection(world, "train")
    ours = make_batch([clips[name] for name in NAMES[:4]], 7, phase_1(10), seed=3, size=8)
    assert same(ours, make_batch([collection[i] for i in range(4)], 7, phase_1(10), seed=3, size=8))


def test_any_reader_of_webdataset_understands_the_shards(world, shards):
    urls = sorted(map(str, shards.glob("*.tar")))
    samples = {s["__key__"]: s for s in webdataset.WebDataset(urls, shardshuffle=False)}
    assert sorted(samples) == NAMES
    assert samples["000004"]["image.00002.png"] == (world / "000004" / "images" / "00002_00.png").read_bytes()


def test_one_epoch_gives_every_sequence_once(shards):
    assert sorted(names(Shards(shards).stream(0, 0))) == NAMES


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_share_an_epoch_without_duplicates_or_omissions(shards, workers):
    opened = Shards(shards)
    parts = [names(opened.stream(5, 2, worker, workers)) for worker in range(workers)]
    assert all(parts) and sorted(sum(parts, [])) == NAMES


def test_the_order_is_the_seeds_and_another_each_epoch(shards):
    opened = Shards(shards)
    orders = [names(opened.stream(seed, epoch)) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]


def test_shards_are_read_in_another_order_each_epoch(shards):
    opened = Shards(shards)
    assert len({tuple(names(opened.stream(0, epoch, buffer=1))) for epoch in range(10)}) > 3


def test_the_buffer_mixes_shards_and_a_buffer_of_one_does_not(shards):
    opened = Shards(shards)
    in_shards = {tuple(sorted(e.name for e in entries)) for _, entries in opened.files}
    still = names(opened.stream(0, 0, buffer=1))
    starts = [i for i, name in enumerate(still) if i == 0 or not together(still[i - 1], name, in_shards)]
    assert len(starts) == 4  # one shard after the other
    mixed = [names(opened.stream(seed, 0, buffer=10)) for seed in range(20)]
    assert sum(not together(order[0], order[1], in_shards) for order in mixed) > 5


def together(a, b, groups) -> bool:
    return any(a in group and b in group for group in groups)


def test_two_processes_read_every_sequence_once_in_an_epoch(world, tmp_path):
    shards = write_shards(Collection(world, "train"), tmp_path / "even", 5)
    batches = ShardBatches(shards, phase_1(10), 1, seed=4)
    seen = [batch.names[0] for batch in loader(batches, workers=2)]
    assert sorted(seen) == NAMES


def test_the_same_seed_and_workers_give_the_same_batches(shards):
    batches = ShardBatches(shards, phase_1(4), 2, seed=4)
    assert all(map(same, list(batches), list(batches))) and len(list(batches)) == len(batches) == 4
    assert all(map(same, list(loader(batches, 1)), list(batches)))


def test_training_goes_on_past_an_epoch_and_resumes_in_the_middle(shards):
    assert len(list(ShardBatches(shards, phase_1(9), 2))) == 9
    late = list(ShardBatches(shards, phase_1(9), 2, first_step=7))
    assert len(late) == 2 and len({*late[0].names, *late[1].names}) == 4


def test_multi_view_sequences_come_from_shards_too(tmp_path):
    root = write_collection(tmp_path / "studio", 2, 5, cameras=5)
    shards = write_shards(Collection(root, "train"), tmp_path / "studio_shards")
    for batch in islice(ShardBatches(shards, phase_2(8), 2), 8):
        assert batch.sources.image.shape[0] == 2


def test_the_same_collection_and_seed_give_the_same_bytes(world, shards, tmp_path):
    again = write_shards(Collection(world, "train"), tmp_path / "again", 3)
    assert digests(again) == digests(shards)
    assert digests(write_shards(Collection(world, "train"), tmp_path / "other", 3, seed=1)) != digests(shards)


def digests(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_failed_write_leaves_the_earlier_shards(world, shards, tmp_path):
    out = shutil.copytree(shards, tmp_path / "out")
    broken = shutil.copytree(world, tmp_path / "celeb")
    shutil.rmtree(broken / "000009" / "flame_param")
    before = digests(out)
    with pytest.raises(FileNotFoundError, match="000009"):
        write_shards(Collection(broken, "train"), out, 3)
    assert digests(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["celeb", "out"]


def test_a_folder_that_holds_no_shards_is_never_replaced(world, tmp_path):
    with pytest.raises(FileExistsError, match="nothing was changed"):
        write_shards(Collection(world, "train"), world / "000000")
    assert (world / "000000" / "transforms_train.json").is_file()


def test_more_workers_than_shards_are_refused(world, tmp_path):
    shards = write_shards(Collection(world, "train"), tmp_path / "one")
    with pytest.raises(ValueError, match="2 workers for 1 shards"):
        loader(ShardBatches(shards, phase_1(4), 2), workers=2)


def test_the_command_writes_shards_and_says_where(world, tmp_path, capsys):
    main([str(world), str(tmp_path / "out"), "--split", "test", "--sequences-per-shard", "1"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2
    with tarfile.open(next((tmp_path / "out").glob("*.tar"))) as tar:
        assert len(tar.getnames()) == 13
    with pytest.raises(SystemExit, match="shards: .*manifest.json is missing"):
        main([str(tmp_path), str(tmp_path / "nowhere")])
