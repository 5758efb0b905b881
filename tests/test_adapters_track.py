"""The GAGAvatar_track adapter: the tracker's cameras, codes and traps; what is broken is refused by name."""

import os
import pickle
import stat
import sys

import adapter_toys_a as toys
import numpy as np
import pytest
from PIL import Image

from data_scripts.adapters import gagavatar_track as track
from data_scripts.adapters import matting
from data_scripts.adapters.__main__ import main
from data_scripts.track.choose import TRACK_PYTHON
from sa0lib import safe_pickle
from sa0lib.datasets import Sequence
from sa0lib.safe_pickle import RefusedGlobal

VIDEO = "obama"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder of track_video.py with 12 frames, and what they must become. Not to be changed."""
    folder = tmp_path_factory.mktemp("track") / VIDEO
    return folder, toys.write_track(folder, {VIDEO: 12})


@pytest.fixture(scope="module")
def converted(tree, tmp_path_factory):
    folder, truths = tree
    out = tmp_path_factory.mktemp("out") / VIDEO
    assert track.convert(folder, out, mattes=folder / "mattes", test_frames=3) == [out]
    return out, truths


@pytest.fixture
def small(tmp_path):
    """A folder of two frames that a test may break, and where it would be converted to."""
    folder = tmp_path / "source" / VIDEO
    toys.write_track(folder, {VIDEO: 2})
    return folder, tmp_path / "out"


def table(folder, name="optim"):
    return safe_pickle.load(folder / f"{name}.pkl")


def write(folder, value, name="optim"):
    (folder / f"{name}.pkl").write_bytes(pickle.dumps(value))


# --- what comes out -------------------------------------------------------------------------------------------


def test_codes_pictures_and_projected_vertices_are_the_trackers(converted):
    out, truths = converted
    sequence = Sequence(out, "train")
    for i in (0, 2, 8):
        toys.check_frame(sequence, i, truths[f"{VIDEO}_{sequence.timestep(i)}"])


def test_frames_are_in_the_order_of_their_numbers_not_of_their_names(converted):
    train, test = Sequence(converted[0], "train"), Sequence(converted[0], "test")
    assert [train.timestep(i) for i in range(len(train))] == list(range(9))
    assert [test.timestep(i) for i in range(len(test))] == [9, 10, 11]
    assert test.entries[1]["source"] == f"{VIDEO}_10"


def test_the_head_turns_in_the_camera_and_not_in_the_codes(converted):
    sequence = Sequence(converted[0], "train")
    assert not any(sequence.params(i)[name].any() for i in range(9) for name in ("rotation", "neck", "translation"))
    assert not np.allclose(sequence.camera(0).viewmat[:3, :3], sequence.camera(1).viewmat[:3, :3], atol=0.01)


def test_a_global_rotation_in_posecode_is_kept(small):
    folder, out = small
    records = table(folder)
    records[f"{VIDEO}_0"]["posecode"][:3] = (0.1, 0.2, 0.3)
    write(folder, records)
    track.convert(folder, out, mattes=folder / "mattes")
    assert np.allclose(Sequence(out, "train").params(0)["rotation"], [[0.1, 0.2, 0.3]])


def test_the_codes_belong_to_flame_2020(converted):
    assert Sequence(converted[0], "train").basis == "FLAME 2020"


def test_the_head_box_is_in_shares_of_512_px(converted):
    assert Sequence(converted[0], "train")[0].face_box.tolist() == [128, 64, 384, 448]


def test_a_metre_of_the_mesh_is_a_metre_although_the_tracker_enlarges_it_five_times(converted):
    center = Sequence(converted[0], "train").camera(0).center
    assert 1.5 < float(center.norm()) < 2.1


def test_shapes_that_alternate_along_a_video_stay_as_fitted(converted):
    sequence = Sequence(converted[0], "train")
    shapes = [sequence.params(i)["shape"] for i in range(3)]
    assert (shapes[0] == shapes[2]).all() and not (shapes[0] == shapes[1]).all()


def test_one_shape_writes_the_videos_mean(small):
    folder, out = small
    track.convert(folder, out, mattes=folder / "mattes", one_shape=True)
    mean = np.mean([record["shapecode"] for record in table(folder).values()], axis=0)
    sequence = Sequence(out, "train")
    assert all(np.allclose(sequence.params(i)["shape"], mean, atol=1e-6) for i in range(2))


def test_smoothed_codes_are_taken_where_they_are_and_optim_on_demand(small):
    folder, out = small
    smoothed = table(folder)
    smoothed[f"{VIDEO}_0"]["eyecode"] = np.full(6, 0.5, np.float32)
    write(folder, smoothed, "smoothed")
    for codes, eyes in ((None, 0.5), ("smoothed", 0.5), ("optim", table(folder)[f"{VIDEO}_0"]["eyecode"])):
        track.convert(folder, out, mattes=folder / "mattes", codes=codes)
        assert np.allclose(Sequence(out, "train").params(0)["eyes"], eyes)


def test_videos_in_one_lmdb_become_one_sequence_each(tmp_path):
    folder, pictures = tmp_path / "vfhq", tmp_path / "elsewhere"
    truths = toys.write_track(folder, {"Clip+abc+P0+C1": 2, "000001": 3})
    (folder / "img_lmdb").rename(pictures)  # as track_lmdb.py has it
    written = track.convert(folder, tmp_path / "out", mattes=folder / "mattes", lmdb=pictures)
    assert [path.name for path in written] == ["000001", "Clip+abc+P0+C1"]
    toys.check_frame(Sequence(written[0], "train"), 2, truths["000001_2"])


def test_outputs_of_several_videos_are_converted_in_one_go(tmp_path):
    for name in ("a", "b"):
        toys.write_track(tmp_path / "outputs" / name, {name: 1})
    mattes = tmp_path / "mattes"
    mattes.mkdir()
    for name in ("a", "b"):
        (tmp_path / "outputs" / name / "mattes" / f"{name}_0.png").rename(mattes / f"{name}_0.png")
    written = track.convert(tmp_path / "outputs", tmp_path / "out", mattes=mattes)
    assert [len(Sequence(path, "train")) for path in written] == [1, 1]


def test_images_of_track_image_become_sequences_of_one_frame(small):
    folder, out = small
    records = {}
    for key, record in zip(("monroe.jpg", "img_2.png"), table(folder).values(), strict=True):
        records[key] = record | {"image": np.full((3, 512, 512), 0.2, np.float32)}
        Image.fromarray(toys.matte(512)).save(folder / "mattes" / f"{key}.png")
    write(folder, records)
    written = track.convert(folder, out, mattes=folder / "mattes")
    assert [path.name for path in written] == ["img_2", "monroe"]
    frame = Sequence(written[1], "train")[0]
    assert np.allclose(frame.image, 51 / 255) and frame.timestep == 0


def test_a_video_may_have_any_name_that_is_one(tmp_path):
    name = "Mein Film (1), 2_3"
    toys.write_track(tmp_path / name, {name: 1})
    optim, mattes = tmp_path / name, tmp_path / name / "mattes"
    assert list(track.videos(track.read_codes(optim, track.Options())[0], optim)) == [name]
    assert track.convert(optim, tmp_path / "out", mattes=mattes) == [tmp_path / "out"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_every_protocol_are_read(tmp_path, protocol):
    toys.write_track(tmp_path / VIDEO, {VIDEO: 1}, protocol=protocol)
    assert track.inspect(tmp_path / VIDEO, mattes=tmp_path / VIDEO / "mattes").ok


# --- mattes ---------------------------------------------------------------------------------------------------


def test_mattes_of_a_folder_are_written_as_they_are(converted):
    frame = Sequence(converted[0], "train")[0]
    assert np.array_equal((frame.mask[0] * 255).round().numpy(), toys.matte(512))


def test_without_mattes_and_without_the_network_nothing_is_written(small):
    folder, out = small
    with pytest.raises(FileNotFoundError, match="mattes: the tracker saves none.*--mattes DIR"):
        track.convert(folder, out, python=folder / "no_python")
    assert not out.exists()


def test_a_missing_matte_is_named(small):
    folder, out = small
    (folder / "mattes" / f"{VIDEO}_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=f"1 matte, the first is {VIDEO}_1.png"):
        track.convert(folder, out, mattes=folder / "mattes")


DETECTOR = """#!{python}
import sys
import numpy as np
out, size = sys.argv[2], int(sys.argv[4])
frames = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(-1, size, size, 3)
seen = np.array({seen})[: len(frames), None]
matte = np.zeros((len(frames), 256, 256), np.uint8)
matte[:, 64:192, 64:192] = 255
np.savez(out, matte=matte * seen[..., None].astype(np.uint8), window=np.where(seen, (0, 0, size), (0, 0, 1)))
"""


def detector(folder, seen):
    """A program that stands in for the interpreter with MediaPipe: the middle of every picture is the person."""
    path = folder / "python"
    path.write_text(DETECTOR.format(python=sys.executable, seen=seen))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_mattes_of_the_network_land_where_it_saw_the_person(small):
    folder, out = small
    track.convert(folder, out, python=detector(folder, [True, True]))
    mask = Sequence(out, "train")[0].mask[0]
    assert mask[160:352, 160:352].mean() > 0.95 and mask[:100].max() < 0.05


def test_frames_without_a_face_are_left_out_with_a_warning(small):
    folder, out = small
    with pytest.warns(UserWarning, match=f"left out, no face found.*{VIDEO}_0"):
        track.convert(folder, out, python=detector(folder, [False, True]))
    sequence = Sequence(out, "train")
    assert [sequence.timestep(i) for i in range(len(sequence))] == [1]


def test_without_any_face_nothing_is_written(small):
    folder, out = small
    with pytest.raises(ValueError, match="no face found in any picture"):
        track.convert(folder, out, python=detector(folder, [False, False]))
    assert not out.exists()


def test_black_up_to_the_pictures_edge_is_cut_from_the_matte_and_a_shadow_within_is_not():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:, 10:50] = 90
    picture[32:44, 22:34] = 0  # a shadow
    cut = matting.cut_black(np.full((64, 64), 200, np.uint8), picture)
    assert (cut[:15] == 0).all() and (cut[:, 55:] == 0).all() and (cut[20:, 10:50] == 200).all()


def test_a_network_that_fails_says_why(small):
    folder, out = small
    path = detector(folder, [True, True])
    path.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no mediapipe here')\n")
    with pytest.raises(RuntimeError, match="(?s)detector failed.*no mediapipe here"):
        track.convert(folder, out, python=path)
    assert not out.exists()


@pytest.mark.skipif(not TRACK_PYTHON.is_file(), reason="the tracker's own environment is not installed")
def test_the_real_network_finds_no_face_in_noise(small):
    folder, out = small
    with pytest.raises(ValueError, match="no face found in any picture"):
        track.convert(folder, out)


# --- the command ----------------------------------------------------------------------------------------------


def test_a_dry_run_reports_and_writes_nothing(tree, tmp_path, capsys):
    folder, _ = tree
    arguments = [track.NAME, str(folder), str(tmp_path / "out"), "--mattes", str(folder / "mattes"), "--dry-run"]
    assert main(arguments) == 0
    report = capsys.readouterr().out
    assert "optim.pkl: 12 frames" in report and "img_lmdb: 12 pictures" in report
    assert f"{VIDEO}: 12 train, 0 test frames, 2 different shapecodes" in report
    assert not list(tmp_path.iterdir())


def test_a_dry_run_with_something_missing_exits_with_one(small, capsys):
    folder, out = small
    (folder / "img_lmdb" / "data.mdb").unlink()
    assert main([track.NAME, str(folder), str(out), "--mattes", str(folder / "mattes"), "--dry-run"]) == 1
    assert "data.mdb is missing" in capsys.readouterr().out


def test_the_command_converts(small, capsys):
    folder, out = small
    assert main([track.NAME, str(folder), str(out), "--mattes", str(folder / "mattes"), "--test-frames", "1"]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert len(Sequence(out, "test")) == 1


def test_errors_leave_the_command_with_one_line(small):
    folder, out = small
    (folder / "optim.pkl").write_bytes(b"junk")
    with pytest.raises(SystemExit, match=r"^gagavatar_track: .*optim.pkl.*damaged.*$"):
        main([track.NAME, str(folder), str(out)])


# --- what is broken -------------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def edited(field, value, key=f"{VIDEO}_1"):
    """Replace one field of one frame; None removes it."""

    def change(folder):
        records = table(folder)
        records[key][field] = value
        if value is None:
            del records[key][field]
        write(folder, records)

    return change


def renamed(old, new):
    def change(folder):
        records = table(folder)
        records[new] = records.pop(old)
        write(folder, records)

    return change


def cut(name, keep):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:keep])

    return change


def picture(data):
    """Replace the LMDB by one whose second record holds other bytes; None leaves it out."""

    def change(folder):
        with track.open_lmdb(folder / "img_lmdb") as transaction:
            whole = {key: bytes(transaction.get(key.encode())) for key in (f"{VIDEO}_0", f"{VIDEO}_1")}
        changed = whole | {f"{VIDEO}_1": data(whole[f"{VIDEO}_1"]) if data else None}
        (folder / "img_lmdb" / "data.mdb").unlink()
        (folder / "img_lmdb" / "lock.mdb").unlink()
        (folder / "img_lmdb").rmdir()
        toys.write_lmdb(folder / "img_lmdb", {key: value for key, value in changed.items() if value is not None})

    return change


def patched_version(folder):
    path = folder / "img_lmdb" / "data.mdb"
    data = bytearray(path.read_bytes())
    for page in (0, 4096):  # the two pages that say which version it is
        data[page + 20 : page + 24] = (999).to_bytes(4, "little")
    path.write_bytes(data)


def poisoned(folder):
    write(folder, table(folder) | {f"{VIDEO}_1": Bomb(folder / "ran")})


def object_array(folder):
    edited("expcode", np.array([{}] * 100, dtype=object))(folder)


def damaged_matte(folder):
    cut(f"mattes/{VIDEO}_1.png", 200)(folder)


def small_matte(folder):
    Image.fromarray(toys.matte(64)).save(folder / "mattes" / f"{VIDEO}_1.png")


def other_matte(pixels):
    return lambda folder: Image.fromarray(pixels).save(folder / "mattes" / f"{VIDEO}_1.png")


def box(*values):
    return edited("bbox", np.array(values, np.float32))


NAN = np.full(6, np.nan, np.float32)
MIRROR = np.concatenate([np.diag([-1.0, 1.0, 1.0]), [[0], [0], [9.0]]], 1).astype(np.float32)
BEHIND = np.concatenate([np.eye(3), [[0], [0], [-9.0]]], 1).astype(np.float32)
CATALOGUE = {
    "hostile pickle": (poisoned, r"optim.pkl: refused. This pickle asks for posix.mkdir"),
    "pickled objects in an array": (object_array, r"optim.pkl: no table of arrays"),
    "truncated pickle": (cut("optim.pkl", 900), r"optim.pkl: damaged"),
    "not a table": (lambda folder: write(folder, [1, 2]), r"optim.pkl is no table of frames"),
    "empty table": (lambda folder: write(folder, {}), r"optim.pkl is no table of frames"),
    "frame without a name": (renamed(f"{VIDEO}_1", ""), r"optim.pkl is no table of frames"),
    "missing field": (edited("transform_matrix", None), rf"optim.pkl/{VIDEO}_1 has no 'transform_matrix'"),
    "NaN pose": (edited("posecode", NAN), rf"optim.pkl/{VIDEO}_1: posecode holds NaN"),
    "wrong width": (edited("expcode", np.zeros(50, np.float32)), rf"{VIDEO}_1: expcode must be .*\[100\], not \[50\]"),
    "text for numbers": (edited("eyecode", "closed"), rf"{VIDEO}_1: eyecode must be numbers"),
    "box in pixels": (box(100, 80, 400, 360), rf"{VIDEO}_1: bbox must be x0 y0 x1 y1 in shares of 512 px, not \[100"),
    "inverted box": (box(0.7, 0.1, 0.2, 0.9), rf"{VIDEO}_1: bbox must be x0 y0 x1 y1 in shares"),
    "box beyond the picture": (box(0.5, 0.1, 1.2, 0.9), rf"{VIDEO}_1: bbox must be x0 y0 x1 y1 in shares"),
    "older posecode": (edited("posecode", np.zeros(3, np.float32)), rf"{VIDEO}_1: posecode must be .*\[6\]"),
    "mirrored camera": (edited("transform_matrix", MIRROR), rf"{VIDEO}_1: transform_matrix holds no rotation"),
    "head behind the camera": (edited("transform_matrix", BEHIND), r"transform_matrix puts the head behind"),
    "path escape": (renamed(f"{VIDEO}_1", "../../evil_1"), r"optim.pkl: key '../../evil_1' would be written outside"),
    "video with a dot": (renamed(f"{VIDEO}_1", "a.b_1"), r"optim.pkl: a video's name 'a.b': use letters, digits"),
    "the same frame twice": (renamed(f"{VIDEO}_0", f"{VIDEO}_01"), r"are the same frame of obama"),
    "missing record": (picture(None), rf"img_lmdb: no record '{VIDEO}_1', 1 in all"),
    "truncated picture": (picture(lambda data: data[:2000]), rf"img_lmdb, record '{VIDEO}_1' cannot be decoded"),
    "a tensor for a picture": (picture(lambda data: b"PK\x03\x04" * 9), rf"record '{VIDEO}_1' cannot be decoded"),
    "picture of another size": (
        picture(lambda data: toys.jpeg(np.zeros((256, 256, 3), np.uint8))),
        rf"record '{VIDEO}_1' is 256 x 256 px, not 512 x 512",
    ),
    "LMDB cut off": (cut("img_lmdb/data.mdb", 12_288), r"data.mdb is cut off"),
    "LMDB of an unknown version": (patched_version, r"data.mdb cannot be opened.*v999 is not supported"),
    "no LMDB at all": (cut("img_lmdb/data.mdb", 0), r"data.mdb cannot be opened|data.mdb is cut off"),
    "truncated matte": (damaged_matte, rf"{VIDEO}_1.png cannot be decoded"),
    "matte of ones": (other_matte(toys.matte(512) // 255), rf"{VIDEO}_1.png: greatest value 1: multiply by 255"),
    "matte of 16 bits": (other_matte(np.full((512, 512), 65535, np.uint16)), rf"{VIDEO}_1.png has mode 'I;16'"),
    "empty matte": (other_matte(np.zeros((512, 512), np.uint8)), rf"{VIDEO}_1.png: the matte is empty"),
    "matte of another size": (small_matte, rf"{VIDEO}_1.png is 64 x 64 px, not 512 x 512"),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_malformed_output_is_refused_by_name_and_nothing_is_lost(case, small):
    folder, out = small
    track.convert(folder, out, mattes=folder / "mattes")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    change, words = CATALOGUE[case]
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        track.convert(folder, out, mattes=folder / "mattes")
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "source"] and not (folder / "ran").exists()


def test_more_held_out_frames_than_there_are_is_refused(small):
    folder, out = small
    with pytest.raises(ValueError, match="2 of 2 frames cannot be held out"):
        track.convert(folder, out, mattes=folder / "mattes", test_frames=2)


def test_a_folder_without_a_track_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no optim.pkl in it"):
        track.inspect(tmp_path)


def test_something_else_in_the_way_is_never_replaced(small):
    folder, out = small
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="nothing was changed"):
        track.convert(folder, out, mattes=folder / "mattes")
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


# --- the unpickler --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_all_kinds_come_back(tmp_path, protocol):
    value = {
        "c": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        "axes": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        "scalar": np.float32(1.5),
        "plain": [1, 2.5, "x", None, True],
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    back = safe_pickle.load(tmp_path / "a.pkl")
    assert all(np.array_equal(back[key], value[key]) for key in ("c", "fortran", "axes", "scalar"))
    assert back["plain"] == value["plain"]


def test_lists_that_hold_each_other_many_times_do_not_grow(tmp_path):
    value = []
    for _ in range(60):
        value = [value, value]  # 2^60 leaves if every one were copied
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    back = safe_pickle.load(tmp_path / "a.pkl")
    assert back[0] is back[1]


@pytest.mark.parametrize(
    "call",
    [b"cos\nsystem\n(S'touch ran'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93."],
)
def test_a_pickle_that_calls_something_is_refused_before_it_can(tmp_path, call):
    (tmp_path / "a.pkl").write_bytes(call)
    with pytest.raises(RefusedGlobal, match="nothing was run"):
        safe_pickle.load(tmp_path / "a.pkl")
