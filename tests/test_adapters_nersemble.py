"""data_scripts.adapters: NeRSemble v2 with its colours, VHAP's codes, and the benchmark's monocular tracking."""

import json
import pickle
import shutil

import adapter_toys_b as toys
import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts.adapters import nersemble, nersemble_benchmark
from data_scripts.adapters.colour import MONOMIALS, correct, decode, encode, expand
from data_scripts.adapters.nersemble import SERIALS
from sa0lib.datasets import Sequence
from sa0lib.head import load_head

SIZE = 160  # px, longer side of what is written from the toy's 220 x 320
PSNR = 38.0  # dB: what a picture keeps of the original through the toy's H.264 at CRF 8


@pytest.fixture(scope="module")
def head():
    return load_head()


def psnr(a, b) -> float:
    return float(-10 * np.log10(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)))


# Colours


def test_the_polynomials_have_the_terms_of_the_published_examples():
    rgb = np.array([0.17224810, 0.09170660, 0.06416938])  # the example in the documentation of `colour-science`
    assert np.allclose(expand(rgb, 5), [0.1722481, 0.0917066, 0.06416938, 0.00101364, 1], atol=1e-8)
    matrix = [[1.05263767, 0.13780789, -0.22763399], [0.07395843, 1.02939945, -0.1060115]]
    matrix += [[0.05725508, -0.20526336, 1.10151945]]
    assert np.allclose(expand(rgb, 3) @ np.array(matrix).T, [0.1793456, 0.1003392, 0.0617218], atol=1e-6)


def test_every_polynomial_has_as_many_different_terms_as_its_name_says():
    assert sorted(MONOMIALS) == [3, 4, 5, 7, 8, 10, 11, 14, 16, 17, 19, 20, 22, 35]
    for count, terms in MONOMIALS.items():
        assert len({"".join(sorted(term)) for term in terms}) == count


def test_a_polynomial_of_ten_terms_matches_hand_values():
    r, g, b = 0.5, 0.25, 0.125
    expected = [r, g, b, 0.125, 0.0625, 0.03125, 0.25, 0.0625, 0.015625, 1]
    assert np.array_equal(expand(np.array([r, g, b]), 10), expected)


def test_srgb_has_its_two_pieces_and_comes_back():
    assert np.allclose(decode(np.array([0.02, 0.5, 1.0])), [0.02 / 12.92, 0.21404114, 1.0])
    values = np.linspace(0, 1, 257)
    assert np.allclose(encode(decode(values)), values, atol=1e-12)


def test_a_correction_works_in_linear_light_and_clips():
    grey = np.full((1, 1, 3), 128, np.uint8)  # 0.2158605 in linear light
    twice, offset = correct(grey, 2 * np.eye(3)), np.concatenate([np.eye(3), [[-1.0], [0.1], [1.0]]], 1)
    assert np.array_equal(twice, np.full((1, 1, 3), 176))  # 0.431721 encoded; 2 x 128 would be white
    assert correct(grey, offset)[0, 0].tolist() == [0, 152, 255]


def test_the_identity_leaves_every_level_alone():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(correct(levels, np.eye(3)), levels)


# NeRSemble v2


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("nersemble")
    return toys.write_participant(root), root / "export", toys.write_export(root / "export")


@pytest.fixture
def tree(original, tmp_path):
    """A copy that a test may damage: (participant, export)."""
    return shutil.copytree(original[0], tmp_path / "018"), shutil.copytree(original[1], tmp_path / "export")


def options(export, **changes):
    return {"sequence": toys.SEQUENCE, "flame": export, "vhap_fps": toys.VHAP_FPS, "size": SIZE} | changes


@pytest.fixture(scope="module")
def written(original, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "018"
    assert nersemble.convert(original[0], out, **options(original[1])) == [out]
    return out


@pytest.fixture(scope="module")
def raw(original, tmp_path_factory):
    """One camera, its colours left alone."""
    out = tmp_path_factory.mktemp("out") / "raw"
    return nersemble.convert(original[0], out, **options(original[1], raw_colour=True, cameras=[SERIALS[15]]))[0]


def frames(root):
    return [(s, i) for split in ("train", "val", "test") for s in [Sequence(root, split)] for i in range(len(s))]


def test_known_vertices_land_where_the_calibration_puts_them(written, original, head):
    """Codes live in VHAP's world, cameras in the calibration's: the motion between them must be found and undone."""
    back, table, error = np.linalg.inv(toys.motion()), original[2], 0.0
    K = np.diag([SIZE / 3208 * 110 / (SIZE * 2200 / 3208), SIZE / 3208, 1]) @ toys.K_CALIBRATED  # 110 x 160 px
    for sequence, i in frames(written):
        t, serial = sequence.timestep(i), sequence.entries[i]["camera_id"]
        with torch.no_grad():
            vertices = head(**{name: torch.from_numpy(values[t : t + 1]) for name, values in table.items()})[0]
        calibrated = vertices.double().numpy() @ back[:3, :3].T + back[:3, 3]
        expected = toys.project(calibrated, toys.rig_poses()[serial], K)
        found, _ = sequence.camera(i).project(vertices)
        error = max(error, np.abs(found.numpy() - expected).max())
    assert error < 0.01


def test_intrinsics_are_scaled_from_2200_x_3208_to_the_pictures(written):
    camera = Sequence(written, "val").camera(0)
    assert (camera.width, camera.height) == (110, 160)
    expected = [7000 * 110 / 2200, 7010 * 160 / 3208, 1080 * 110 / 2200, 1630 * 160 / 3208]
    assert np.allclose(camera.K[[0, 1, 0, 1], [0, 1, 2, 2]].numpy(), expected, rtol=1e-6)


def test_a_camera_has_its_index_in_the_published_order_and_8_is_the_front(written):
    entries = [sequence.entries[i] for sequence, i in frames(written)]
    assert {(e["camera_id"], e["camera_index"]) for e in entries} == {(SERIALS[c], c) for c in toys.CAMERAS}
    assert SERIALS[8] == "222200037" and len(set(SERIALS)) == 16


def test_the_front_camera_validates_and_the_last_timesteps_test(written):
    train, val, test = (Sequence(written, split) for split in ("train", "val", "test"))
    assert {val.camera_index(i) for i in range(len(val))} == {8}
    assert 8 not in {train.camera_index(i) for i in range(len(train))}
    assert {test.camera_index(i) for i in range(len(test))} == set(toys.CAMERAS)
    assert {train.timestep(i) for i in range(len(train))} == set(range(7)) and test.timestep(0) == 7


def test_nothing_is_held_out_of_a_capture_that_is_all_for_training(original, tmp_path):
    nersemble.convert(original[0], tmp_path / "o", **options(original[1], all_train=True))
    train, val, test = (Sequence(tmp_path / "o", split) for split in ("train", "val", "test"))
    assert {train.camera_index(i) for i in range(len(train))} == set(toys.CAMERAS) and not len(val) + len(test)


def test_codes_meet_the_pictures_that_ffmpegs_filter_took(raw):
    chosen = toys.extracted()
    assert chosen[0] > 0  # the trap: VHAP's first picture is not the video's first frame
    assert [toys.number(sequence[i].image) for sequence, i in frames(raw)] == chosen


def test_colours_are_corrected_and_not_the_raw_ones(written):
    """The trap: VHAP computes the correction and then keeps the uncorrected picture."""
    for sequence, i in frames(written):
        entry, index = sequence.entries[i], sequence.camera_index(i)
        raw = nersemble.resize(toys.picture(entry["video_frame"], toys.WIDTH, toys.HEIGHT, index), 110, 160)
        corrected = correct(raw, np.array(toys.colour_matrix(index)))
        picture = sequence[i].image.permute(1, 2, 0)
        assert psnr(picture, corrected / 255) > PSNR
        assert psnr(picture, raw / 255) < 30


def test_raw_colours_stay_when_asked_for(raw):
    sequence = Sequence(raw, "train")
    original = toys.picture(toys.extracted()[0], toys.WIDTH, toys.HEIGHT, 15)
    assert psnr(sequence[0].image.permute(1, 2, 0), nersemble.resize(original, 110, 160) / 255) > PSNR


def test_codes_and_mattes_come_back_as_they_were(written, original):
    for sequence, i in frames(written):
        t = sequence.timestep(i)
        for name, value in sequence.params(i).items():
            assert np.array_equal(value[0].numpy(), original[2][name][t]), name
        expected = nersemble.resize(toys.matte(toys.WIDTH, toys.HEIGHT, toys.extracted()[t]), 110, 160)
        assert np.array_equal((sequence[i].mask[0] * 255).round().numpy(), expected)
        assert sequence[i].face_box[0] == np.flatnonzero((expected > 127).any(0))[0]
    assert Sequence(written, "train").basis == "FLAME 2023"


def test_mattes_may_be_videos_and_then_follow_the_video_frames(original, tmp_path):
    source = toys.write_participant(tmp_path, mattes="videos")
    nersemble.convert(source, tmp_path / "out", **options(original[1], cameras=[SERIALS[8]]))
    sequence = Sequence(tmp_path / "out", "test")
    expected = nersemble.resize(toys.matte(toys.WIDTH, toys.HEIGHT, sequence.entries[0]["video_frame"]), 110, 160)
    assert np.abs(sequence[0].mask[0].numpy() - expected / 255).mean() < 0.01


def test_offsets_on_the_template_are_kept_beside_the_codes(original, tmp_path):
    toys.write_export(tmp_path / "export", offset=1e-3)
    nersemble.convert(original[0], tmp_path / "out", **options(tmp_path / "export", cameras=[SERIALS[8]]))
    with np.load(tmp_path / "export" / "flame_param" / "00000.npz") as file, pytest.warns(UserWarning, match="offset"):
        assert np.array_equal(Sequence(tmp_path / "out", "train").static_offset.numpy(), file["static_offset"][0])


def test_codes_of_flame_2020_are_labelled_as_such(original, tmp_path):
    nersemble.convert(original[0], tmp_path / "o", **options(original[1], basis="FLAME 2020", cameras=[SERIALS[8]]))
    assert Sequence(tmp_path / "o", "train").basis == "FLAME 2020"


def test_a_dry_run_says_what_the_dataset_does_not_ship(tree):
    source, _ = tree
    shutil.rmtree(source / "sequences" / toys.SEQUENCE / "alpha_maps")
    report = nersemble.inspect(source, sequence=toys.SEQUENCE)
    assert not report.ok and not report.will_write
    assert any("no matte" in line for line in report.missing) and any("--flame" in line for line in report.missing)


def test_a_dry_run_of_a_whole_tree_says_what_would_be_written(original):
    report = nersemble.inspect(original[0], **options(original[1]))
    assert report.ok and report.will_write == [f"018 {toys.SEQUENCE}: 40 pictures of 10 timesteps"]


def test_a_dry_run_lists_the_mattes_that_are_missing(tree):
    source, export = tree
    for number in (4, 6):
        (source / "sequences" / toys.SEQUENCE / "alpha_maps" / f"cam_{SERIALS[8]}_{number:06d}.png").unlink()
    (line,) = nersemble.inspect(source, **options(export)).missing
    assert "2 mattes of camera 222200037, the first is cam_222200037_000004.png (or .jpg)" in line


def test_a_dry_run_says_which_rate_to_give(original):
    (line,) = nersemble.inspect(original[0], **options(original[1], vhap_fps=None)).missing
    assert line == "--vhap-fps: give the --target_fps of VHAP's preprocess_video, 25 if you gave it none"


# NeRSemble v2: what is malformed


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def resave(path, **changes):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def calibration(change):
    return lambda source, export: edit(source / "calibration" / "camera_params.json", change)


def colours(change):
    return lambda source, export: edit(source / "calibration" / "color_calibration.json", change)


def exported(change):
    return lambda source, export: edit(export / "transforms.json", change)


def codes_file(**changes):
    return lambda source, export: resave(export / "flame_param" / "00003.npz", **changes)


def video(serial, change):
    return lambda source, export: change(source / "sequences" / toys.SEQUENCE / "images" / f"cam_{serial}.mp4")


def cut_off(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def fewer_frames(path):
    toys.write_video(path, (toys.picture(k, toys.WIDTH, toys.HEIGHT) for k in range(20)), toys.FPS)


def landscape(path):
    toys.write_video(path, (toys.picture(k, toys.HEIGHT, toys.WIDTH) for k in range(toys.FRAMES)), toys.FPS)


def scaled(data):
    data["world_2_cam"][SERIALS[8]][0] = [2 * x for x in data["world_2_cam"][SERIALS[8]][0]]


def mirrored(data):
    data["world_2_cam"][SERIALS[11]][0] = [-x for x in data["world_2_cam"][SERIALS[11]][0]]


def other_rig(data):
    for frame in data["frames"]:
        if frame["camera_id"] == SERIALS[11]:
            frame["transform_matrix"][0][3] += 0.05


def put(*keys, value):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        if value is None:
            del data[keys[-1]]
        else:
            data[keys[-1]] = value

    return change


def empty_matte(source, export):
    path = source / "sequences" / toys.SEQUENCE / "alpha_maps" / f"cam_{SERIALS[8]}_000002.png"
    Image.new("L", (toys.WIDTH, toys.HEIGHT)).save(path)


def matte(picture):
    """Put another matte in the place of one."""
    return lambda source, export: picture.save(
        source / "sequences" / toys.SEQUENCE / "alpha_maps" / f"cam_{SERIALS[8]}_000002.png"
    )


def matte_video(source, export):
    path = source / "sequences" / toys.SEQUENCE / "alpha_maps" / f"cam_{SERIALS[8]}.mp4"
    landscape(path)


def cut_matte(source, export):
    cut_off(0.5)(source / "sequences" / toys.SEQUENCE / "alpha_maps" / f"cam_{SERIALS[8]}_000002.png")


BROKEN = {
    "a serial missing in the calibration": (
        calibration(put("world_2_cam", SERIALS[8], value=None)),
        "camera_params.json: world_2_cam has no 222200037",
    ),
    "a pose that scales": (calibration(scaled), "camera_params.json: world_2_cam.222200037.*rotation"),
    "a pose that mirrors": (calibration(mirrored), "camera_params.json: world_2_cam.222200043.*rotation"),
    "no intrinsics": (calibration(put("intrinsics", value=None)), "camera_params.json.*'intrinsics'"),
    "intrinsics of another shape": (calibration(put("intrinsics", value=[[1, 2]])), "camera_params.json: intrinsics"),
    "intrinsics without a focal length": (
        calibration(put("intrinsics", 0, 0, value=0.0)),
        "camera_params.json: intrinsics is no matrix",
    ),
    "a width of null": (
        calibration(lambda data: data.update(width=None)),
        "camera_params.json: width must be an integer from 1 to 2147483647, not None",
    ),
    "a width in words": (calibration(put("width", value="abc")), "camera_params.json: width must be .* not 'abc'"),
    "a height of zero": (calibration(put("height", value=0)), "camera_params.json: height must be .* not 0"),
    "a negative height": (calibration(put("height", value=-5)), "camera_params.json: height must be .* not -5"),
    "calibration that is no JSON": (
        lambda source, export: (source / "calibration" / "camera_params.json").write_text("{"),
        "camera_params.json cannot be read as JSON",
    ),
    "no colours for a camera": (colours(put(SERIALS[8], value=None)), "color_calibration.json has no 222200037"),
    "colours of six terms": (
        colours(put(SERIALS[8], value=np.ones((3, 6)).tolist())),
        "color_calibration.json: 222200037 has 6 columns",
    ),
    "colours with NaN": (
        colours(put(SERIALS[8], value=(np.eye(3) * np.nan).tolist())),
        "color_calibration.json: 222200037",
    ),
    "unequal frame counts": (video(SERIALS[0], fewer_frames), "cam_222200042.mp4': 20"),
    "a turned video": (video(SERIALS[8], landscape), "cam_222200037.mp4 is 320 x 220 px, the calibration is for"),
    "a video cut off": (video(SERIALS[8], cut_off(0.6)), "cam_222200037.mp4"),
    "a video without its index": (video(SERIALS[8], cut_off(0.01)), "cam_222200037.mp4 cannot be decoded"),
    "a camera that the rig lacks": (video("123", fewer_frames), "'123' is no camera of this rig"),
    "an empty matte": (empty_matte, "camera 222200037, frame 7: the matte is empty"),
    "a matte of ones": (
        matte(Image.new("L", (toys.WIDTH, toys.HEIGHT), 1)),
        "camera 222200037, frame 7: greatest value 1: multiply by 255",
    ),
    "a matte of 16 bits": (
        matte(Image.new("I;16", (toys.WIDTH, toys.HEIGHT), 65535)),
        "cam_222200037_000002.png has mode 'I;16'",
    ),
    "a turned matte": (
        matte(Image.new("L", (toys.HEIGHT, toys.WIDTH), 255)),
        "cam_222200037_000002.png is 320 x 220 px, its video has 220 x 320",
    ),
    "a turned video of mattes": (matte_video, "alpha_maps/cam_222200037.mp4 is 320 x 220 px, its video has"),
    "a matte cut off": (cut_matte, "cam_222200037_000002.png cannot be decoded"),
    "NaN in an expression": (codes_file(expr=np.full((1, 100), np.nan)), "00003.npz: expr holds NaN"),
    "an expression of 50": (codes_file(expr=np.zeros((1, 50))), "00003.npz: expr must hold 100 numbers"),
    "no jaw": (codes_file(jaw_pose=None), "00003.npz has no 'jaw_pose'"),
    "moving offsets": (codes_file(dynamic_offset=np.ones((1, 5143, 3))), "00003.npz: dynamic_offset is not zero"),
    "codes that say FLAME 2020": (codes_file(codes_basis="FLAME 2020"), "00003.npz: codes_basis is 'FLAME 2020'"),
    "a hostile npz": (codes_file(expr=np.array([print], object)), "00003.npz is damaged"),
    "codes outside the export": (
        exported(lambda data: [f.update(flame_param_path="../../secret.npz") for f in data["frames"][:2]]),
        "flame_param_path '../../secret.npz' points outside",
    ),
    "a number for a path": (
        exported(put("frames", 0, "flame_param_path", value=7)),
        "frame 0, flame_param_path must be a path in quotes",
    ),
    "two files for a timestep": (
        exported(put("frames", 1, "flame_param_path", value="flame_param/00001.npz")),
        "frame 1, two flame_param files for timestep_id 000000",
    ),
    "no timestep_id": (exported(put("frames", 0, "timestep_id", value=None)), "transforms.json.*'timestep_id'"),
    "another rig": (exported(other_rig), "transform_matrix of 222200043 differs from the calibration"),
    "an unknown camera in the export": (
        exported(put("frames", 1, "camera_id", value="7")),
        "frame 1, camera_id '7' is not in the calibration",
    ),
    "no frames": (exported(put("frames", value=[])), "transforms.json: frames is empty"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_tree_gives_one_error_with_file_and_field_and_no_output(case, tree, tmp_path):
    spoil, message = BROKEN[case]
    source, export = tree
    spoil(source, export)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        nersemble.convert(source, tmp_path / "out", **options(export, cameras=cameras_of(case)))
    assert sorted(tmp_path.iterdir()) == before


def cameras_of(case):
    """All videos where the others matter, else two: less to decode."""
    return None if case in ("unequal frame counts", "a camera that the rig lacks") else [SERIALS[8], SERIALS[11]]


def test_a_failure_leaves_an_earlier_dataset_alone(tree, written, tmp_path):
    source, export = tree
    earlier = shutil.copytree(written, tmp_path / "out")
    empty_matte(source, export)
    with pytest.raises(ValueError, match="matte is empty"):
        nersemble.convert(source, earlier, **options(export))
    assert len(Sequence(earlier, "train")) == len(Sequence(written, "train"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "/etc"])
def test_a_sequence_name_cannot_leave_the_participant(name, original):
    with pytest.raises(ValueError, match="--sequence"):
        nersemble.inspect(original[0], **options(original[1], sequence=name))


def test_another_rate_than_vhaps_is_noticed(original):
    with pytest.raises(ValueError, match="correct --vhap-fps"):
        nersemble.inspect(original[0], **options(original[1], vhap_fps=6))


def test_an_unknown_flame_version_is_refused(original):
    with pytest.raises(ValueError, match="unknown FLAME version 'FLAME 2017'"):
        nersemble.inspect(original[0], **options(original[1], basis="FLAME 2017"))


# The benchmark


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return toys.write_benchmark(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="module")
def converted(task, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark_out") / "461"
    return nersemble_benchmark.convert(task[0], out, held_out=["SEN-08-clothes_and_lodging"])[0]


def tracked(task, sequence, i):
    entry = sequence.entries[i]
    table = task[1][entry["sequence"]]
    return table, table["frames"].tolist().index(entry["video_frame"])


def test_the_benchmarks_vertices_land_where_its_own_convention_puts_them(task, converted, head):
    """FLAME without a root rotation, then scale R x + t with R from XYZ Euler angles, then its cameras."""
    K = np.diag([toys.BENCHMARK_SIZE / 512] * 2 + [1]) @ toys.BENCHMARK_K
    for sequence, i in frames(converted):
        table, t = tracked(task, sequence, i)
        names = {"expr": "expression", "neck": "neck", "jaw": "jaw", "eyes": "eyes"}
        given = {name: torch.from_numpy(table[key][t : t + 1]) for name, key in names.items()}
        with torch.no_grad():
            model = head(shape=torch.from_numpy(table["shape"]), **given)[0].double().numpy()
            vertices = head(**sequence.params(i))[0]
        R = toys.euler_xyz(table["rotation"][t].astype(float))
        expected = toys.project(toys.SCALE * model @ R.T + table["translation"][t], toys.BENCHMARK_W2C, K)
        found, _ = sequence.camera(i).project(vertices)
        assert np.abs(found.numpy() - expected).max() < 0.01


def test_the_benchmarks_codes_come_back_as_codes_of_flame_2023(task, converted):
    for sequence, i in frames(converted):
        table, t = tracked(task, sequence, i)
        assert np.array_equal(sequence.params(i)["expr"][0].numpy(), table["expression"][t])
        assert np.array_equal(sequence.params(i)["shape"].numpy(), table["shape"])
        assert not sequence.params(i)["rotation"].any() and sequence.basis == "FLAME 2023"


def test_the_benchmarks_pictures_and_mattes_are_those_of_the_tracked_frames(converted):
    for sequence, i in frames(converted):
        entry, frame = sequence.entries[i], sequence[i]
        seed = list(toys.TRACKED).index(entry["sequence"])
        original = toys.picture(entry["video_frame"], *[toys.BENCHMARK_SIZE] * 2, seed)
        assert psnr(frame.image.permute(1, 2, 0), original / 255) > PSNR
        mask = toys.matte(*[toys.BENCHMARK_SIZE] * 2, entry["video_frame"]) / 255
        assert np.abs(frame.mask[0].numpy() - mask).mean() < 0.01
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(frame.face_box.numpy() - expected).max() <= 1


def test_held_out_sequences_test_and_sequences_without_pictures_are_named(task, converted):
    assert len(Sequence(converted, "train")) == 4 and len(Sequence(converted, "test")) == 2
    report = nersemble_benchmark.inspect(task[0])
    assert report.ok and any(line.startswith("FREE: no pictures (held out") for line in report.found)


def test_the_first_versions_file_name_is_read_too(tmp_path):
    folder, _ = toys.write_benchmark(tmp_path, version="flame2023_tracking.npz")
    assert nersemble_benchmark.inspect(folder).ok


class Hostile:
    def __reduce__(self):
        return (print, ("hostile code ran",))


def benchmark_codes(**changes):
    return lambda folder: resave(folder / "tracking" / "flame2023_tracking_v2.npz", **changes)


def other_version(folder):
    path = folder / "tracking" / "flame2023_tracking_v2.npz"
    path.rename(path.with_name("flame2020_tracking.npz"))


def pickled(folder):
    (folder / "tracking" / "flame2023_tracking_v2.npz").write_bytes(pickle.dumps(Hostile()))


def short_video(folder):
    shown = (toys.picture(k, 256, 256) for k in range(4))
    toys.write_video(folder / "images" / f"cam_{nersemble_benchmark.SERIAL}.mp4", shown)


def benchmark_calibration(change):
    return lambda folder: edit(folder.parents[1] / "calibration" / "camera_params.json", change)


FRONT = nersemble_benchmark.SERIAL
BROKEN_TASK = {
    "NaN in an expression": (benchmark_codes(expression=np.full((4, 100), np.nan)), "v2.npz: expression holds NaN"),
    "an expression of 50": (benchmark_codes(expression=np.zeros((4, 50))), "v2.npz: expression must be numbers"),
    "no eyes": (benchmark_codes(eyes=None), "v2.npz has no 'eyes'"),
    "more jaws than expressions": (benchmark_codes(jaw=np.zeros((5, 3))), "v2.npz: jaw must be numbers of shape"),
    "frames twice": (benchmark_codes(frames=np.array([0, 1, 1, 5])), "v2.npz: frames must be whole numbers that grow"),
    "a scale of zero": (benchmark_codes(scale=np.zeros((1, 1))), "v2.npz: scale must be positive"),
    "rotations that disagree": (
        benchmark_codes(rotation_matrices=np.tile(np.eye(3), (4, 1, 1))),
        r"v2.npz: rotation \(as XYZ Euler angles\) and rotation_matrices differ",
    ),
    "an unknown FLAME version": (other_version, "flame2020_tracking.npz'\\] is of an unknown FLAME version"),
    "an object array": (benchmark_codes(jaw=np.array([Hostile()], object)), "v2.npz is refused.*Nothing in it was run"),
    "a pickle for an npz": (pickled, "v2.npz is refused.*Nothing in it was run"),
    "a video shorter than its codes": (short_video, f"cam_{FRONT}.mp4: it ends before frame 5"),
    "no pose of the camera": (benchmark_calibration(put("world_2_cam", FRONT, value=None)), "world_2_cam has no"),
    "a mirrored picture": (
        benchmark_calibration(put("intrinsics", FRONT, value=np.diag([-900.0, 900, 1]).tolist())),
        r"intrinsics.222200037 is no matrix \[\[fx",
    ),
    "intrinsics shared by all": (
        benchmark_calibration(put("intrinsics", value=toys.BENCHMARK_K.tolist())),
        "camera_params.json: intrinsics has no '222200037'",
    ),
}


def test_a_dry_run_of_the_benchmark_reads_its_calibration(task, tmp_path):
    folder = shutil.copytree(task[0], tmp_path / "461")
    edit(folder / "calibration" / "camera_params.json", put("world_2_cam", FRONT, value=None))
    with pytest.raises(ValueError, match="camera_params.json: world_2_cam has no"):
        nersemble_benchmark.inspect(folder)


@pytest.mark.parametrize("case", BROKEN_TASK)
def test_a_broken_benchmark_gives_one_error_with_file_and_field_and_no_output(case, task, tmp_path, capsys):
    spoil, message = BROKEN_TASK[case]
    folder = shutil.copytree(task[0], tmp_path / "461")
    spoil(folder / "sequences" / "EMO-2-surprise+fear")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        nersemble_benchmark.convert(folder, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["461"] and "hostile" not in capsys.readouterr().out
