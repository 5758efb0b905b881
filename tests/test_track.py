"""data_scripts.track, its second half: the fit, the matte, the packed result, the dataset and the commands."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from toy_video import FRAMES, HEIGHT, INFO, WIDTH, detections, write_video

from data_scripts.track.choose import TRACK_PYTHON, run_detector
from data_scripts.track.dataset import write_dataset
from data_scripts.track.fit import FitConfig, LandmarkFit, fit
from data_scripts.track.landmarks import GROUPS, IBUG, IRIS, PAIRS, WEIGHTS
from data_scripts.track.matte import MATTE, SIZE, crop, crop_path, guided_filter, neck_cut, neck_loop, steady
from data_scripts.track.rig import Fit, LandmarkRig
from data_scripts.track.track import Track, pack, rounded, unpack
from data_scripts.track.video import probe, read_frames
from sa0lib.datasets import Sequence
from sa0lib.head import load_head
from sa0lib.paths import ASSETS, ROOT


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def codes(head):
    """A short, smooth performance at half a metre: the codes, and where the landmarks are in the video."""
    generator = torch.Generator().manual_seed(0)
    wave = torch.sin(torch.linspace(0, 6, FRAMES))[:, None]

    def smooth(count, size):
        return size * wave * torch.randn(1, count, generator=generator)

    truth = Fit(
        shape=torch.cat([torch.randn(1, 30, generator=generator), torch.zeros(1, 270)], 1),
        expr=smooth(100, 0.4),
        rotation=smooth(3, 0.15),
        jaw=torch.cat([0.1 + 0.1 * wave, torch.zeros(FRAMES, 2)], 1),
        eyes=torch.cat([0.1 * wave, 0.1 * wave, 0 * wave], 1).repeat(1, 2),
        translation=torch.tensor([0.0, 0.0, -0.55]) + smooth(3, 0.01),
        focal=1.4 * WIDTH,
    )
    return truth, truth.landmarks(LandmarkRig(head), WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "toy.mp4"
    write_video(path)
    return path


# Landmarks and their fit


def test_the_landmark_tables_name_points_that_exist():
    assert len(IBUG) == 68 and IBUG.max() < 468 and len(IRIS) == 10 and PAIRS.max() < 468
    assert len(WEIGHTS) == 478 and sum(part.stop - part.start for part in GROUPS.values()) == 68


def test_the_rig_gives_the_heads_own_landmarks(head):
    generator = torch.Generator().manual_seed(1)
    widths = {"shape": 300, "expr": 100, "rotation": 3, "jaw": 3, "eyes": 6, "translation": 3}
    codes = {name: 0.4 * torch.randn(4, width, generator=generator) for name, width in widths.items()}
    for which in ("68", "478"):
        expected = head.landmarks(head(**codes), which)
        assert torch.allclose(LandmarkRig(head, which).points(**codes), expected, atol=2e-6)


def test_the_solvers_derivatives_are_those_of_its_residuals(codes, head):
    truth, points = codes
    solver = LandmarkFit(head, points[:2], torch.ones(2), torch.arange(2), WIDTH, HEIGHT, FitConfig())
    solver.expr, solver.jaw, solver.eyes = truth.expr[:2].clone(), truth.jaw[:2].clone(), truth.eyes[:2].clone()
    both, step = torch.arange(2), 1e-3
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(2, solver._pack().shape[1], generator=generator)
    direction[:, -3:] *= 0.02
    r, _, J = solver.residuals(both, border=False)
    solver._move(both, step * direction)
    forward = solver.residuals(both, border=False)[0]
    solver._move(both, -2 * step * direction)
    numeric = (forward - solver.residuals(both, border=False)[0]) / (2 * step)
    analytic = (J @ direction[..., None])[..., 0]
    assert (numeric - analytic).abs().max() < 5e-3 * analytic.abs().max()


def test_a_synthetic_performance_is_recovered_from_noisy_landmarks(codes, head):
    truth, points = codes
    noisy = points + 0.5 * torch.randn(points.shape, generator=torch.Generator().manual_seed(3))
    result = fit(head, noisy, torch.ones(FRAMES), torch.arange(FRAMES), WIDTH, HEIGHT)
    error = result.landmarks(LandmarkRig(head), WIDTH, HEIGHT) - points
    assert error.norm(dim=-1).median() < 0.4  # px, of landmarks that are 0.59 px off in the median
    assert (result.rotation - truth.rotation).abs().median() < 0.02
    assert (result.jaw[:, 0] - truth.jaw[:, 0]).abs().median() < 0.04


# Crop and matte


def test_the_square_stays_in_the_picture_and_around_the_face():
    faces, _ = detections(x=60.0, y=50.0)
    faces[10:12] = np.nan  # bridged
    squares = crop_path(faces[:, 0], INFO)
    assert (squares[:, :2] >= 0).all() and (squares[:, :2] + squares[:, 2:] <= (WIDTH, HEIGHT)).all()
    inside = (faces[0, 0] >= squares[0, :2]) & (faces[0, 0] <= squares[0, :2] + squares[0, 2])
    assert inside.all() and np.allclose(squares[10], squares[0])


def test_the_matte_follows_the_window_that_it_was_made_in():
    matte = np.zeros((1, 256, 256), np.uint8)
    matte[0, 64:128, 128:192] = 255  # of a window at (40, 20), 128 px wide: (104, 52) to (136, 84) of the frame
    soft = steady(matte, np.array([[40, 20, 128.0]]), np.array([72, 36, 96.0]), 0, np.array([True]))
    rows, columns = np.nonzero(soft > 0.5)
    scale = MATTE / 96
    assert abs(columns.min() - (104 - 72) * scale) <= 1 and abs(columns.max() + 1 - (136 - 72) * scale) <= 1
    assert abs(rows.min() - (52 - 36) * scale) <= 1 and abs(rows.max() + 1 - (84 - 36) * scale) <= 1


def test_a_matte_is_steadied_only_by_kept_neighbours():
    mattes = np.zeros((3, 8, 8), np.uint8)
    mattes[0] = 255
    windows = np.tile([0.0, 0.0, 64.0], (3, 1))
    middle = [steady(mattes, windows, windows[1], 1, np.array(kept)).mean() for kept in ([1, 1, 1], [0, 1, 1])]
    assert np.allclose(middle, [0.25, 0.0])


def test_the_guided_filter_moves_a_blurred_edge_to_the_pictures_edge():
    guide = np.zeros((40, 40, 3), np.float32)
    guide[:, 20:] = (0.8, 0.6, 0.5)
    blurred = np.tile(np.clip((np.arange(40) - 16) / 8, 0, 1).astype(np.float32), (40, 1))
    refined = guided_filter(guide, blurred)
    assert np.abs(np.diff(refined[20]))[19] > 2 * np.abs(np.diff(blurred[20])).max()


def test_the_neck_loop_is_the_lowest_edge_of_the_mesh(head):
    loop = head.v_template[neck_loop(head)]
    assert loop[:, 1].max() < head.landmarks(head(), "68")[0, 8, 1] + 0.03  # not above the chin
    assert len(loop) > 10


def test_the_matte_ends_softly_at_the_visible_rim_of_the_neck():
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rim = np.stack([32 + 10 * np.cos(angle), 40 + 4 * np.sin(angle)], 1)
    cut = neck_cut(rim, np.array([0.0, 1.0]), 64)
    assert (cut[45:] == 0).all() and (cut[:36] == 1).all()
    assert cut[41, 32] > 0.5 and cut[41, 2] == 0  # the near rim reaches lower than the opening's sides
    assert (np.diff(cut, axis=0) <= 0).all()


# The track as a file and as a dataset


@pytest.fixture(scope="module")
def track(codes, head, video):
    truth, points = codes
    squares = np.tile([40.0, 10.0, 200.0], (FRAMES, 1))
    rng = np.random.default_rng(4)
    return rounded(
        Track(
            meta={
                "source": "toy.mp4", "sha256": "0", "width": WIDTH, "height": HEIGHT, "fps": 25.0,
                "basis": head.basis, "reasons": ["no face"] + [None] * (FRAMES - 1), "seconds": {},
            },
            kept=np.arange(1, FRAMES),
            squares=squares[1:],
            face_boxes=np.sort(rng.uniform(0, SIZE, (FRAMES - 1, 2, 2)), 1).reshape(-1, 4),  # low, high corner
            errors=rng.uniform(0, 4, (FRAMES - 1, 68)),
            mattes=rng.integers(0, 256, (FRAMES - 1, MATTE, MATTE), dtype=np.uint8),
            fit=truth.select(torch.arange(1, FRAMES)),
        )
    )  # fmt: skip


def test_the_crops_camera_sees_what_the_crop_shows(track, video):
    picture = np.asarray(crop(next(read_frames(video)), track.squares[0])).astype(int)
    rows, columns = np.nonzero(picture.min(2) > 150)  # the bright square
    seen = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    ray = np.array([210 - WIDTH / 2, 70 - HEIGHT / 2, track.fit.focal])  # through its centre, camera axes
    world = torch.linalg.inv(track.camera(0).viewmat) @ torch.tensor([*(0.5 * ray / ray[2]), 1.0]).float()
    xy, depth = track.camera(0).project(world[:3])
    assert np.abs(xy.numpy() - seen).max() < 0.6 and abs(float(depth) - 0.5) < 1e-5


def test_moving_the_origin_to_the_head_does_not_change_the_picture(codes, track, head):
    points = codes[1]
    zoom = SIZE / track.squares[0, 2]
    xy, _ = track.camera(4).project(head.landmarks(head(**track.params(4)), "478")[0])
    expected = (points[5].numpy() - track.squares[4, :2]) * zoom
    assert np.abs(xy.numpy() - expected).max() < 0.1  # half-precision expression codes


def test_a_packed_track_comes_back_equal(track, head, tmp_path):
    pack(track, head, tmp_path / "t.npz")
    back = unpack(tmp_path / "t.npz", head)
    assert np.array_equal(back.mattes, track.mattes) and np.array_equal(back.errors, track.errors)
    assert torch.equal(back.fit.expr, track.fit.expr) and np.array_equal(back.face_boxes, track.face_boxes)
    assert torch.equal(back.camera(3).K, track.camera(3).K) and back.meta["reasons"] == track.meta["reasons"]


def test_a_damaged_pack_is_refused(track, head, tmp_path):
    path = tmp_path / "t.npz"
    pack(track, head, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="t.npz is damaged"):
        unpack(path, head)


def test_a_pack_of_another_basis_is_refused(track, head, tmp_path):
    pack(track, head, tmp_path / "t.npz")
    other = load_head()
    other.shapedirs[..., 300:] = other.shapedirs[..., 300:].flip(-1)
    with pytest.raises(ValueError, match="its vertices lie up to .* mm elsewhere. Track again"):
        unpack(tmp_path / "t.npz", other)


@pytest.fixture(scope="module")
def dataset(track, video, head, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "toy"
    write_dataset(track, video, out, head, with_video=True)
    return out


def test_the_last_fifth_of_the_kept_frames_is_held_out(dataset):
    assert (len(Sequence(dataset, "train")), len(Sequence(dataset, "test"))) == (23, 6)
    assert Sequence(dataset, "test").timestep(0) == 23


def test_the_dataset_reads_back_as_the_track(dataset, track, head):
    sequence = Sequence(dataset, "train")
    frame = sequence[7]
    head.require_basis(sequence.basis)
    assert torch.allclose(frame.camera.K, track.camera(7).K)
    assert torch.equal(frame.params["expr"], track.params(7)["expr"])
    assert frame.image.shape == (3, SIZE, SIZE) and frame.mask.shape == (1, SIZE, SIZE)


def test_the_report_accounts_for_every_frame(dataset):
    told = json.loads((dataset / "report.json").read_text())
    assert [entry["frame"] for entry in told["frames"]] == list(range(FRAMES))
    assert told["frames"][0] == {"frame": 0, "kept": False, "reason": "no face"}
    assert told["summary"] == "29 kept, 1 no face"


def test_the_overlay_shows_every_kept_frame_and_the_sheet_is_a_picture(dataset):
    frames = list(read_frames(dataset / "overlay.mp4"))
    assert len(frames) == FRAMES - 1 and frames[0].shape == (SIZE, 2 * SIZE, 3)
    assert np.abs(frames[0][:, :SIZE].astype(int) - frames[0][:, SIZE:]).max() > 60  # the mesh is drawn
    assert (dataset / "contact_sheet.png").stat().st_size > 10_000


def test_a_damaged_video_leaves_no_dataset_behind(track, video, head, tmp_path):
    broken = tmp_path / "my.mp4"
    broken.write_bytes(video.read_bytes()[:1000])
    with pytest.raises(ValueError, match="my.mp4"):
        write_dataset(track, broken, tmp_path / "out", head, with_video=False)
    assert [p.name for p in tmp_path.iterdir()] == ["my.mp4"]


# The commands


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_the_tracker_says_in_one_line_what_is_missing(tmp_path):
    done = command("data_scripts.track", tmp_path / "my.mp4", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.splitlines() == [f"track: {tmp_path / 'my.mp4'}: no such video"]


def test_the_tracker_touches_no_folder_that_is_no_dataset(video, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = command("data_scripts.track", video, tmp_path)
    assert done.returncode == 1 and "is no dataset: choose another folder" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_the_detectors_environment_the_tracker_says_how_to_make_it(video, tmp_path):
    with pytest.raises(FileNotFoundError, match="make track.*requirements.txt"):
        run_detector(probe(video), tmp_path / "python")


def test_a_detector_that_dies_is_reported_with_its_last_words(video, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such model >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match="detector failed:\n  no such model"):
        run_detector(probe(video), python)


def test_the_committed_result_unpacks_into_the_dataset_of_the_clip(tmp_path):
    done = command("data_scripts.unpack_clip", "--out", tmp_path / "clip")
    assert done.returncode == 0, done.stderr
    train, test = Sequence(tmp_path / "clip", "train"), Sequence(tmp_path / "clip", "test")
    told = json.loads((tmp_path / "clip" / "report.json").read_text())
    assert len(train) + len(test) == sum(entry["kept"] for entry in told["frames"])
    assert told["reprojection_px"]["median"] <= 2.5


def test_another_video_than_the_clip_is_not_unpacked(video, tmp_path):
    done = command("data_scripts.unpack_clip", "--clip", video, "--out", tmp_path / "clip")
    assert done.returncode == 1 and "is not the video that" in done.stderr and not (tmp_path / "clip").exists()


needs_detector = pytest.mark.skipif(
    not TRACK_PYTHON.is_file(), reason="the tracker's own environment is not installed: make track creates it"
)


@needs_detector
def test_a_video_without_a_face_is_refused_and_leaves_nothing(video, tmp_path):
    done = command("data_scripts.track", video, tmp_path / "out")
    assert done.returncode == 1 and "no face in any of its 30 frames" in done.stderr
    assert not list(tmp_path.iterdir())


@needs_detector
def test_the_clips_beginning_is_tracked(tmp_path):
    with av.open(str(ASSETS / "clip.mp4")) as source, av.open(str(tmp_path / "begin.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for count, packet in enumerate(source.demux(video=0)):
            if packet.dts is None or count >= 40:
                break
            packet.stream = stream
            target.mux(packet)
    done = command("data_scripts.track", tmp_path / "begin.mp4", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["reprojection_px"]["median"] <= 2.5
