"""The SplattingAvatar adapter: its intrinsics, enlarged heads and short codes; what is broken is refused by name."""

import json

import adapter_toys_a as toys
import numpy as np
import pytest
from PIL import Image

from data_scripts.adapters import splatting_avatar as splatting
from data_scripts.adapters.__main__ import main
from sa0lib.datasets import Sequence

COUNT, TEST = 12, 4


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A subject of twelve frames, and what they must become. Not to be changed."""
    folder = tmp_path_factory.mktemp("splatting") / "yufeng"
    return folder, toys.write_splatting(folder, COUNT)


@pytest.fixture(scope="module")
def converted(subject, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "yufeng"
    assert splatting.convert(subject[0], out, test_frames=TEST) == [out]
    return out, subject[1]


@pytest.fixture
def small(tmp_path):
    """A subject of two frames that a test may break, and where it would be converted to."""
    folder = tmp_path / "source" / "marcel"
    toys.write_splatting(folder, 2)
    return folder, tmp_path / "out"


def edit(folder, change):
    path = folder / "flame_params.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


# --- what comes out -------------------------------------------------------------------------------------------


def test_codes_pictures_and_projected_vertices_are_those_of_the_release(converted):
    out, truths = converted
    for split, first in (("train", 0), ("test", COUNT - TEST)):
        sequence = Sequence(out, split)
        for i in range(len(sequence)):
            toys.check_frame(sequence, i, truths[first + i])


def test_the_last_frames_of_the_json_are_held_out(converted):
    train, test = Sequence(converted[0], "train"), Sequence(converted[0], "test")
    assert [train.timestep(i) for i in range(len(train))] == list(range(8))
    assert [test.entries[i]["source"] for i in range(4)] == [f"./image/{i}" for i in (9, 10, 11, 12)]


def test_350_frames_are_held_out_unless_told_otherwise(subject, tmp_path):
    with pytest.raises(SystemExit, match="flame_params.json: 350 of 12 frames cannot be held out"):
        main([splatting.NAME, str(subject[0]), str(tmp_path / "out")])


def test_none_held_out_means_all_to_train_on(small):
    folder, out = small
    splatting.convert(folder, out, test_frames=0)
    assert len(Sequence(out, "train")) == 2 and len(Sequence(out, "test")) == 0


def test_short_codes_are_filled_up_with_zeros(converted):
    params = Sequence(converted[0], "train").params(0)
    assert params["shape"][0, :100].all() and not params["shape"][0, 100:].any()
    assert params["expr"][0, :50].all() and not params["expr"][0, 50:].any()


def test_the_codes_belong_to_flame_2020(converted):
    assert Sequence(converted[0], "train").basis == "FLAME 2020"


def test_the_camera_stands_a_metre_away_although_the_release_enlarges_heads_four_times(converted):
    assert 0.9 < float(Sequence(converted[0], "train").camera(0).center.norm()) < 1.1


def test_a_negative_focal_length_is_a_habit_and_not_a_mirror(subject, converted):
    assert json.loads((subject[0] / "flame_params.json").read_text())["intrinsics"][0] < 0
    assert Sequence(converted[0], "train").camera(0).K[0, 0] > 0


def test_intrinsics_in_pixels_of_the_oldest_files_give_the_same_camera(small):
    folder, out = small
    splatting.convert(folder, out, test_frames=1)
    K = Sequence(out, "train").camera(0).K
    edit(folder, lambda data: data.update(intrinsics=[512 * value for value in data["intrinsics"]]))
    splatting.convert(folder, out, test_frames=1)
    assert np.allclose(Sequence(out, "train").camera(0).K, K)


def test_alpha_is_the_matte(converted):
    frame = Sequence(converted[0], "train")[0]
    assert np.array_equal((frame.mask[0] * 255).round().numpy(), toys.matte(toys.SPLATTING_SIZE))


def test_the_box_goes_from_minus_one_to_one_across_the_picture(converted):
    assert Sequence(converted[0], "train")[0].face_box.tolist() == [12, 18, 36, 42]


def test_without_a_box_the_mattes_is_taken(small):
    folder, out = small
    edit(folder, lambda data: [entry.pop("bbox") for entry in data["frames"]])
    splatting.convert(folder, out, test_frames=0)
    assert Sequence(out, "train")[0].face_box.tolist() == [12, 6, 24, 24]


def test_copies_with_an_images_folder_are_read(small):
    folder, out = small
    (folder / "image").rename(folder / "images")
    splatting.convert(folder, out, test_frames=0)
    assert len(Sequence(out, "train")) == 2


def test_pictures_without_alpha_take_imavatars_masks(small):
    folder, out = small
    (folder / "mask").mkdir()
    for path in (folder / "image").iterdir():
        picture = Image.open(path)
        picture.getchannel("A").save(folder / "mask" / path.name)
        picture.convert("RGB").save(path)
    splatting.convert(folder, out, test_frames=0)
    mask = Sequence(out, "train")[0].mask[0]
    assert np.array_equal((mask * 255).round().numpy(), toys.matte(toys.SPLATTING_SIZE))


def test_a_folder_of_subjects_is_converted_in_one_go(tmp_path):
    for name in ("bala", "yufeng"):
        toys.write_splatting(tmp_path / "data" / name, 2)
    written = splatting.convert(tmp_path / "data", tmp_path / "out", test_frames=1)
    assert [path.name for path in written] == ["bala", "yufeng"]
    assert all(len(Sequence(path, "test")) == 1 for path in written)


def test_a_dry_run_reports_and_writes_nothing(subject, tmp_path, capsys):
    assert main([splatting.NAME, str(subject[0]), str(tmp_path / "out"), "--test-frames", "4", "--dry-run"]) == 0
    report = capsys.readouterr().out
    assert "flame_params.json: 12 frames" in report and "8 train, 4 test frames" in report
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_everything_that_is_missing(small, capsys):
    folder, out = small
    for i in (1, 2):
        (folder / "image" / f"{i}.png").unlink()
    assert main([splatting.NAME, str(folder), str(out), "--test-frames", "1", "--dry-run"]) == 1
    report = capsys.readouterr().out
    assert "image/1.png is missing" in report and "image/2.png is missing" in report


# --- what is broken -------------------------------------------------------------------------------------------


def top(field, value):
    def change(data):
        data[field] = value
        if value is None:
            del data[field]

    return lambda folder: edit(folder, change)


def entry(field, value):
    def change(data):
        data["frames"][1][field] = value
        if value is None:
            del data["frames"][1][field]

    return lambda folder: edit(folder, change)


def cut_picture(folder):
    path = folder / "image" / "2.png"
    path.write_bytes(path.read_bytes()[:1000])


def small_picture(folder):
    Image.new("RGBA", (24, 24), (9, 9, 9, 255)).save(folder / "image" / "2.png")


def no_alpha(folder):
    Image.new("RGB", (48, 48)).save(folder / "image" / "2.png")


def empty_matte(folder):
    Image.new("RGBA", (48, 48)).save(folder / "image" / "2.png")


def mask(picture):
    """Take the alpha away from the second picture and put a mask beside it."""

    def change(folder):
        no_alpha(folder)
        (folder / "mask").mkdir()
        picture.save(folder / "mask" / "2.png")

    return change


POSE = [0.0] * 14 + [float("nan")]
MIRROR = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -4]]
OPENCV = [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 4]]
CATALOGUE = {
    "no JSON": (lambda f: (f / "flame_params.json").write_text("frames"), r"flame_params.json cannot be read as JSON"),
    "a list": (lambda f: (f / "flame_params.json").write_text("[]"), r"flame_params.json holds a list"),
    "a key twice": (
        lambda f: (f / "flame_params.json").write_text('{"frames": [], "frames": []}'),
        r"flame_params.json.*'frames' stands there twice",
    ),
    "missing shape": (top("shape_params", None), r"flame_params.json has no 'shape_params'"),
    "shape of the 300-code layout": (top("shape_params", [0.0] * 300), r"shape_params must be .*\[100\], not \[300\]"),
    "no frames": (top("frames", []), r"frames must be a list with at least one frame"),
    "three intrinsics": (top("intrinsics", [-3, 3, 0.5]), r"intrinsics must be .*\[4\], not \[3\]"),
    "focal length zero": (top("intrinsics", [0, 3, 0.5, 0.5]), r"intrinsics.*focal length"),
    "missing expression": (entry("expression", None), r"frames\[1\] has no 'expression'"),
    "NaN pose": (entry("pose", POSE), r"frames\[1\]: pose holds NaN"),
    "pose without eyes": (entry("pose", [0.0] * 9), r"frames\[1\]: pose must be .*\[15\], not \[9\]"),
    "ragged camera": (entry("world_mat", [[1, 0], [0]]), r"frames\[1\]: world_mat must be numbers"),
    "mirrored camera": (entry("world_mat", MIRROR), r"frames\[1\]: world_mat holds no rotation"),
    "OpenCV camera": (entry("world_mat", OPENCV), r"frames\[1\]: world_mat puts the head behind the camera"),
    "path escape": (entry("file_path", "../../secret"), r"file_path '../../secret.png' points outside"),
    "path no text": (entry("file_path", 2), r"frames\[1\]: file_path is no text"),
    "box as text": (entry("bbox", "all"), r"frames\[1\]: bbox must be numbers"),
    "box in pixels": (entry("bbox", [12, 6, 24, 24]), r"frames\[1\]: bbox must be x0 y0 x1 y1, -1 to 1 across"),
    "inverted box": (entry("bbox", [0.5, 0.75, -0.5, -0.25]), r"frames\[1\]: bbox must be x0 y0 x1 y1, -1 to 1"),
    "missing picture": (lambda f: (f / "image" / "2.png").unlink(), r"image/2.png is missing"),
    "truncated picture": (cut_picture, r"2.png cannot be decoded"),
    "picture of another size": (small_picture, r"2.png is 24 x 24 px, not 48 x 48"),
    "no matte at all": (no_alpha, r"mask/2.png is missing, and 2.png has no alpha"),
    "mask of 16 bits": (mask(Image.new("I;16", (48, 48), 65535)), r"mask/2.png has mode 'I;16'"),
    "mask of ones": (mask(Image.new("L", (48, 48), 1)), r"mask/2.png: greatest value 1: multiply by 255"),
    "empty matte": (empty_matte, r"2.png: the matte is empty"),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_malformed_subjects_are_refused_by_name_and_nothing_is_lost(case, small):
    folder, out = small
    splatting.convert(folder, out, test_frames=1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    change, words = CATALOGUE[case]
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        splatting.convert(folder, out, test_frames=1)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "source"]
