"""Collections: an index instead of ten thousand opened files, and batches that do not depend on who prepared them."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from toy_collection import BASIS, toy_records, write_collection

from sa0lib.datasets import (
    Collection,
    FolderBatches,
    Sequence,
    index_sequence,
    loader,
    read_manifest,
    to_float,
    whole_folder,
    write_manifest,
    write_sequence,
)
from sa0lib.datasets import collection as collection_module
from sa0lib.datasets.manifest import Span
from sa0lib.datasets.samplers import phase_1, phase_2
from sa0lib.head import WIDTHS


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Eight sequences of six frames, the last two for testing."""
    return write_collection(tmp_path_factory.mktemp("world") / "celeb", 8, 6, test=2)


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """Three sequences of five instants by six cameras."""
    return write_collection(tmp_path_factory.mktemp("world") / "studio", 3, 5, cameras=6)


def same(a, b) -> bool:
    """Two batches, down to the last bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_the_manifest_says_what_the_files_hold(studio):
    entry = read_manifest(studio).sequences[1]
    assert entry.splits == {"train": Span(30, (0, 1, 2, 3, 4, 5), 5)}
    assert (entry.name, entry.identity, entry.basis, entry.extra) == ("000001", "person1", BASIS, {"seed": 1})
    assert entry == index_sequence(studio, "000001", "person1", {"seed": 1})


def test_the_same_data_have_the_same_hash_and_other_data_another(world, tmp_path):
    again = read_manifest(write_collection(tmp_path / "again", 8, 6, test=2))
    fewer = read_manifest(write_collection(tmp_path / "fewer", 8, 5, test=2))
    assert again.sha256 == read_manifest(world).sha256 != fewer.sha256


def test_one_changed_byte_changes_the_hash_of_its_sequence(world, tmp_path):
    root = shutil.copytree(world / "000003", tmp_path / "000003").parent
    before = index_sequence(root, "000003", "x").sha256
    path = root / "000003" / "fg_masks" / "00002_00.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert index_sequence(root, "000003", "x").sha256 != before


def test_a_failed_manifest_leaves_the_earlier_one(world, tmp_path):
    root = shutil.copytree(world, tmp_path / "celeb")
    before, files = (root / "manifest.json").read_bytes(), sorted(root.iterdir())
    with pytest.raises(ValueError, match="no JSON"):
        write_manifest(root, {"name": "celeb", "when": object()}, read_manifest(root).sequences)
    assert (root / "manifest.json").read_bytes() == before and sorted(root.iterdir()) == files


def test_a_manifest_that_the_disk_refuses_leaves_nothing_behind(world, tmp_path, monkeypatch):
    root = shutil.copytree(world, tmp_path / "celeb")
    before, files = (root / "manifest.json").read_bytes(), sorted(root.iterdir())
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_manifest(root, {"name": "other"}, read_manifest(root).sequences)
    assert (root / "manifest.json").read_bytes() == before and sorted(root.iterdir()) == files


def test_a_collection_has_the_sequences_of_its_split(world):
    assert len(Collection(world, "train")) == 6
    assert [entry.name for entry in Collection(world, "test").entries] == ["000006", "000007"]


def test_opening_a_collection_reads_the_manifest_and_no_sequence(world, tmp_path):
    root = tmp_path / "celeb"
    root.mkdir()
    shutil.copy(world / "manifest.json", root)
    shutil.copytree(world / "000002", root / "000002")
    collection = Collection(root, "train")
    assert len(collection) == 6 and len(collection[2]) == 6
    with pytest.raises(FileNotFoundError, match="000001"):
        collection[1]


def test_a_clip_shows_what_the_sequence_holds(studio):
    clip, sequence = Collection(studio, "train")[2], Sequence(studio / "000002", "train")
    views = clip.views([0, 17])
    for row, i in enumerate((0, 17)):
        frame = sequence[i]
        assert torch.equal(views.image[row].float() / 255, frame.image)
        assert torch.equal(views.mask[row].float() / 255, frame.mask)
        assert torch.equal(views.K[row], frame.camera.K) and torch.equal(views.viewmat[row], frame.camera.viewmat)
        assert torch.equal(views.face_box[row], frame.face_box)
        assert all(torch.equal(views.params[name][row], frame.params[name][0]) for name in WIDTHS)
        assert (views.timestep[row], views.camera_index[row]) == (frame.timestep, frame.camera_index)


def test_a_smaller_clip_is_the_smaller_sequence_rounded(studio):
    views, frame = Collection(studio, "train")[0].views([3], 8), Sequence(studio / "000000", "train", 8)[3]
    assert (views.image[0].float() / 255 - frame.image).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.allclose(views.K[0], frame.camera.K) and torch.equal(views.face_box[0], frame.face_box)


def test_pictures_stay_uint8_until_they_are_turned_to_float(world):
    batch = FolderBatches(Collection(world, "train"), phase_1(10), 2)[0]
    assert {batch.sources.image.dtype, batch.sources.mask.dtype, batch.target.image.dtype} == {torch.uint8}
    floats = to_float(batch)
    assert floats.sources.image.dtype == torch.float32 and floats.sources.image.max() <= 1
    assert torch.equal((floats.sources.image * 255).round().byte(), batch.sources.image)
    assert torch.equal(floats.target.K, batch.target.K) and floats.names == batch.names


def test_a_batch_has_b_times_k_sources_and_b_targets(studio):
    batches = FolderBatches(Collection(studio, "train"), phase_2(20), 3, size=8)
    seen = set()
    for batch in batches:
        k = batch.sources.image.shape[1]
        seen.add(k)
        assert batch.sources.image.shape == (3, k, 3, 8, 8) and batch.target.mask.shape == (3, 1, 8, 8)
        assert batch.sources.viewmat.shape == (3, k, 4, 4) and batch.target.face_box.shape == (3, 4)
        assert batch.sources.params["expr"].shape == (3, k, 100) and batch.target.params["eyes"].shape == (3, 6)
        assert len(batch.names) == len(batch.identities) == 3
    assert seen == {1, 2, 3, 4}


def test_every_sequence_is_seen_once_before_any_is_seen_again(world):
    batches = FolderBatches(Collection(world, "train"), phase_1(9), 2)
    passes = [sum((batches[i].names for i in range(start, start + 3)), ()) for start in (0, 3, 6)]
    assert all(sorted(names) == sorted(passes[0]) and len(set(names)) == len(names) == 6 for names in passes)
    assert passes[0] != passes[1]


def test_two_workers_prepare_the_batches_that_none_would(world):
    batches = FolderBatches(Collection(world, "train"), phase_1(7), 2, seed=5)
    alone, together = list(loader(batches)), list(loader(batches, workers=2))
    assert len(alone) == 7 and all(map(same, alone, together))


def test_a_resumed_run_continues_with_the_batches_it_would_have_had(world):
    whole = FolderBatches(Collection(world, "train"), phase_1(8), 2, seed=1)
    rest = FolderBatches(Collection(world, "train"), phase_1(8), 2, seed=1, first_step=5)
    assert len(rest) == 3 and all(same(rest[i], whole[5 + i]) for i in range(3))


def test_another_seed_gives_other_batches(world):
    a, b = (FolderBatches(Collection(world, "train"), phase_1(4), 4, seed=seed)[0] for seed in (0, 1))
    assert not same(a, b)


def test_a_collection_goes_to_a_worker_without_what_it_has_cached(world):
    collection = Collection(world, "train")
    before = len(pickle.dumps(collection))
    clips = [collection[i] for i in range(len(collection))]
    assert len(pickle.dumps(collection)) == before
    assert torch.equal(pickle.loads(pickle.dumps(collection))[3].K, clips[3].K)


def test_numbers_are_read_once_and_kept_up_to_a_limit(world, monkeypatch):
    monkeypatch.setattr(collection_module, "CACHED_FRAMES", 12)  # two clips
    collection = Collection(world, "train")
    first = collection[0]
    assert collection[0] is first
    kept = [collection[i] for i in (1, 0, 2)]
    assert collection[0] is first and collection[2] is kept[2] and collection[1] is not kept[0]


def test_sequences_are_chosen_by_what_the_manifest_knows(world):
    collection = Collection(world, "train")
    part = collection.where(lambda entry: entry.identity != "person3")
    assert len(part) == 5 and len(collection) == 6 and part[3].name == "000004"
    with pytest.raises(ValueError, match="no sequence of the split 'train' is left"):
        collection.where(lambda entry: False)


def test_one_sequence_may_have_both_a_training_and_a_test_part(tmp_path):
    with whole_folder(tmp_path / "a") as part:
        records = list(toy_records(0, 9, 1, 16))
        for record in records[6:]:
            record.split = "test"
        write_sequence(part, records, BASIS)
    write_manifest(tmp_path, {"name": "subjects"}, [index_sequence(tmp_path, "a", "a")])
    train, test = Collection(tmp_path, "train")[0], Collection(tmp_path, "test")[0]
    assert train.timestep.tolist() == [0, 1, 2, 3, 4, 5] and test.timestep.tolist() == [6, 7, 8]


def test_a_sequence_too_short_for_four_sources_is_refused_before_training(tmp_path):
    root = write_collection(tmp_path / "short", 2, 4)
    with pytest.raises(ValueError, match="000000 has 4 frames in 'train', 4 sources and a target need 5"):
        FolderBatches(Collection(root, "train"), phase_1(10), 1)
    with pytest.raises(ValueError, match="has 1 cameras"):
        FolderBatches(Collection(root, "train"), phase_2(10), 1)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"batch_size": 0}, "batch_size and size must be at least 1"),
        ({"size": 0}, "batch_size and size must be at least 1"),
        ({"first_step": 5}, "first_step must be 0 to 4"),
    ],
)
def test_numbers_that_make_no_batch_are_refused(world, changes, words):
    with pytest.raises(ValueError, match=words):
        FolderBatches(Collection(world, "train"), phase_1(4), **({"batch_size": 2} | changes))


def test_a_sequence_goes_to_a_worker(world):
    sequence = pickle.loads(pickle.dumps(Sequence(world / "000000", "train")))
    assert torch.equal(sequence[0].image, Sequence(world / "000000", "train")[0].image)


def test_pictures_of_several_sizes_make_no_batch(tmp_path):
    root = tmp_path / "mixed"
    write_collection(root / "a", 1, 5, size=16)
    write_collection(root / "b", 1, 5, size=32)
    entries = [index_sequence(root, name, name) for name in ("a/000000", "b/000000")]
    write_manifest(root, {"name": "mixed"}, entries)
    collection = Collection(root, "train")
    with pytest.raises(ValueError, match="must be of one size .*a/000000 16 x 16"):
        FolderBatches(collection, phase_1(2), 2)[0]
    assert FolderBatches(collection, phase_1(2), 2, size=16)[0].target.image.shape == (2, 3, 16, 16)


def test_thirty_five_thousand_sequences_open_without_touching_them(tmp_path):
    entry = {"sha256": "0" * 64, "splits": {"train": {"frames": 8, "cameras": [0], "timesteps": 8}}, "extra": {}}
    names = [f"{i:06d}" for i in range(35_000)]
    listed = [{"name": name, "identity": name} | entry for name in names]
    digest = collection_hash(names)
    manifest = {"format": 1, "world": {"name": "big"}, "basis": BASIS, "sha256": digest, "sequences": listed}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert len(Collection(tmp_path, "train")) == 35_000


def collection_hash(names) -> str:
    return hashlib.sha256("".join(f"{name} {name} {'0' * 64}\n" for name in names).encode()).hexdigest()
