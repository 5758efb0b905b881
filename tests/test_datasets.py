"""sa0lib.datasets: what is written comes back, and what is broken is refused by name."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.datasets import Record, Sequence, whole_folder, write_sequence
from sa0lib.head import WIDTHS

BASIS = "OpenHead 0123456789ab"
WIDTH, HEIGHT = 48, 32


def record(timestep: int, split: str = "train", camera_index: int = 0, **changes) -> Record:
    rng, codes = np.random.default_rng(100 * timestep + camera_index), np.random.default_rng(timestep)
    values = dict(
        image=rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        mask=rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8),
        camera=Camera(intrinsics(90.0, WIDTH, HEIGHT), orbit(0.3, 0.1 * timestep, 0.8, torch.zeros(3)), WIDTH, HEIGHT),
        params={
            name: torch.from_numpy(codes.normal(size=(1, width)).astype(np.float32)) for name, width in WIDTHS.items()
        },
        face_box=(4.0, 6.0, 40.0, 30.0),
        split=split,
        timestep=timestep,
        camera_index=camera_index,
    )
    return Record(**(values | changes))


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "toy"
    with whole_folder(root) as part:
        write_sequence(part, [record(0), record(1), record(1, camera_index=3), record(2, "test")], BASIS)
    return root


@pytest.fixture
def root(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "toy")


def edit(root, change, split="train"):
    path = root / f"transforms_{split}.json"
    data = json.loads(path.read_text())
    change(data["frames"])
    path.write_text(json.dumps(data))


def resave(path, **changes):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_pictures_and_mattes_come_back_bit_for_bit(written):
    frame, source = Sequence(written, "train")[1], record(1)
    assert np.array_equal((frame.image.permute(1, 2, 0) * 255).round().numpy(), source.image)
    assert np.array_equal((frame.mask[0] * 255).round().numpy(), source.mask)


def test_codes_come_back_under_the_keywords_of_head_forward(written):
    params = Sequence(written, "train").params(1)
    assert params.keys() == WIDTHS.keys()
    assert all(torch.equal(params[name], value) for name, value in record(1).params.items())


def test_cameras_come_back_through_the_opengl_matrix(written):
    for i, timestep in enumerate((0, 1)):
        camera, source = Sequence(written, "train").camera(i), record(timestep).camera
        assert torch.allclose(camera.viewmat, source.viewmat, atol=1e-6)
        assert torch.equal(camera.K, source.K)


def test_the_stored_matrix_is_camera_to_world_looking_along_minus_z(written):
    c2w = torch.tensor(json.loads((written / "transforms_train.json").read_text())["frames"][0]["transform_matrix"])
    assert torch.allclose(c2w[:3, 3], record(0).camera.center, atol=1e-6)
    assert torch.allclose(-c2w[:3, 2], record(0).camera.direction, atol=1e-6)


def test_splits_and_cameras_of_one_timestep_stay_apart(written):
    train, test = Sequence(written, "train"), Sequence(written, "test")
    assert [train.timestep(i) for i in range(3)] == [0, 1, 1] and test.timestep(0) == 2
    assert [train[i].camera_index for i in range(3)] == [0, 0, 3]
    assert len(Sequence(written, "val")) == 0


def test_the_canonical_file_holds_the_subjects_shape_and_an_open_jaw(written):
    with np.load(written / "canonical_flame_param.npz") as file:
        assert np.array_equal(file["shape"], record(0).params["shape"][0].numpy())
        assert np.allclose(file["jaw_pose"], [[0.3, 0, 0]]) and not file["expr"].any()


def test_a_smaller_size_averages_areas_and_scales_everything_in_pixels(written):
    full, half = Sequence(written, "train")[0], Sequence(written, "train", size=WIDTH // 2)[0]
    blocks = full.image.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).mean((2, 4))
    assert (half.image - blocks).abs().max() < 1e-6
    assert torch.equal(half.camera.K[:2], full.camera.K[:2] / 2)
    assert torch.equal(half.face_box, full.face_box / 2)
    assert (half.camera.width, half.camera.height) == (WIDTH // 2, HEIGHT // 2)


def test_a_failed_write_leaves_the_earlier_dataset_as_it_was(root):
    before = sorted(p.name for p in root.parent.iterdir())
    with pytest.raises(RuntimeError), whole_folder(root) as part:
        write_sequence(part, [record(7)], BASIS)
        raise RuntimeError
    assert len(Sequence(root, "train")) == 3
    assert sorted(p.name for p in root.parent.iterdir()) == before


def test_a_second_write_replaces_the_first(root):
    with whole_folder(root) as part:
        write_sequence(part, [record(5)], BASIS)
    assert [Sequence(root, "train").timestep(i) for i in range(len(Sequence(root, "train")))] == [5]
    assert [p.name for p in root.parent.iterdir()] == ["toy"]


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="nothing was changed"), whole_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").is_file()


def test_records_whose_picture_matte_and_camera_differ_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="timestep 0.*differ in size"):
        write_sequence(tmp_path, [record(0, mask=np.zeros((4, 4), np.uint8))], BASIS)


def test_codes_that_are_not_finite_are_not_written(tmp_path):
    broken = record(0).params | {"jaw": torch.tensor([[torch.nan, 0, 0]])}
    with pytest.raises(ValueError, match="00000.npz: jaw_pose.*NaN"):
        write_sequence(tmp_path, [record(0, params=broken)], BASIS)


def test_files_of_vhap_are_read_and_their_basis_is_its_default(root):
    for path in (root / "flame_param").iterdir():
        resave(path, codes_basis=None, static_offset=np.zeros((1, 5143, 3)), dynamic_offset=np.zeros((1, 5143, 3)))
    edit(root, lambda frames: [frame.pop("face_box") for frame in frames])
    sequence = Sequence(root, "train")
    assert sequence.basis == "FLAME 2023" and sequence.static_offset is None


def test_without_a_face_box_the_mattes_bounding_box_is_taken(root):
    edit(root, lambda frames: frames[0].pop("face_box"))
    matte = np.zeros((HEIGHT, WIDTH), np.uint8)
    matte[5:20, 10:31] = 255
    Image.fromarray(matte).save(root / "fg_masks" / "00000_00.png")
    assert Sequence(root, "train")[0].face_box.tolist() == [10, 5, 31, 20]


def test_a_static_offset_is_kept_and_announced(root):
    resave(root / "flame_param" / "00000.npz", static_offset=np.full((1, 7, 3), 0.001))
    with pytest.warns(UserWarning, match="static_offset up to 1.7 mm"):
        sequence = Sequence(root, "train")
    assert sequence.static_offset.shape == (7, 3)


def test_a_folder_without_the_split_is_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="transforms_train.json"):
        Sequence(tmp_path, "train")


def test_an_unknown_split_is_refused(written):
    with pytest.raises(ValueError, match="split must be"):
        Sequence(written, "eval")


@pytest.mark.parametrize("text", ["{", "[]", '{"frame": []}', '{"frames": [3]}'])
def test_transforms_that_are_no_list_of_frames_are_refused(root, text):
    (root / "transforms_train.json").write_text(text)
    with pytest.raises(ValueError, match="transforms_train.json is no list of frames"):
        Sequence(root, "train")


@pytest.mark.parametrize("field", ["fl_x", "transform_matrix", "fg_mask_path", "timestep_index", "w"])
def test_a_missing_field_is_named(root, field):
    edit(root, lambda frames: frames[1].pop(field))
    with pytest.raises(ValueError, match=f"frame 1 has no '{field}'"):
        Sequence(root, "train")


@pytest.mark.parametrize("value", [float("nan"), "wide", [1.0, 2.0]])
def test_intrinsics_that_are_no_finite_number_are_refused(root, value):
    edit(root, lambda frames: frames[0].update(fl_x=value))
    with pytest.raises(ValueError, match="frame 0, fl_x"):
        Sequence(root, "train").camera(0)


def test_a_camera_matrix_with_scale_in_it_is_refused(root):
    edit(root, lambda frames: frames[0].update(transform_matrix=(2 * torch.eye(4)).tolist()))
    with pytest.raises(ValueError, match="frame 0, transform_matrix.*rotation"):
        Sequence(root, "train").camera(0)


@pytest.mark.parametrize("path", ["../secret.png", "images/../../secret.png", "/etc/hostname"])
def test_a_path_out_of_the_dataset_is_refused(root, path):
    (root.parent / "secret.png").write_bytes(b"")
    edit(root, lambda frames: frames[0].update(file_path=path))
    with pytest.raises(ValueError, match="file_path .* points outside"):
        Sequence(root, "train")


def test_a_missing_picture_is_named(root):
    (root / "images" / "00001_00.png").unlink()
    with pytest.raises(FileNotFoundError, match="00001_00.png is missing"):
        Sequence(root, "train")


def test_a_cut_off_picture_is_named(root):
    path = root / "images" / "00000_00.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="00000_00.png cannot be decoded"):
        Sequence(root, "train")[0]


@pytest.mark.parametrize("folder", ["images", "fg_masks"])
def test_a_picture_of_another_size_is_refused(root, folder):
    path = root / folder / "00000_00.png"
    Image.open(path).resize((24, 16)).save(path)
    with pytest.raises(ValueError, match="is 24 x 16, but transforms_train.json says 48 x 32"):
        Sequence(root, "train")[0]


def test_a_truncated_npz_is_named(root):
    path = root / "flame_param" / "00000.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="00000.npz is damaged"):
        Sequence(root, "train")


def test_a_pickle_inside_an_npz_is_not_loaded(root):
    resave(root / "flame_param" / "00000.npz", expr=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="00000.npz is damaged.*allow_pickle"):
        Sequence(root, "train")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"jaw_pose": None}, "has no 'jaw_pose'"),
        ({"expr": np.zeros((1, 50))}, "expr must hold 100 numbers"),
        ({"translation": np.array([[0, np.nan, 0]])}, "translation holds NaN"),
        ({"codes_basis": np.array("SMPL-X 1.1")}, "unknown codes_basis 'SMPL-X 1.1'"),
        ({"dynamic_offset": np.ones((1, 4, 3))}, "dynamic_offset is not zero"),
    ],
)
def test_a_broken_flame_param_is_refused_by_field(root, change, words):
    resave(root / "flame_param" / "00000.npz", **change)
    with pytest.raises(ValueError, match=words):
        Sequence(root, "train")


def test_a_basis_that_changes_along_the_sequence_is_refused(root):
    resave(root / "flame_param" / "00001.npz", codes_basis=np.array("FLAME 2020"))
    with pytest.raises(ValueError, match="00001.npz: codes_basis 'FLAME 2020', but the sequence begins with"):
        Sequence(root, "train")[1]
