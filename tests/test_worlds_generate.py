"""Whole worlds (data_scripts.worlds): plans, clips on disk, runs that were stopped, and reruns that are equal."""

import json
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from worlds_toys import Here, differences

from data_scripts.worlds import __main__ as command
from data_scripts.worlds import produce
from data_scripts.worlds.generate import VERSION, assemble, fingerprint, make_shots, makers, shot_file
from data_scripts.worlds.produce import check_world, make_clips, make_world, workers
from data_scripts.worlds.proof.tracker import FPS
from data_scripts.worlds.worlds import WORLDS, face_box, n_clips, plan_clip, world_size
from sa0lib.datasets import Collection, Sequence, read_manifest, write_manifest
from sa0lib.datasets.manifest import sequence_sha256
from sa0lib.profile import PROFILES, WorldSize

CELEB = WorldSize(sequences=1, frames=2, pixels=24, samples=1, held_out=1)  # two clips, the second held out
STUDIO = WorldSize(sequences=1, frames=2, pixels=24, samples=1, cameras=3)
VARIANT = "scalar_rgb"
SUBJECTS = WorldSize(sequences=1, frames=5, pixels=24, samples=1, held_out=2)


@pytest.fixture(scope="module")
def plan():
    return lambda name, size, index: plan_clip(WORLDS[name], size, index, *makers())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A world made without a stop: its folder and its manifest."""
    root = tmp_path_factory.mktemp("finished") / "celeb"
    make_world(WORLDS["celeb"], CELEB, root, Here())
    return root, read_manifest(root)


@pytest.fixture
def celeb(finished, tmp_path):
    """A copy of it that may be damaged."""
    return shutil.copytree(finished[0], tmp_path / "celeb")


def stamp(size: WorldSize = CELEB) -> str:
    return fingerprint(size, VARIANT)


def clips(root, indices: list[int], pool, size: WorldSize = CELEB) -> None:
    list(make_clips(WORLDS["celeb"], size, indices, root, VARIANT, pool, ""))


def hashes(root, clips: int = 2) -> list[str]:
    return [sequence_sha256(root / f"{i:06d}") for i in range(clips)]


def expected(finished) -> list[str]:
    return [entry.sha256 for entry in finished[1].sequences]


# --- plans ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_index_gives_the_same_plan(plan, name):
    assert differences(plan(name, CELEB, 1), plan(name, CELEB, 1)) == []


def test_other_indices_give_other_people(plan):
    codes = [plan("celeb", CELEB, i).person.shape for i in range(4)]
    assert min(float((a - b).norm()) for i, a in enumerate(codes) for b in codes[:i]) > 1


@pytest.mark.parametrize("change", [{"sequences": 40}, {"frames": 9}, {"held_out": 12}, {"samples": 64}])
def test_a_larger_world_keeps_its_people_and_where_they_are(plan, change):
    a, b = plan("celeb", CELEB, 1), plan("celeb", replace(CELEB, **change), 1)
    assert differences(a.person, b.person) == []
    assert differences(a.stage, b.stage) == []
    assert differences(a.cameras, b.cameras) == []


def test_films_of_the_proof_play_at_the_pace_of_the_acting(plan):
    assert np.allclose(np.diff(plan("subjects", CELEB, 0).seconds), 1 / float(FPS))


def test_a_sharper_world_keeps_its_people_and_what_they_do(plan):
    a, b = plan("celeb", CELEB, 0), plan("celeb", replace(CELEB, pixels=96), 0)
    assert differences(a.person, b.person) == []
    assert differences(a.params, b.params) == []
    assert differences(a.cameras[0].resized(96, 96).viewmat, b.cameras[0].viewmat) == []
    assert torch.allclose(a.cameras[0].resized(96, 96).K, b.cameras[0].K)


def test_no_two_worlds_share_a_person():
    largest = [(world.seed, n_clips(world, world_size(world, PROFILES["paper"]))) for world in WORLDS.values()]
    people = [seed + i for seed, count in largest for i in range(count)]
    assert len(set(people)) == len(people)


def test_the_shifted_worlds_have_families_of_their_own():
    families = {name: world.family for name, world in WORLDS.items()}
    assert families == {"celeb": "a", "studio": "a", "subjects": "a", "wild": "b", "podium": "c"}


def test_people_are_of_the_family_of_their_world(plan):
    for name, world in WORLDS.items():
        assert plan(name, CELEB, 0).person.family == world.family


@pytest.mark.parametrize("profile", PROFILES)
def test_every_rung_has_the_five_sizes(profile):
    for world in WORLDS.values():
        size = world_size(world, PROFILES[profile])
        assert isinstance(size, WorldSize)
        assert 0 <= size.held_out < (size.frames if world.split == "time" else np.inf)
    assert world_size(WORLDS["studio"], PROFILES[profile]).cameras > 1


@pytest.mark.parametrize(
    "name, size, index, splits",
    [
        ("celeb", CELEB, 0, ["train"] * 2),
        ("celeb", CELEB, 1, ["test"] * 2),
        ("studio", STUDIO, 0, ["train"] * 2),
        ("wild", CELEB, 0, ["test"] * 2),
        ("podium", CELEB, 0, ["test"] * 2),
        ("subjects", SUBJECTS, 0, ["train"] * 3 + ["test"] * 2),
    ],
)
def test_frames_go_to_the_split_that_their_world_plays(plan, name, size, index, splits):
    clip = plan(name, size, index)
    assert [clip.split(t) for t in range(size.frames)] == splits


def test_held_out_people_are_further_clips_and_held_out_frames_are_not():
    assert n_clips(WORLDS["celeb"], CELEB) == 2
    assert n_clips(WORLDS["subjects"], SUBJECTS) == 1


def test_a_clip_has_codes_and_times_for_every_frame(plan):
    clip = plan("subjects", SUBJECTS, 0)
    assert {value.shape[0] for value in clip.params.values()} == {5}
    assert np.allclose(np.diff(clip.seconds), WORLDS["subjects"].seconds, atol=1e-3)
    assert all(value.isfinite().all() for value in clip.params.values())


def test_the_face_box_holds_the_landmarks_and_stays_in_the_picture(plan):
    clip, (head, _) = plan("studio", replace(STUDIO, pixels=96), 0), makers()
    for camera in clip.cameras:
        x0, y0, x1, y1 = face_box(head, clip, 1, camera)
        codes = {name: value[1:2] for name, value in clip.params.items()}
        points = camera.project(head.landmarks(head(shape=clip.person.shape, **codes), "478")[0])[0]
        assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96
        assert (points[:, 0].min() > x0) and (points[:, 0].max() < x1) and (points[:, 1].min() > y0)
        assert points[:, 1].max() < y1


# --- what is on disk ------------------------------------------------------------------------------------------


def test_the_manifest_counts_what_was_planned(finished):
    root, manifest = finished
    assert [entry.name for entry in manifest.sequences] == ["000000", "000001"]
    assert [list(entry.splits) for entry in manifest.sequences] == [["train"], ["test"]]
    assert all(span.frames == 2 and span.cameras == (0,) for e in manifest.sequences for span in e.splits.values())
    assert len({entry.identity for entry in manifest.sequences}) == 2
    assert [entry.extra["seed"] for entry in manifest.sequences] == [1_000_000, 1_000_001]
    assert manifest.basis == makers()[0].basis
    assert expected(finished) == hashes(root)


def test_the_manifest_says_how_the_world_was_made(finished):
    facts = finished[1].world
    assert facts["name"] == "celeb" and facts["plays"] == "CelebV-HQ" and facts["licence"] == "CC0-1.0"
    assert facts["generator"] == VERSION and facts["variant"] == VARIANT
    assert {"mitsuba", "pyoidn", "python"} <= set(facts["versions"])


def test_a_world_reads_back_with_its_cameras_and_codes(finished, plan):
    for split, index in (("train", 0), ("test", 1)):
        clip, sequence = plan("celeb", CELEB, index), Sequence(finished[0] / f"{index:06d}", split)
        assert len(sequence) == 2
        for t in range(2):
            frame = sequence[t]
            assert frame.image.shape == (3, 24, 24) and frame.timestep == t
            assert torch.allclose(frame.camera.viewmat, clip.cameras[0].viewmat, atol=1e-5)
            assert torch.allclose(frame.camera.K, clip.cameras[0].K)
            assert torch.equal(frame.params["shape"], clip.person.shape)
            assert all(torch.equal(frame.params[name], value[t : t + 1]) for name, value in clip.params.items())


def test_the_head_is_where_camera_and_codes_put_it(finished):
    head, sequence = makers()[0], Sequence(finished[0] / "000000", "train")
    frame = sequence[1]
    xy, _ = frame.camera.project(head.landmarks(head(**frame.params), "68")[0, 27:36])  # the nose
    columns, rows = xy.floor().long().T
    assert (frame.mask[0, rows, columns] > 0.9).all()


def test_the_collection_reader_finds_people_by_split(finished):
    train, test = (Collection(finished[0], split) for split in ("train", "test"))
    assert len(train) == len(test) == 1
    assert {clip.identity for clip in train}.isdisjoint(clip.identity for clip in test)
    views = train[0].views([0, 1])
    assert views.image.shape == (2, 3, 24, 24) and views.mask.max() == 255


def test_synchronised_cameras_share_instants_and_codes(tmp_path):
    make_world(WORLDS["studio"], STUDIO, tmp_path / "studio", Here())
    (entry,) = read_manifest(tmp_path / "studio").sequences
    span = entry.splits["train"]
    assert (span.frames, span.cameras, span.timesteps) == (6, (0, 1, 2), 2)
    clip = Collection(tmp_path / "studio", "train")[0]
    assert torch.equal(clip.params["expr"][0], clip.params["expr"][2])
    assert len({tuple(m.flatten().tolist()) for m in clip.viewmat}) == 3
    images = clip.views(list(range(6))).image
    assert len({picture.numpy().tobytes() for picture in images}) == 6


def test_a_subjects_last_frames_are_its_test_split(tmp_path):
    make_shots("subjects", SUBJECTS, 0, [(t, 0) for t in range(5)], tmp_path / "parts", VARIANT)
    assemble("subjects", SUBJECTS, 0, tmp_path / "parts", tmp_path / "000000")
    timesteps = {}
    for split in ("train", "test"):
        sequence = Sequence(tmp_path / "000000", split)
        timesteps[split] = [sequence.timestep(i) for i in range(len(sequence))]
    assert timesteps == {"train": [0, 1, 2], "test": [3, 4]}
    assert not (tmp_path / "parts").exists()


# --- stopped, damaged, changed --------------------------------------------------------------------------------


def test_a_finished_world_is_not_made_again(celeb, finished):
    pool = Here()
    make_world(WORLDS["celeb"], CELEB, celeb, pool)
    assert pool.done == 0
    assert read_manifest(celeb).sha256 == finished[1].sha256


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(finished, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(produce, "CHUNK", 1)  # a job a picture
    root = tmp_path / "celeb"
    with pytest.raises(KeyboardInterrupt):
        make_world(WORLDS["celeb"], CELEB, root, Here(stop))
    kept = sorted((root / ".parts").rglob("*.png"))
    dates = [file.stat().st_mtime_ns for file in kept]
    assert len(kept) == stop
    with pytest.raises(KeyboardInterrupt):
        make_world(WORLDS["celeb"], CELEB, root, Here(3))
    assert [file.stat().st_mtime_ns for file in kept] == dates  # pictures that were there are not made again
    make_world(WORLDS["celeb"], CELEB, root, Here())
    assert read_manifest(root).sha256 == finished[1].sha256
    assert hashes(root) == expected(finished)
    assert not (root / ".parts").exists()


def test_a_run_stopped_between_shots_and_clip_ends_with_the_same_bytes(celeb, finished):
    shutil.rmtree(celeb / "000001")
    stopped = Here(1)
    with pytest.raises(KeyboardInterrupt):
        clips(celeb, [0, 1], stopped)
    assert not (celeb / "000001").exists() and len(list((celeb / ".parts").rglob("*.png"))) == 2
    clips(celeb, [0, 1], Here())
    assert hashes(celeb) == expected(finished)


@pytest.mark.parametrize("lost", ["000000", ".made/000000"])
def test_a_lost_clip_or_mark_is_made_again_with_the_same_bytes(celeb, finished, lost):
    path = celeb / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    pool = Here()
    make_world(WORLDS["celeb"], CELEB, celeb, pool)
    assert pool.done == 2  # its shots, then its folder
    assert hashes(celeb) == expected(finished)


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n", None], ids=["empty", "header only", "cut in half"])
def test_a_damaged_loose_shot_is_made_again(celeb, finished, damage):
    shutil.rmtree(celeb / "000001")
    parts = celeb / ".parts" / stamp() / "000001"
    make_shots("celeb", CELEB, 1, [(0, 0)], parts, VARIANT)
    file = shot_file(parts, 0, 0)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if damage is None else damage)
    clips(celeb, [0, 1], Here())
    assert hashes(celeb) == expected(finished)


def test_shots_that_other_code_left_are_not_used(celeb, finished):
    shutil.rmtree(celeb / "000001")
    old = celeb / ".parts" / "0000000000000000" / "000001"
    make_shots("celeb", CELEB, 1, [(0, 0)], old, VARIANT)
    Image.new("RGBA", (24, 24), "red").save(shot_file(old, 0, 0))
    clips(celeb, [0, 1], Here())
    assert hashes(celeb) == expected(finished)


def test_clips_that_other_code_made_are_made_again(celeb, finished, monkeypatch):
    monkeypatch.setattr(produce, "fingerprint", lambda size, variant: "1111111111111111")
    pool = Here()
    clips(celeb, [0], pool)
    assert pool.done == 2
    assert (celeb / ".made" / "000000").read_text() == "1111111111111111"
    assert hashes(celeb) == expected(finished)


@pytest.mark.parametrize("change", [{"samples": 2}, {"pixels": 32}, {"frames": 3}])
def test_another_size_is_other_code(change):
    assert stamp() != stamp(replace(CELEB, **change))


def test_another_renderer_is_other_code():
    assert fingerprint(CELEB, "llvm_ad_rgb") != stamp()


def test_a_folder_that_is_no_clip_is_left_alone(celeb):
    shutil.rmtree(celeb / "000000")
    (celeb / "000000").mkdir()
    (celeb / "000000" / "letter.txt").write_text("mine")
    (celeb / ".made" / "000000").unlink()
    with pytest.raises(FileExistsError, match="000000"):
        clips(celeb, [0, 1], Here())
    assert (celeb / "000000" / "letter.txt").read_text() == "mine"


def test_a_damaged_record_of_the_time_spent_is_begun_anew(celeb, finished):
    (celeb / ".made" / "seconds.json").write_text('{"processor": 1')
    make_world(WORLDS["celeb"], CELEB, celeb, Here())
    assert read_manifest(celeb).sha256 == finished[1].sha256
    assert set(json.loads((celeb / ".made" / "seconds.json").read_text())) == {"processor", "wall"}


# --- the same again -------------------------------------------------------------------------------------------


def test_an_honest_world_is_reproduced(celeb):
    before = sorted(path for path in celeb.parent.iterdir())
    assert check_world(WORLDS["celeb"], CELEB, celeb, 1.0, Here()) == []
    assert sorted(path for path in celeb.parent.iterdir()) == before  # the second run is gone


@pytest.mark.parametrize("folder", ["images", "fg_masks"])
def test_one_changed_pixel_is_found(celeb, folder):
    file = celeb / "000001" / folder / "00001_00.png"
    pixels = np.array(Image.open(file))
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(file, compress_level=1)
    assert check_world(WORLDS["celeb"], CELEB, celeb, 1.0, Here()) == ["000001"]


def test_pictures_that_agree_with_their_manifest_but_with_no_rerun_are_found(celeb):
    Image.new("RGB", (24, 24), "red").save(celeb / "000000" / "images" / "00000_00.png")
    make_world(WORLDS["celeb"], CELEB, celeb, Here())  # indexes what is there
    assert check_world(WORLDS["celeb"], CELEB, celeb, 1.0, Here()) == ["000000"]


def test_a_lost_clip_is_found(celeb):
    shutil.rmtree(celeb / "000001")
    assert check_world(WORLDS["celeb"], CELEB, celeb, 1.0, Here()) == ["000001"]


def test_a_share_of_a_world_is_checked_from_its_first_clip(celeb):
    pool = Here()
    assert check_world(WORLDS["celeb"], CELEB, celeb, 0.5, pool) == []
    assert pool.done == 2  # one clip: its shots, then its folder


@pytest.mark.parametrize("variant", [None, "cuda_ad_rgb"])
def test_a_world_of_a_renderer_that_does_not_work_here_is_refused(celeb, finished, variant):
    facts = {name: value for name, value in finished[1].world.items() if name != "variant"}
    write_manifest(celeb, facts | ({"variant": variant} if variant else {}), finished[1].sequences)
    with pytest.raises(ValueError, match="manifest.json: world.variant"):
        check_world(WORLDS["celeb"], CELEB, celeb, 1.0, Here())


def test_another_process_gives_the_same_bytes(finished, tmp_path):
    with workers(1) as pool:
        clips(tmp_path, [1], pool)
    assert sequence_sha256(tmp_path / "000001") == expected(finished)[1]


# --- the command line -----------------------------------------------------------------------------------------


def run(monkeypatch, capsys, *arguments: str) -> tuple[str, str]:
    """What the command writes (to stdout, to stderr) before it ends with an error."""
    monkeypatch.setattr(sys, "argv", ["worlds", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code not in (0, None)
    shown = capsys.readouterr()
    return shown.out, shown.err + (end.value.code if isinstance(end.value.code, str) else "")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["atlantis"], "no such world: atlantis; there are celeb"),
        (["celeb", "--check", "0"], "SHARE must lie above 0"),
        (["celeb", "--check", "1.5"], "SHARE must lie above 0"),
        (["celeb", "--check", "nan"], "SHARE must lie above 0"),
        (["celeb", "--processes", "0"], "processes"),
        (["celeb", "--check", "1"], "manifest.json is missing"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(monkeypatch, capsys, tmp_path, arguments, reason):
    monkeypatch.setattr(command, "DATA", tmp_path)
    _, error = run(monkeypatch, capsys, *arguments)
    assert reason in error.splitlines()[-1]
    assert "Traceback" not in error and not any(tmp_path.iterdir())


def test_an_unknown_rung_is_one_clear_line(monkeypatch, capsys):
    monkeypatch.setenv("SA0_PROFILE", "moon")
    _, error = run(monkeypatch, capsys, "celeb")
    assert error.startswith("worlds: SA0_PROFILE='moon'") and len(error.splitlines()) == 1


def test_a_process_that_dies_is_one_clear_line(monkeypatch, capsys, tmp_path):
    def dies(*_):
        raise BrokenProcessPool("a process was terminated abruptly")

    monkeypatch.setattr(command, "DATA", tmp_path)
    monkeypatch.setattr(command, "make_world", dies)
    _, error = run(monkeypatch, capsys, "celeb")
    assert error == "worlds: a process was terminated abruptly"


def test_the_command_goes_on_with_a_world_and_then_proves_it(monkeypatch, capsys, celeb):
    root = shutil.copytree(celeb, celeb.parent / "worlds" / "smoke" / "celeb")
    monkeypatch.setenv("SA0_PROFILE", "smoke")
    monkeypatch.setitem(PROFILES, "smoke", replace(PROFILES["smoke"], celeb=CELEB))
    monkeypatch.setattr(command, "DATA", celeb.parent)
    monkeypatch.setattr(command, "workers", lambda processes: nullcontext(Here()))
    monkeypatch.setattr(sys, "argv", ["worlds", "celeb"])
    command.main()
    assert read_manifest(root).sha256 in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["worlds", "celeb", "--check", "1"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert "every clip was reproduced" in str(end.value.code)
