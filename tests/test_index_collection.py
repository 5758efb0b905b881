"""data_scripts.index_collection: sequences that were converted one by one become a collection."""

import shutil

import pytest
from toy_collection import write_collection

from data_scripts import index_collection
from data_scripts.index_collection import main
from sa0lib.datasets import Collection


@pytest.fixture
def root(tmp_path):
    """Two sequences of participant 037 and one of 042, as NeRSemble's adapter is told to write them."""
    world = write_collection(tmp_path / "world", 3, 2)
    for i, name in enumerate(("037/EXP-1", "037/EXP-2", "042/EXP-1")):
        shutil.copytree(world / f"{i:06d}", tmp_path / "nersemble" / name)
    return tmp_path / "nersemble"


def test_sequences_in_folders_become_a_collection_of_people(root):
    main([str(root), "--name", "nersemble"])
    entries = Collection(root, "train").entries
    assert [(e.name, e.identity) for e in entries] == [("037/EXP-1", "037"), ("037/EXP-2", "037"), ("042/EXP-1", "042")]


def test_what_an_interrupted_run_left_is_no_sequence(root):
    shutil.copytree(root / "042", root / ".042.part")
    main([str(root), "--name", "nersemble"])
    assert len(Collection(root, "train")) == 3


@pytest.mark.parametrize("place, words", [("037/EXP-1", "is one sequence"), ("042/EXP-1/images", "no transforms_")])
def test_a_folder_that_holds_no_sequences_is_refused(root, place, words):
    with pytest.raises(SystemExit, match=words):
        main([str(root / place), "--name", "x"])


@pytest.mark.parametrize(
    "place, words",
    [
        ("037/EXP-1/EXP-3", "037/EXP-1/EXP-3 lies within the sequence .*037/EXP-1: move it out"),
        ("p.jpg", "rename the folder 'p.jpg'"),
    ],
)
def test_a_sequence_in_the_wrong_place_is_refused_before_anything_is_hashed(place, words, root, monkeypatch):
    shutil.copytree(root / "042" / "EXP-1", root / place)
    monkeypatch.delattr(index_collection, "index_sequence")
    with pytest.raises(SystemExit, match=words):
        main([str(root), "--name", "x"])
    assert not (root / "manifest.json").exists()
