"""data_scripts.worlds.proof: what it counts as found, told apart and recovered."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from data_scripts.track.choose import TRACK_PYTHON
from data_scripts.track.video import probe, read_frames, write_frames
from data_scripts.worlds.proof.__main__ import total
from data_scripts.worlds.proof.faces import World, find_worlds, iou, open_sequences, prove_faces, spread, world_cases
from data_scripts.worlds.proof.identity import auc, auc_interval, prove_identity
from data_scripts.worlds.proof.noise import picture_noise
from data_scripts.worlds.proof.tracker import (
    FPS,
    Film,
    agreement,
    align,
    clip_frames,
    compare,
    film_frames,
    track_video,
    tracked_film,
    true_film,
)
from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.datasets import Record, index_sequence, write_manifest, write_sequence
from sa0lib.head import WIDTHS, load_head
from sa0lib.mesh import render_mesh
from sa0lib.paths import ASSETS, ROOT

needs_networks = pytest.mark.skipif(
    not (ASSETS / "dlib_face_embedding.dat").is_file(), reason="run `python -m data_scripts.get_assets --only faces`"
)
SIZE, FOCAL, DISTANCE = 128, 330.0, 0.9


@pytest.fixture(scope="module")
def head():
    return load_head()


def record(head, person: int, timestep: int = 0, yaw: float = 0.0, shown: Camera | None = None, written=None, **pose):
    """A plain picture of a generated person. `written` is the camera in the file, where it is not the one used."""
    rng = torch.Generator().manual_seed(person)
    colors = head.vertex_color * (0.55 + 0.45 * torch.rand(1, generator=rng))
    params = {name: torch.zeros(1, width) for name, width in WIDTHS.items()}
    params["shape"] = torch.randn(1, 300, generator=rng)
    params["rotation"] = torch.tensor([[0.0, yaw, 0.0]])
    params |= pose
    camera = shown or Camera(intrinsics(FOCAL, SIZE, SIZE), orbit(0.0, 0.0, DISTANCE, torch.zeros(3)), SIZE, SIZE)
    image = render_mesh(head(**params)[0], head.faces, camera, colors, background=(0.4, 0.45, 0.5), samples=1)
    mask = np.full((SIZE, SIZE), 255, np.uint8)
    return Record(image, mask, written or camera, params, (0.0, 0.0, 1.0, 1.0), "train", timestep)


def moved(camera: Camera, by: float) -> Camera:
    """The camera with its principal point moved to the right, px."""
    K = camera.K.clone()
    K[0, 2] += by
    return Camera(K, camera.viewmat, camera.width, camera.height)


@pytest.fixture(scope="module")
def world(head, tmp_path_factory):
    """A tree with one world: six people, two pictures each."""
    root = tmp_path_factory.mktemp("worlds")
    for person in range(6):
        pictures = [record(head, person, 0, yaw=-0.15), record(head, person, 1, yaw=0.2)]
        write_sequence(root / "celeb" / f"{person:02d}", pictures, head.basis)
    entries = [index_sequence(root / "celeb", f"{person:02d}", f"person {person}") for person in range(6)]
    write_manifest(root / "celeb", {"name": "celeb"}, entries)
    return root


def cases(head, folder, *records):
    write_sequence(folder, records, head.basis)
    return world_cases(head, World("", {"toy": [folder]}), 100)


# Faces


def test_iou_of_boxes_is_their_common_area_over_their_union():
    a = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [1, 1, 3, 3], [2, 0, 4, 2], [3, 3, 9, 9], [np.nan] * 4])
    assert iou(a, others) == pytest.approx([1, 2 / 6, 1 / 7, 0, 0, 0])


def test_two_empty_boxes_do_not_overlap():
    assert iou(np.zeros(4), np.zeros(4)) == 0


@needs_networks
def test_faces_are_found_where_they_are(head, world):
    result = prove_faces(world_cases(head, find_worlds(world)["celeb"], 100), None)
    assert result == {
        "pictures": 12, "visible": 12, "found": {"dlib_frontal": 1.0, "dlib": 1.0}, "missed": {}
    }  # fmt: skip


@needs_networks
def test_a_box_elsewhere_is_not_counted_as_found(head, tmp_path):
    wide = Camera(intrinsics(0.5 * FOCAL, SIZE, SIZE), orbit(0.0, 0.0, DISTANCE, torch.zeros(3)), SIZE, SIZE)
    right = record(head, 0, shown=moved(wide, -30), written=moved(wide, -30))
    wrong = record(head, 0, 1, shown=moved(wide, -30), written=moved(wide, 25))
    result = prove_faces(cases(head, tmp_path / "toy", right, wrong), None)
    assert result["visible"] == 2
    assert result["found"] == {"dlib_frontal": 0.5, "dlib": 0.5}
    assert result["missed"]["dlib"] == ["toy/images/00001_00.png"]


@pytest.mark.parametrize(("yaw", "visible"), [(0.0, True), (0.9, True), (-0.9, True), (1.2, False), (3.1, False)])
def test_a_face_turned_away_is_not_expected_to_be_found(head, tmp_path, yaw, visible):
    assert [case.visible for case in cases(head, tmp_path / "toy", record(head, 0, yaw=yaw))] == [visible]


def test_the_camera_going_round_turns_a_face_away_as_well(head, tmp_path):
    around = Camera(intrinsics(FOCAL, SIZE, SIZE), orbit(1.2, 0.0, DISTANCE, torch.zeros(3)), SIZE, SIZE)
    (case,) = cases(head, tmp_path / "toy", record(head, 0, shown=around))
    assert case.turn == pytest.approx(1.2, abs=0.1)


def test_half_of_the_turn_may_be_the_necks(head, tmp_path):
    half = torch.tensor([[0.0, 0.6, 0.0]])
    (case,) = cases(head, tmp_path / "toy", record(head, 0, rotation=half, neck=half))
    assert case.turn == pytest.approx(1.2, abs=0.1) and not case.visible


def test_a_face_cut_by_the_frame_is_not_expected_to_be_found(head, tmp_path):
    camera = Camera(intrinsics(FOCAL, SIZE, SIZE), orbit(0.0, 0.0, DISTANCE, torch.zeros(3)), SIZE, SIZE)
    (case,) = cases(head, tmp_path / "toy", record(head, 0, shown=moved(camera, 50)))
    assert not case.visible


def test_nothing_to_find_is_no_share(head, tmp_path):
    result = prove_faces(cases(head, tmp_path / "toy", record(head, 0, yaw=3.1)), None)
    assert result == {"pictures": 1, "visible": 0}
    assert total([result]) == {}


def test_the_total_counts_faces_not_worlds():
    worlds = [{"visible": 30, "found": {"dlib": 1.0}}, {"visible": 10, "found": {"dlib": 0.5}}, {"visible": 0}]
    assert total(worlds) == {"dlib": pytest.approx(0.875)}


@needs_networks
@pytest.mark.skipif(not TRACK_PYTHON.is_file(), reason="`make .venv-track/installed` creates MediaPipe's environment")
def test_mediapipe_finds_the_faces_too(head, world):
    result = prove_faces(world_cases(head, find_worlds(world)["celeb"], 6), TRACK_PYTHON)
    assert result["found"]["mediapipe"] == 1.0
    assert result["mediapipe_off_in_face_heights"] < 0.03


def test_a_tree_without_worlds_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="make worlds"):
        find_worlds(tmp_path)


def test_sequences_of_one_person_are_one_person(head, world, tmp_path):
    shutil.copytree(world / "celeb", tmp_path / "celeb")
    entries = [index_sequence(tmp_path / "celeb", f"{k:02d}", f"person {k // 2}") for k in range(6)]
    write_manifest(tmp_path / "celeb", {"name": "celeb"}, entries)
    people = find_worlds(tmp_path)["celeb"].people
    assert {who: [folder.name for folder in folders] for who, folders in people.items()} == {
        "person 0": ["00", "01"], "person 1": ["02", "03"], "person 2": ["04", "05"]
    }  # fmt: skip


def test_codes_of_another_head_are_refused(head, tmp_path):
    write_sequence(tmp_path / "toy", [record(head, 0)], "OpenHead 0123456789ab")
    with pytest.raises(ValueError, match="0123456789ab"):
        open_sequences(tmp_path / "toy", head)


def test_a_spread_takes_the_ends_and_never_more_than_there_is():
    assert spread(list(range(101)), 3) == [0, 50, 100]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 5) == []


# Identity


def test_auc_counts_the_pairs_in_the_right_order_and_ties_by_half():
    # of six comparisons: 1 < 2, 1 < 4, 1 < 4; 2 = 2 by half, 2 < 4, 2 < 4
    assert auc(np.array([1.0, 2.0]), np.array([4.0, 2.0, 4.0])) == pytest.approx(5.5 / 6)


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_mann_and_whitneys_u(seed):
    rng = np.random.default_rng(seed)
    same, different = rng.integers(0, 12, 40) / 10, rng.integers(3, 16, 70) / 10  # with ties
    expected = mannwhitneyu(different, same).statistic / (40 * 70)
    assert auc(same, different) == pytest.approx(expected)


def test_a_weight_is_a_repetition():
    rng = np.random.default_rng(0)
    same, different = rng.normal(0, 1, 20), rng.normal(1, 1, 30)
    a, b = rng.integers(0, 4, 20), rng.integers(0, 4, 30)
    assert auc(same, different, a, b) == pytest.approx(auc(same.repeat(a), different.repeat(b)))


def test_without_pairs_there_is_no_auc():
    assert np.isnan(auc(np.zeros(0), np.ones(3)))


def test_the_interval_is_that_of_people_not_of_pairs():
    rng = np.random.default_rng(0)
    people, each = 12, 8
    place = rng.normal(0, 1, people).repeat(each) + rng.normal(0, 0.6, people * each)
    persons = np.arange(people).repeat(each)
    first, second = np.triu_indices(people * each, 1)
    distance, pairs = np.abs(place[first] - place[second]), np.stack([persons[first], persons[second]], 1)
    equal = pairs[:, 0] == pairs[:, 1]
    low, high = auc_interval(distance, pairs, 200, np.random.default_rng(1))
    assert low < auc(distance[equal], distance[~equal]) < high
    draws = [
        auc(*(rng.choice(part, part.size) for part in (distance[equal], distance[~equal]))) for _ in range(200)
    ]  # as if all pairs were independent
    assert high - low > 2 * (np.quantile(draws, 0.975) - np.quantile(draws, 0.025))
    assert (low, high) == auc_interval(distance, pairs, 200, np.random.default_rng(1))


@pytest.mark.parametrize("seed", range(4))
def test_a_person_drawn_twice_brings_their_pairs_twice(seed):
    rng = np.random.default_rng(seed)
    pairs = np.sort(rng.integers(0, 5, (60, 2)), 1)
    distance = rng.normal(1.0 * (pairs[:, 0] != pairs[:, 1]), 1.0)
    times = np.bincount(np.random.default_rng(seed).integers(0, 5, 5), minlength=5)  # who is drawn how often
    left, right = pairs.T
    repetitions = np.where(left == right, times[left], times[left] * times[right])
    drawn, same = distance.repeat(repetitions), (left == right).repeat(repetitions)
    value = auc(drawn[same], drawn[~same])
    numbered_with_gaps = 3 * pairs + 2
    assert auc_interval(distance, numbered_with_gaps, 1, np.random.default_rng(seed)) == pytest.approx((value, value))


def test_a_perfect_separation_has_no_spread():
    pairs = np.array([[0, 0], [1, 1], [4, 4], [0, 1], [0, 4], [1, 4]])  # nobody is number 2 or 3
    assert auc_interval(np.array([0.1, 0.2, 0.1, 0.8, 0.9, 0.7]), pairs, 50, np.random.default_rng(0)) == (1.0, 1.0)


@needs_networks
def test_toy_people_are_told_apart(head, world):
    result = prove_identity(head, find_worlds(world)["celeb"], 40, 8, 50, 0)
    assert (result["people"], result["pictures"], result["not_found"]) == (6, 12, 0)
    assert (result["same"]["pairs"], result["different"]["pairs"]) == (6, 60)
    assert result["auc"] > 0.9 and result["auc_interval"][0] <= result["auc"] <= result["auc_interval"][1]
    assert result["auc_csim"] > 0.9
    assert result["same"]["distance"][0] < result["different"]["distance"][0]
    assert result["same"]["csim"][0] > result["different"]["csim"][0]


@needs_networks
def test_one_person_alone_has_no_auc(head, world):
    (folder,) = find_worlds(world)["celeb"].people["person 0"]
    one = World("", {"person 0": [folder]})
    assert prove_identity(head, one, 40, 8, 50, 0)["auc"] is None


# The tracker


@pytest.fixture(scope="module")
def performance(head):
    """Codes and cameras of a film of 30 frames."""
    t = torch.linspace(0, 6, 30)[:, None]
    generator = torch.Generator().manual_seed(0)
    params = {name: torch.zeros(30, width) for name, width in WIDTHS.items()}
    params["shape"] = torch.randn(1, 300, generator=generator).expand(30, -1).clone()
    params["expr"] = torch.sin(t + torch.randn(1, 100, generator=generator)) * torch.randn(1, 100, generator=generator)
    params["jaw"][:, :1] = 0.1 + 0.1 * torch.sin(2 * t)
    params["eyes"][:, [1, 4]] = 0.2 * torch.cos(t)
    params["rotation"] = torch.cat([0.1 * torch.sin(t), 0.3 * torch.cos(t), 0.05 * torch.sin(2 * t)], 1)
    params["neck"][:, 1:2] = 0.2 * torch.cos(t)
    params["translation"][:, 2:] = 0.03 * torch.sin(0.5 * t)
    camera = Camera(intrinsics(FOCAL, SIZE, SIZE), orbit(0.1, 0.05, DISTANCE, torch.zeros(3)), SIZE, SIZE)
    return params, [camera] * 30


@pytest.fixture(scope="module")
def truth(head, performance):
    return Film(head, *performance)


def numbers(tree) -> dict[str, float]:
    """A nested dict as path -> value."""
    flat = {}
    for key, value in tree.items():
        flat |= {f"{key}/{k}": v for k, v in numbers(value).items()} if isinstance(value, dict) else {key: value}
    return flat


def test_a_film_agrees_with_itself(truth):
    result = numbers(compare(truth, truth))
    for name, value in result.items():
        if name.endswith(("correlation", "slope", "_ratio")):
            assert value is None or value == pytest.approx(1, abs=1e-5), name
        elif name.startswith(("landmarks_px", "head_turn")) and not name.endswith(("sd", "face_height")):
            assert value == pytest.approx(0, abs=1e-3), name
    assert result["neutral_face_mm/tracked"] < 1e-3 < result["neutral_face_mm/mean_head"]


def test_only_gaze_that_moves_has_a_correlation(truth):
    expression = compare(truth, truth)["expression"]
    assert expression["gaze up and down (degrees)"]["correlation"] is None
    assert expression["gaze left and right (degrees)"]["correlation"] == pytest.approx(1)


def test_landmarks_moved_in_the_picture_are_off_by_that_much(head, performance, truth):
    params, cameras = performance
    result = compare(truth, Film(head, params, [moved(camera, 3) for camera in cameras]))
    assert result["landmarks_px"]["median"] == pytest.approx(3, abs=1e-3)


def test_another_focal_length_at_another_distance_is_no_error_of_apparent_size(head, performance, truth):
    params, cameras = performance
    viewmat = cameras[0].viewmat.clone()
    viewmat[2, 3] *= 2
    K = intrinsics(2 * FOCAL, SIZE, SIZE)
    result = compare(truth, Film(head, params, [Camera(K, viewmat, SIZE, SIZE)] * len(cameras)))["camera"]
    assert result["focal_ratio"] == pytest.approx(2)
    assert result["depth_ratio"] == pytest.approx(2, rel=0.1)
    assert result["apparent_size_ratio"] == pytest.approx(1, abs=0.1)


def test_half_an_expression_has_the_same_correlation_and_half_the_slope(head, performance, truth):
    params, cameras = performance
    still = {name: truth_mean.mean(0, keepdim=True) for name, truth_mean in params.items()}
    half = params | {name: (params[name] + still[name]) / 2 for name in ("expr", "jaw")}
    value = compare(truth, Film(head, half, cameras))["expression"]["face vertices, as seen from the front (mm)"]
    assert value["correlation"] > 0.99 and value["slope"] == pytest.approx(0.5, abs=0.02)


def test_head_motion_is_no_expression(head, performance, truth):
    params, cameras = performance
    other = params | {name: torch.zeros_like(params[name]) for name in ("rotation", "neck", "translation")}
    result = compare(truth, Film(head, other, cameras))
    assert result["expression"]["landmarks, as seen from the front (mm)"]["correlation"] == pytest.approx(1)
    assert result["head_turn"]["yaw (degrees)"]["slope"] == pytest.approx(0, abs=1e-3)


def test_a_smaller_head_moves_as_much_for_its_size(head, performance, truth):
    film = Film(head, *performance)
    for name in ("landmarks", "face", "neutral"):
        setattr(film, name, 0.8 * getattr(film, name))
    result = compare(truth, film)
    assert result["camera"]["head_size_ratio"] == pytest.approx(0.8)
    assert result["expression"]["mouth opening (mm)"]["slope"] == pytest.approx(1)
    assert result["expression"]["face vertices, in depth (mm)"]["slope"] == pytest.approx(1)


def test_a_head_that_looks_into_the_camera_is_not_turned(head, performance):
    params, cameras = performance
    params = params | {name: torch.zeros(30, 3) for name in ("rotation", "neck")}
    front = replace(cameras[0], viewmat=orbit(0.0, 0.0, DISTANCE, torch.zeros(3)))
    assert Film(head, params, [front] * 30).turn.magnitude() == pytest.approx(np.zeros(30), abs=1e-6)


def test_another_idea_of_straight_is_a_constant_turn(head, performance, truth):
    film = Film(head, *performance)
    film.turn = film.turn * type(film.turn).from_euler("X", 7, degrees=True)
    turn = compare(truth, film)["head_turn"]
    assert turn["constant_degrees"] == pytest.approx(7, abs=1e-3)
    assert turn["median_about_it_degrees"] == pytest.approx(0, abs=1e-3)


def test_a_turn_of_the_neck_counts_as_one_of_the_head(head, performance, truth):
    params, cameras = performance
    turned = params | {"neck": torch.zeros(30, 3), "rotation": params["rotation"] + params["neck"]}
    yaw = compare(truth, Film(head, turned, cameras))["head_turn"]["yaw (degrees)"]
    assert yaw["correlation"] > 0.99 and yaw["slope"] == pytest.approx(1, abs=0.05)


def test_agreement_by_hand():
    truth = np.array([0.0, 1.0, 2.0, 3.0])
    assert agreement(truth, 5 - 2 * truth, 0.1) == {
        "correlation": pytest.approx(-1), "slope": pytest.approx(-2), "true_sd": pytest.approx(np.sqrt(1.25))
    }  # fmt: skip
    assert agreement(truth, np.ones(4), 0.1)["correlation"] is None
    assert agreement(truth, truth, 2.0)["slope"] is None


def test_a_similarity_is_no_error_of_shape(truth):
    turn = type(truth.turn).from_euler("XYZ", [20, -30, 10], degrees=True)
    scale, error = align(0.8 * turn.apply(truth.neutral) + 0.3, truth.neutral)
    assert scale == pytest.approx(1.25, rel=1e-5) and error < 1e-6
    _, off = align(truth.mean_face, truth.neutral)
    assert off > 1e-3


def test_a_cropped_dataset_is_brought_back_to_the_video(head, performance, truth, tmp_path):
    params, cameras = performance
    kept = [0, 3, 7]
    zoomed = Camera(
        cameras[0].K * torch.tensor([4.0, 4.0, 1.0])[:, None], cameras[0].viewmat, SIZE, SIZE
    )  # a crop of a quarter, enlarged
    records = [
        replace(
            record(head, 0, timestep=k),
            camera=moved(zoomed, -100),
            params={name: value[frame : frame + 1] for name, value in params.items()},
            extra={"video_frame": frame},
            split="train" if frame < 7 else "test",
        )
        for k, frame in enumerate(kept)
    ]
    write_sequence(tmp_path / "out", records, head.basis)
    (tmp_path / "out" / "report.json").write_text(json.dumps({"focal_px": FOCAL}))
    film, frames = tracked_film(head, tmp_path / "out", SIZE, SIZE)
    assert frames == kept
    assert np.abs(film.xy - truth.xy[kept]).max() < 1e-2


def test_a_film_shows_the_first_camera_in_order_of_time(head, tmp_path):
    records = [record(head, 0, t, yaw=0.02 * t) for t in range(26)]
    records += [replace(records[t], camera_index=1, image=255 - records[t].image) for t in range(26)]
    for k in range(26):
        records[k] = replace(records[k], split="test" if k < 3 else "train", camera_index=0)
    write_sequence(tmp_path / "toy", records, head.basis)
    frames = clip_frames(tmp_path / "toy", head, 25)
    assert [s.timestep(i) for s, i in frames] == list(range(25))
    assert {s.entries[i]["camera_index"] for s, i in frames} == {0}
    assert len(true_film(head, frames).xy) == 25
    write_frames(tmp_path / "toy.mp4", film_frames(frames), FPS)
    assert probe(tmp_path / "toy.mp4").frames == 25
    for k, picture in enumerate(read_frames(tmp_path / "toy.mp4")):
        assert np.abs(picture.astype(float) - records[k].image).mean() < 3


def test_too_few_frames_are_no_film(head, world):
    with pytest.raises(ValueError, match="2 frames; the tracker needs 24"):
        clip_frames(world / "celeb" / "00", head, 120)


def test_the_trackers_last_words_are_passed_on(tmp_path):
    with pytest.raises(RuntimeError, match="no such video"):
        track_video(tmp_path / "none.mp4", tmp_path / "out", TRACK_PYTHON)


# Noise, and the command


def test_noise_is_the_rms_difference_on_skin_in_steps_of_an_8_bit_picture():
    reference = np.full((4, 4, 3), 0.5)
    picture, skin = reference.copy(), np.zeros((4, 4), bool)
    skin[:2] = True
    picture[:1] += 2 / 255  # half of the skin
    picture[2:] = 0
    assert picture_noise(picture, reference, skin) == pytest.approx(np.sqrt(2))
    as_bytes = [np.rint(image * 255).astype(np.uint8) for image in (picture, reference)]
    assert picture_noise(*as_bytes, skin) == pytest.approx(np.sqrt(2))


def test_noise_needs_skin_and_equal_sizes():
    picture = np.zeros((4, 4, 3))
    with pytest.raises(ValueError, match="no pixel is skin"):
        picture_noise(picture, picture, np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match="sizes differ"):
        picture_noise(picture, np.zeros((4, 5, 3)), np.ones((4, 4), bool))


@needs_networks
def test_the_command_measures_a_small_tree_without_mediapipe_and_says_what_it_left_out(world, tmp_path):
    command = [
        sys.executable,
        "-m",
        "data_scripts.worlds.proof",
        "--worlds",
        str(world),
        "--out",
        str(tmp_path / "o"),
    ]
    command += ["--python", str(tmp_path / "none")]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | {"SA0_PROFILE": "smoke"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "MediaPipe and the tracker are skipped" in run.stdout
    assert "12 of 12 faces ought to be seen" in run.stdout
    result = json.loads((tmp_path / "o" / "proof.json").read_text())
    assert result["found"] == {"dlib_frontal": 1.0, "dlib": 1.0}
    assert result["provenance"]["profile"] == "smoke"
