"""The INSTA adapter: OpenCV cameras, 6D rotations, splits and mattes; what is broken is refused by name."""

import json
import os
import shutil
import zipfile

import adapter_toys_a as toys
import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts.adapters import insta
from data_scripts.adapters.__main__ import main
from sa0lib.datasets import Sequence

COUNT, TEST = 8, 3
TEXT = 2e-6  # a code after text with eight decimals and back from 6D


@pytest.fixture(scope="module")
def actor(tmp_path_factory):
    """An actor of eight frames, and what they must become. Not to be changed."""
    folder = tmp_path_factory.mktemp("insta") / "wojtek_1"
    return folder, toys.write_insta(folder, COUNT, TEST)


@pytest.fixture(scope="module")
def converted(actor, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "wojtek_1"
    assert insta.convert(actor[0], out) == [out]
    return out, actor[1]


@pytest.fixture
def small(tmp_path):
    """An actor of three frames that a test may break, and where it would be converted to."""
    folder = tmp_path / "source" / "bala"
    toys.write_insta(folder, 3, 1)
    return folder, tmp_path / "out"


def edit(folder, change, name="transforms_train"):
    path = folder / f"{name}.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def timesteps(out, split):
    sequence = Sequence(out, split)
    return [sequence.timestep(i) for i in range(len(sequence))]


# --- what comes out -------------------------------------------------------------------------------------------


def test_codes_pictures_and_projected_vertices_are_the_trackers(converted):
    out, truths = converted
    for split in ("train", "test"):
        sequence = Sequence(out, split)
        for i in range(len(sequence)):
            toys.check_frame(sequence, i, truths[sequence.timestep(i)], TEXT)


def test_entries_come_in_the_order_of_frame_numbers_although_the_script_shuffles_them(actor, converted):
    written = [e["file_path"] for e in json.loads((actor[0] / "transforms_train.json").read_text())["frames"]]
    assert written != sorted(written)
    assert timesteps(converted[0], "train") == [0, 1, 2, 3, 4]


def test_the_published_split_is_kept_and_val_which_repeats_test_is_not(converted):
    assert timesteps(converted[0], "test") == [5, 6, 7] and timesteps(converted[0], "val") == []


def test_another_split_is_made_on_demand(small):
    folder, out = small
    insta.convert(folder, out, test_frames=2)
    assert timesteps(out, "train") == [0] and timesteps(out, "test") == [1, 2]


def test_without_the_two_files_the_last_350_frames_are_held_out(small):
    folder, out = small
    (folder / "transforms_test.json").unlink()
    with pytest.raises(ValueError, match="transforms.json: 350 of 3 frames cannot be held out"):
        insta.convert(folder, out)
    entries = json.loads((folder / "transforms.json").read_text())["frames"]
    many = [dict(entries[0], file_path=f"images/{i:05d}.png") for i in range(360)]
    edit(folder, lambda data: data.update(frames=many[::-1]), "transforms")
    splits, entries = insta.frames(folder, None)
    assert splits == ["train"] * 10 + ["test"] * 350
    assert [entry["number"] for entry in entries] == list(range(360))


def test_the_head_turns_in_the_camera_and_not_in_the_codes(converted):
    sequence = Sequence(converted[0], "train")
    assert not any(sequence.params(i)[name].any() for i in range(5) for name in ("rotation", "neck", "translation"))
    assert not np.allclose(sequence.camera(0).viewmat[:3, :3], sequence.camera(1).viewmat[:3, :3], atol=0.01)


def test_cameras_with_opengl_axes_are_refused_until_they_are_said_to_be(small):
    folder, out = small
    insta.convert(folder, out)
    expected = Sequence(out, "train").camera(0)

    def flip(data):
        for entry in data["frames"]:
            entry["transform_matrix"] = (np.array(entry["transform_matrix"]) * (1, -1, -1, 1)).tolist()

    for name in ("transforms_train", "transforms_test"):
        edit(folder, flip, name)
    with pytest.raises(ValueError, match="transform_matrix with opencv axes puts the head behind.*--axes opengl"):
        insta.convert(folder, out)
    insta.convert(folder, out, axes="opengl")
    assert torch.allclose(Sequence(out, "train").camera(0).viewmat, expected.viewmat, atol=1e-6)


def test_the_codes_belong_to_flame_2020(converted):
    assert Sequence(converted[0], "train").basis == "FLAME 2020"


def test_eyelids_which_flame_has_no_code_for_stand_beside_the_frame(converted):
    assert Sequence(converted[0], "train").entries[0]["eyelids"] == [0.25, 0.5]


def test_alpha_is_the_matte_and_its_bounding_box_the_face_box(converted):
    frame = Sequence(converted[0], "train")[0]
    assert np.array_equal((frame.mask[0] * 255).round().numpy(), toys.matte(toys.INSTA_SIZE))
    assert frame.face_box.tolist() == [16, 8, 32, 32]


def test_pictures_without_alpha_take_that_of_matted(small):
    folder, out = small
    (folder / "images").rename(folder / "matted")
    (folder / "images").mkdir()
    for path in (folder / "matted").iterdir():
        Image.open(path).convert("RGB").save(folder / "images" / path.name)
    insta.convert(folder, out)
    mask = Sequence(out, "train")[0].mask[0]
    assert np.array_equal((mask * 255).round().numpy(), toys.matte(toys.INSTA_SIZE))


def test_codes_that_the_script_did_not_dump_come_from_the_trackers_files(tmp_path):
    folder, out = tmp_path / "duda", tmp_path / "out"
    truths = toys.write_insta(folder, 3, 1)
    for i in range(3):
        toys.write_frame(folder / "checkpoint" / f"{i:05d}.frame", folder, i)
    for name in ("shape", "jaw", "eyes", "eyelids"):
        for path in (folder / "flame" / name).iterdir():
            path.unlink()
    assert "flame/, shape, jaw, eyes from checkpoint/" in str(insta.inspect(folder))
    insta.convert(folder, out)
    toys.check_frame(Sequence(out, "train"), 1, truths[1], TEXT)


def test_a_folder_of_actors_is_converted_in_one_go(tmp_path):
    for name in ("bala", "obama"):
        toys.write_insta(tmp_path / "data" / name, 2, 1)
    written = insta.convert(tmp_path / "data", tmp_path / "out")
    assert [path.name for path in written] == ["bala", "obama"]
    assert all(timesteps(path, "test") == [1] for path in written)


# --- the command ----------------------------------------------------------------------------------------------


def test_a_dry_run_reports_and_writes_nothing(actor, tmp_path, capsys):
    assert main([insta.NAME, str(actor[0]), str(tmp_path / "out"), "--dry-run"]) == 0
    report = capsys.readouterr().out
    assert "wojtek_1: 8 frames, codes from flame/" in report and "5 train, 3 test frames" in report
    assert not list(tmp_path.iterdir())


def test_codes_are_looked_for_inside_the_actors_folder_only(small):
    folder = small[0].resolve()
    entry = {"exp_path": "00001.txt", "where": folder / "transforms.json"}
    assert all(insta.code_path(folder, entry, name).is_relative_to(folder) for name in insta.CODES)


@pytest.mark.parametrize("place", ["", ".."])
def test_a_source_is_never_replaced_by_what_is_made_of_it(small, place):
    folder = small[0]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match="which is only read"):
        main([insta.NAME, str(folder), str(folder / place)])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_another_original_actor_is_not_taken_for_an_earlier_output(small):
    other = small[0].parent / "other"
    toys.write_insta(other, 3, 1)
    with pytest.raises(SystemExit, match="nothing was changed"):
        main([insta.NAME, str(small[0]), str(other)])
    assert (other / "transforms.json").is_file()


def test_a_dry_run_lists_everything_that_is_missing(small, capsys):
    folder, out = small
    (folder / "images" / "00000.png").unlink()
    (folder / "flame" / "jaw" / "00002.txt").unlink()
    assert main([insta.NAME, str(folder), str(out), "--dry-run"]) == 1
    report = capsys.readouterr().out
    assert "images/00000.png is missing" in report and "jaw/00002.txt is missing, and so is" in report


def test_a_dry_run_misses_a_shape_that_is_nowhere(small, capsys):
    folder, out = small
    shutil.rmtree(folder / "flame" / "shape")
    assert main([insta.NAME, str(folder), str(out), "--dry-run"]) == 1
    report = capsys.readouterr().out
    assert "shape/00000.txt is missing, and so is" in report and "codes from flame/\n" in report


def test_no_actor_is_written_if_something_is_in_the_way_of_another(tmp_path):
    for name in ("bala", "obama"):
        toys.write_insta(tmp_path / "data" / name, 2, 1)
    (tmp_path / "out" / "obama" / "thesis").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="obama exists and is no dataset"):
        insta.convert(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "bala").exists()


def test_an_actor_whose_name_no_collection_takes_is_refused(small):
    folder, out = small
    folder.rename(folder.with_name("bala.v2"))
    with pytest.raises(ValueError, match="source: rename the folder 'bala.v2'"):
        insta.inspect(folder.parent)


# --- what is broken -------------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def entry(field, value, name="transforms_train"):
    """Replace one field of a file's first frame; None removes it."""

    def change(data):
        data["frames"][0][field] = value
        if value is None:
            del data["frames"][0][field]

    return lambda folder: edit(folder, change, name)


def shared(field, value):
    def change(data):
        data[field] = value
        if value is None:
            del data[field]

    return lambda folder: edit(folder, change)


def text(name, content):
    return lambda folder: (folder / "flame" / name / "00001.txt").write_text(content)


def poisoned(folder):
    (folder / "flame" / "jaw" / "00001.txt").unlink()
    (folder / "checkpoint").mkdir()
    torch.save({"flame": Bomb(folder / "ran")}, folder / "checkpoint" / "00001.frame")


def tensors(folder):
    (folder / "flame" / "jaw" / "00001.txt").unlink()
    (folder / "checkpoint").mkdir()
    torch.save({"flame": {"jaw": torch.zeros(1, 6)}}, folder / "checkpoint" / "00001.frame")


def junk_frame(folder):
    (folder / "flame" / "jaw" / "00001.txt").unlink()
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "00001.frame").write_bytes(b"junk")


def bomb_of_zeros(folder):
    (folder / "flame" / "jaw" / "00001.txt").unlink()
    (folder / "checkpoint").mkdir()
    with zipfile.ZipFile(folder / "checkpoint" / "00001.frame", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))


def cut_picture(folder):
    path = folder / "images" / "00001.png"
    path.write_bytes(path.read_bytes()[:1000])


def empty_matte(folder):
    Image.new("RGBA", (64, 64)).save(folder / "images" / "00001.png")


def small_picture(folder):
    Image.new("RGBA", (32, 32), (9, 9, 9, 255)).save(folder / "images" / "00001.png")


def no_alpha(folder):
    Image.new("RGB", (64, 64)).save(folder / "images" / "00001.png")


def matte_of_ones(folder):
    Image.new("RGBA", (64, 64), (9, 9, 9, 1)).save(folder / "images" / "00001.png")


def in_both(folder):
    first = json.loads((folder / "transforms_train.json").read_text())["frames"][0]
    edit(folder, lambda data: data["frames"].append(first), "transforms_test")


SCALED = np.diag([2.0, 2.0, 2.0, 1.0]).tolist()
CATALOGUE = {
    "no JSON": (
        lambda f: (f / "transforms_train.json").write_text("{"),
        r"transforms_train.json cannot be read as JSON",
    ),
    "missing frames": (shared("frames", None), r"transforms_train.json has no 'frames'"),
    "frames no list": (shared("frames", 3), r"transforms_train.json: frames is no list"),
    "no training frames": (shared("frames", []), r"transforms_train.json: frames is empty"),
    "missing intrinsics": (shared("fl_x", None), r"frames\[\d\] has no 'fl_x'"),
    "negative focal length": (shared("fl_y", -9.0), r"frames\[\d\]: fl_y must be positive"),
    "size as text": (shared("w", "wide"), r"frames\[\d\]: w must be numbers"),
    "missing matrix": (entry("transform_matrix", None), r"frames\[\d\] has no 'transform_matrix'"),
    "scale in the matrix": (entry("transform_matrix", SCALED), r"frames\[\d\]: transform_matrix holds no rotation"),
    "NaN in the matrix": (entry("transform_matrix", (np.eye(4) * np.nan).tolist()), r"transform_matrix holds NaN"),
    "picture path escape": (
        entry("file_path", "../../00009.png"),
        r"file_path '../../00009.png' points outside",
    ),
    "code path escape": (entry("exp_path", "../../../00001.txt"), r"exp_path '../../../00001.txt' points outside"),
    "path without number": (entry("file_path", "images/face.png"), r"'images/face.png' ends in no frame number"),
    "frame in train and test": (in_both, r"transforms_test.json/frames\[\d\]: file_path .* is also that of"),
    "wrong code width": (text("exp", "0.5\n" * 50), r"exp/00001.txt must be numbers of shape \[100\], not \[50\]"),
    "NaN code": (text("eyes", "nan\n" * 12), r"eyes/00001.txt holds NaN"),
    "words for a code": (text("jaw", "open wide"), r"jaw/00001.txt: jaw is not a list of numbers"),
    "6D of nothing": (text("jaw", "0\n" * 6), r"two rows of jaw span no rotation"),
    "hostile .frame": (poisoned, r"00001.frame: refused. This pickle asks for posix.mkdir"),
    "tensors in a .frame": (tensors, r"00001.frame: refused. This pickle asks for torch._utils._rebuild_tensor_v2"),
    "damaged .frame": (junk_frame, r"00001.frame: damaged, or not written by torch.save"),
    "zip bomb": (bomb_of_zeros, r"00001.frame: damaged, or not written by torch.save.*10000000 bytes"),
    "truncated picture": (cut_picture, r"00001.png cannot be decoded"),
    "picture of another size": (small_picture, r"00001.png is 32 x 32 px, not 64 x 64"),
    "no matte at all": (no_alpha, r"matted/00001.png is missing, and 00001.png has no alpha"),
    "matte of ones": (matte_of_ones, r"00001.png: greatest value 1: multiply by 255"),
    "empty matte": (empty_matte, r"00001.png: the matte is empty"),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_malformed_actors_are_refused_by_name_and_nothing_is_lost(case, small):
    folder, out = small
    insta.convert(folder, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    change, words = CATALOGUE[case]
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        insta.convert(folder, out)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "source"] and not (folder / "ran").exists()
