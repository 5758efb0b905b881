"""data_scripts.adapters: CelebV-HQ, VFHQ and HDTF, from lists and videos to a dataset per clip."""

import json
import shutil
from math import inf

import adapter_toys_b as toys
import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts.adapters import celebv_hq, hdtf, nersemble, nersemble_benchmark, vfhq
from data_scripts.adapters.__main__ import main
from data_scripts.adapters.clips import ClipOptions, ListedClip, convert_clips, cut, take
from data_scripts.adapters.videos import read_span
from data_scripts.track.rig import LandmarkRig
from data_scripts.track.video import read_frames
from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.datasets import Collection, Record, Sequence, read_manifest, whole_folder, write_sequence
from sa0lib.head import WIDTHS, load_head
from sa0lib.paths import ROOT

WIDTH, HEIGHT, SECONDS, FPS = 320, 240, 3, 25
PSNR = 36.0  # dB: what a cut of a lossy video keeps of it, 4:2:0 at CRF 10
NO_TRACKER = {"python": ROOT / "no" / "python"}


def psnr(a, b) -> float:
    return float(-10 * np.log10(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2) / 255**2))


def frame(k):
    """Frame k of the toy's uploads, its number written into the middle (toys.number reads 0 to 40)."""
    return toys.picture(k % 41, WIDTH, HEIGHT, seed=1)


@pytest.fixture(scope="module")
def upload(tmp_path_factory):
    """A three-second video, as a site would give it."""
    frames = (frame(k) for k in range(SECONDS * FPS))
    return toys.write_video(tmp_path_factory.mktemp("upload") / "upload.mp4", frames, FPS, "yuv420p")


@pytest.fixture(scope="module")
def head():
    return load_head()


def write_dataset(folder, count=40, basis="FLAME 2020"):
    """What a tracker leaves for a clip of `count` frames, the last fifth of them held out."""
    rng = np.random.default_rng(0)
    records = (
        Record(
            image=toys.picture(t, 32, 32),
            mask=toys.matte(32, 32),
            camera=Camera(intrinsics(90.0, 32, 32), orbit(0.02 * t, 0.1, 0.8, torch.zeros(3)), 32, 32),
            params={n: torch.from_numpy(rng.normal(size=(1, w)).astype(np.float32)) for n, w in WIDTHS.items()},
            face_box=(4.0, 6.0, 30.0, 28.0),
            split="train" if t < 0.8 * count else "test",
            timestep=t,
        )
        for t in range(count)
    )
    with whole_folder(folder) as part:
        write_sequence(part, records, basis)
    return folder


# Cutting


def test_the_span_of_a_cut_begins_at_its_start_and_ends_before_its_end(upload):
    numbers = [toys.number(torch.from_numpy(f).permute(2, 0, 1) / 255) for f in read_span(upload, 0.4, 1.2)]
    assert numbers == list(range(10, 30))


def test_a_span_that_the_video_does_not_reach_is_refused(upload):
    with pytest.raises(ValueError, match=r"upload.mp4 ends at 2.96 s, the clip at 5.00 s"):
        list(read_span(upload, 2.5, 5.0))


def test_the_cut_of_a_video_keeps_its_pixels_but_for_a_second_compression(upload, tmp_path):
    clip = ListedClip("a", upload, "a", 0.4, 1.2, lambda width, height: (20, 10, 200))
    found = list(read_frames(cut(clip, tmp_path)))
    assert len(found) == 20 and found[0].shape == (200, 200, 3)
    for k, picture in enumerate(found):
        assert psnr(picture, frame(10 + k)[10:210, 20:220]) > PSNR


def test_the_cut_of_pictures_keeps_every_value(tmp_path):
    folder = toys.write_vfhq(tmp_path / "in", {"Clip+x+P0+C0+F0-3": 3}) / "Clip+x+P0+C0+F0-3"
    found = list(read_frames(cut(ListedClip("x", folder, "x"), tmp_path)))
    assert all(np.array_equal(found[k], toys.picture(k, 144, 144, 0)) for k in range(3)) and len(found) == 3


def test_a_clip_that_is_a_video_of_its_own_is_used_as_it_is(upload, tmp_path):
    assert cut(ListedClip("a", upload, "a"), tmp_path) == upload and not list(tmp_path.iterdir())


def test_a_cut_that_fails_leaves_no_video(upload, tmp_path):
    with pytest.raises(ValueError, match=r"the square \(200, 10, 200\) px leaves a 320 x 240 picture"):
        cut(ListedClip("a", upload, "a", 0.0, 1.0, lambda width, height: (200, 10, 200)), tmp_path)
    assert not list(tmp_path.iterdir())


# From clips to datasets


def clips_of(upload):
    return [ListedClip(name, upload, name[0], split=split) for name, split in (("a_0", "train"), ("b_0", "test"))]


def test_evenly_spaced_frames_of_a_tracked_clip_come_over_bit_for_bit(upload, tmp_path):
    tracked = write_dataset(tmp_path / "tracked" / "a_0")
    convert_clips("toy", clips_of(upload)[:1], tmp_path / "out", ClipOptions(frames=5, tracked=tmp_path / "tracked"))
    sequence, sources = Sequence(tmp_path / "out" / "a_0", "train"), [Sequence(tracked, s) for s in ("train", "test")]
    original = {s.timestep(i): s[i] for s in sources for i in range(len(s))}
    assert [sequence.timestep(i) for i in range(len(sequence))] == [0, 10, 20, 29, 39]
    for i in range(5):
        found, expected = sequence[i], original[sequence.timestep(i)]
        assert torch.equal(found.image, expected.image) and torch.equal(found.mask, expected.mask)
        assert torch.equal(found.camera.viewmat, expected.camera.viewmat)
        assert all(torch.equal(found.params[name], expected.params[name]) for name in WIDTHS)
    assert sequence.basis == "FLAME 2020"


def test_all_frames_of_a_clip_go_into_its_split_and_the_collection_lists_them(upload, tmp_path):
    for name in ("a_0", "b_0"):
        write_dataset(tmp_path / "tracked" / name)
    convert_clips("toy", clips_of(upload), tmp_path / "out", ClipOptions(frames=8, tracked=tmp_path / "tracked"))
    train, test = (Collection(tmp_path / "out", split) for split in ("train", "test"))
    assert [e.name for e in train.entries] == ["a_0"] and [e.name for e in test.entries] == ["b_0"]
    assert len(test[0]) == 8 and test.entries[0].identity == "b" and test.manifest.world == {"name": "toy"}


def test_what_gagavatar_tracks_adapter_nests_is_found(upload, tmp_path):
    write_dataset(tmp_path / "tracked" / "a_0" / "a_0")
    found = convert_clips("toy", clips_of(upload)[:1], tmp_path / "out", ClipOptions(tracked=tmp_path / "tracked"))
    assert found == [tmp_path / "out" / "a_0"] and len(Sequence(found[0], "train")) == 40


def test_a_clip_is_written_anew_when_its_split_or_the_number_of_frames_changes(upload, tmp_path):
    out, codes = tmp_path / "out", {"tracked": tmp_path / "tracked"}
    write_dataset(tmp_path / "tracked" / "a_0")
    for split, frames in (("train", 5), ("test", 5), ("test", 7)):
        convert_clips("toy", [ListedClip("a_0", upload, "a", split=split)], out, ClipOptions(frames=frames, **codes))
        assert {k: span.frames for k, span in read_manifest(out).sequences[0].splits.items()} == {split: frames}


@pytest.mark.parametrize("prefix", ["../a_0/", "{tracked}/"])
def test_a_path_of_a_tracked_clip_never_leads_out_of_the_folder_that_is_written(upload, tmp_path, prefix):
    tracked = write_dataset(tmp_path / "tracked" / "a_0", 4)
    (tmp_path / "out" / "a_0").mkdir(parents=True)
    path = tracked / "transforms_train.json"
    data = json.loads(path.read_text())
    for entry in data["frames"]:
        entry["file_path"] = prefix.format(tracked=tracked.resolve()) + entry["file_path"]
    path.write_text(json.dumps(data))
    with whole_folder(tmp_path / "out" / "other") as part:
        take(tracked, part, "train", None)
        assert len(Sequence(part, "train")) == 4
    assert not any((tmp_path / "out" / "a_0").iterdir())


def test_a_tracked_clip_needs_no_file_for_a_split_without_frames(upload, tmp_path):
    (write_dataset(tmp_path / "tracked" / "a_0", 4) / "transforms_val.json").unlink()
    found = convert_clips("toy", clips_of(upload)[:1], tmp_path / "out", ClipOptions(tracked=tmp_path / "tracked"))
    assert len(Sequence(found[0], "train")) == 4


def test_without_any_video_nothing_is_begun(tmp_path):
    with pytest.raises(FileNotFoundError, match="none of the listed clips' videos is here"):
        convert_clips("toy", [], tmp_path / "out", ClipOptions(**NO_TRACKER))
    assert not list(tmp_path.iterdir())


def test_pictures_of_several_sizes_make_no_clip(tmp_path):
    folder = toys.write_vfhq(tmp_path / "in", {"Clip+x+P0+C0+F0-3": 3}) / "Clip+x+P0+C0+F0-3"
    Image.fromarray(toys.picture(1, 100, 80)).save(sorted(folder.iterdir())[1])
    with pytest.raises(ValueError, match="x: frame 1 is 100 x 80 px, the first 144 x 144"):
        cut(ListedClip("x", folder, "x"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_clips_without_codes_are_cut_and_wait_and_the_next_run_goes_on(upload, tmp_path, capsys):
    out, tracked = tmp_path / "out", tmp_path / "tracked"
    clips = [ListedClip(n, upload, n, 0.0, 1.0, lambda width, height: (0, 0, 200)) for n in ("a", "b")]
    write_dataset(tracked / "a")
    assert convert_clips("toy", clips, out, ClipOptions(tracked=tracked)) == [out / "a", out / "clips" / "b.mp4"]
    assert "1 clip cut, not tracked" in capsys.readouterr().out
    stamp = (out / "a" / "transforms_train.json").stat().st_mtime_ns
    write_dataset(tracked / "b")
    assert convert_clips("toy", clips, out, ClipOptions(tracked=tracked)) == [out / "a", out / "b"]
    assert (out / "a" / "transforms_train.json").stat().st_mtime_ns == stamp
    assert [entry.name for entry in read_manifest(out).sequences] == ["a", "b"]


def test_a_clip_that_fails_does_not_stop_the_others_and_is_tried_again_only_when_asked(upload, tmp_path, capsys):
    out, broken = tmp_path / "out", tmp_path / "broken.mp4"
    broken.write_bytes(upload.read_bytes()[:1000])
    square = {"start": 0.0, "end": 1.0, "crop": lambda width, height: (0, 0, 200)}
    clips = [ListedClip("bad", broken, "bad", **square), ListedClip("good", upload, "good", **square)]
    assert convert_clips("toy", clips, out, ClipOptions(**NO_TRACKER)) == [out / "clips" / "good.mp4"]
    assert "bad: " in capsys.readouterr().out
    shutil.copyfile(upload, broken)
    assert len(convert_clips("toy", clips, out, ClipOptions(**NO_TRACKER))) == 1
    assert len(convert_clips("toy", clips, out, ClipOptions(**NO_TRACKER, retry=True))) == 2


def test_a_log_line_that_was_cut_off_only_repeats_its_clip(upload, tmp_path):
    out = tmp_path / "out"
    write_dataset(tmp_path / "tracked" / "a_0")
    convert_clips("toy", clips_of(upload)[:1], out, ClipOptions(tracked=tmp_path / "tracked"))
    log = out / "clips.jsonl"
    log.write_text(log.read_text()[:-30])
    for _ in range(2):  # the second time there is nothing to do: the tracker's output is not even looked at
        assert convert_clips("toy", clips_of(upload)[:1], out, ClipOptions(tracked=tmp_path / "tracked")) == [
            out / "a_0"
        ]
        shutil.rmtree(tmp_path / "tracked", ignore_errors=True)


def test_datasets_of_different_heads_do_not_become_one_collection(upload, tmp_path):
    for name, basis in (("a_0", "FLAME 2020"), ("b_0", "FLAME 2023")):
        write_dataset(tmp_path / "tracked" / name, basis=basis)
    with pytest.raises(ValueError, match="must share one codes_basis"):
        convert_clips("toy", clips_of(upload), tmp_path / "out", ClipOptions(tracked=tmp_path / "tracked"))


def test_clips_are_written_anew_when_their_codes_come_from_elsewhere(upload, tmp_path):
    out = tmp_path / "out"
    for basis in ("FLAME 2020", "FLAME 2023"):
        for name in ("a_0", "b_0"):
            write_dataset(tmp_path / basis / name, 4, basis)
        convert_clips("toy", clips_of(upload), out, ClipOptions(tracked=tmp_path / basis))
        assert [entry.basis for entry in read_manifest(out).sequences] == [basis, basis]


def test_clips_stay_where_there_are_no_other_codes(upload, tmp_path):
    write_dataset(tmp_path / "tracked" / "a_0", 4)
    (tmp_path / "others").mkdir()
    for codes in ({"tracked": tmp_path / "tracked"}, {"tracked": tmp_path / "others"}, NO_TRACKER):
        found = convert_clips("toy", clips_of(upload)[:1], tmp_path / "out", ClipOptions(**codes))
        assert found == [tmp_path / "out" / "a_0"]


def test_a_folder_with_something_else_in_it_is_not_touched(upload, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="nothing was changed"):
        convert_clips("toy", clips_of(upload), tmp_path, ClipOptions(**NO_TRACKER))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_head_that_is_missing_stops_the_run_and_fails_no_clip(upload, tmp_path):
    codes = ClipOptions(python=upload, head=tmp_path / "head.npz")
    with pytest.raises(FileNotFoundError, match="head.npz"):
        convert_clips("toy", clips_of(upload), tmp_path / "out", codes)
    assert not (tmp_path / "out").exists()


def test_a_detector_that_does_not_run_stops_the_run_and_fails_no_clip(upload, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null\necho no such model >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match="no such model"):
        convert_clips("toy", clips_of(upload), tmp_path / "out", ClipOptions(python=python))
    assert (tmp_path / "out" / "clips.jsonl").read_text() == ""


def test_clips_are_tracked_where_the_tracker_is(head, tmp_path):
    """A stand-in for the detector sees a known head; everything after it is the tracker itself."""
    count = 27
    folder = toys.write_vfhq(tmp_path / "in", {"Clip+x+P0+C0+F0-26": count}, size=240) / "Clip+x+P0+C0+F0-26"
    codes = ClipOptions(frames=10, python=toys.detector(tmp_path, head, count, 240))
    clip = ListedClip("x", folder, "x", split="test")
    assert convert_clips("toy", [clip], tmp_path / "out", codes) == [tmp_path / "out" / "x"]
    sequence = Sequence(tmp_path / "out" / "x", "test")
    assert len(sequence) == 10 and len(Sequence(tmp_path / "out" / "x", "train")) == 0
    assert sequence.basis == head.basis
    rig, truth = LandmarkRig(head, "68"), toys.performance(count, 240)
    for i in (0, 5, 9):
        params = {name: value for name, value in sequence.params(i).items() if name != "neck"}
        found, _ = sequence.camera(i).project(rig.points(**params)[0])
        seen = truth.landmarks(rig, 240, 240)[sequence.entries[i]["video_frame"]]
        # the crop's square is not known here: a similarity takes one set of points to the other
        a, b = (x - x.mean(0) for x in (found, seen))
        assert ((a / a.norm() - b / b.norm()).norm(dim=-1) * b.norm()).max() < 1.0  # px


# CelebV-HQ


def test_the_crop_is_the_projects_own():
    """Worked by hand: 0.02 more on each side within the picture, whole pixels, the smaller side, even corners."""
    box = (0.1, 0.9, 0.2, 0.7)  # top, bottom, left, right
    # rows 0.08 to 0.92 of 240: 19 to 221, 202 px; columns 0.18 to 0.72 of 320: 58 to 230, 172 px; middle (144, 120)
    assert celebv_hq.square(box, 320, 240) == (58, 34, 172)
    assert celebv_hq.square((0.0, 0.8815, 0.1964, 0.6922), 1280, 720) == (244, 0, 648)  # the page's own example


def test_a_box_that_fills_the_picture_stays_in_it():
    x0, y0, side = celebv_hq.square((0.0, 1.0, 0.0, 1.0), 1920, 1080)
    assert (x0, y0, side) == (420, 0, 1080)


@pytest.fixture
def celebv(upload, tmp_path):
    """Four clips of three videos: one as uploaded, one cut already, one gone."""
    source = toys.write_celebv(
        tmp_path / "celebv",
        {
            "-raw__0": toys.celebv_entry("-raw_", 0.4, 1.6),
            "-raw__1": toys.celebv_entry("-raw_", 1.2, 2.8, left=0.0, right=1.0),
            "cut_7": toys.celebv_entry("cut"),
            "gone_0": toys.celebv_entry("gone"),
        },
    )
    for path in (source / "raw" / "-raw_.mp4", source / "processed" / "cut_7.mp4"):
        path.parent.mkdir()
        shutil.copyfile(upload, path)
    return source


def test_a_dry_run_of_celebv_lists_what_is_here_and_what_is_not(celebv):
    report = celebv_hq.inspect(celebv, **NO_TRACKER)
    assert "celebvhq_info.json: 4 clips of 3 videos" in report.found
    assert "not here: 1 of 4 clips, gone_0; the conversion leaves them out" in report.found
    assert "here: 3 clips from 2 videos" in report.found
    assert not report.ok and "make .venv-track/installed" in report.missing[0]


def test_celebv_clips_are_cut_where_the_list_says(celebv, tmp_path):
    videos = celebv_hq.convert(celebv, tmp_path / "out", **NO_TRACKER)
    assert [path.name for path in videos] == ["-raw__0.mp4", "-raw__1.mp4", "cut_7.mp4"]
    assert videos[2] == celebv / "processed" / "cut_7.mp4"
    first, second = (list(read_frames(path)) for path in videos[:2])
    assert len(first) == 30 and first[0].shape == (172, 172, 3) and second[0].shape == (202, 202, 3)
    assert psnr(first[0], frame(10)[34 : 34 + 172, 58 : 58 + 172]) > PSNR
    assert psnr(second[0], frame(30)[18 : 18 + 202, 58 : 58 + 202]) > PSNR


def test_a_share_of_the_videos_is_held_out_whole(upload, tmp_path):
    entries = {f"v{i}_{k}": toys.celebv_entry(f"v{i}") for i in range(60) for k in range(2)}
    source = toys.write_celebv(tmp_path, entries)
    for i in range(60):
        (source / f"v{i}.mp4").touch()
    _, clips = celebv_hq.find_clips(source, held_out=0.3)
    split = {clip.name: clip.split for clip in clips}
    assert all(split[f"v{i}_0"] == split[f"v{i}_1"] for i in range(60))
    assert 5 <= sum(split[f"v{i}_0"] == "test" for i in range(60)) <= 35
    assert {clip.split for clip in celebv_hq.find_clips(source, held_out=0.0)[1]} == {"train"}


def box(**changes):
    return {"a_0": toys.celebv_entry("a", **changes)}


BROKEN = {
    "a box beyond 1": (box(bottom=1.2), r"clips.a_0.bbox.bottom is 1.2"),
    "a negative box": (box(left=-0.1), r"clips.a_0.bbox.left is -0.1"),
    "a box in pixels": (box(right=640), r"clips.a_0.bbox.right is 640"),
    "an inverted box": (box(top=0.9, bottom=0.1), r"clips.a_0.bbox is inverted"),
    "an empty box": (box(left=0.5, right=0.5), r"clips.a_0.bbox is inverted or empty"),
    "a NaN in a box": (box(top=float("nan")), r"clips.a_0.bbox.top holds NaN"),
    "a text in a box": (box(top="half"), r"clips.a_0.bbox.top must be numbers"),
    "a clip that ends before it begins": (box(start=3.0, end=2.0), r"clips.a_0.duration is 3.0 to 2.0 s"),
    "a negative start": (box(start=-1.0), r"clips.a_0.duration is -1.0"),
    "no duration": ({"a_0": {"ytb_id": "a"}}, r"clips.a_0 has no 'duration'"),
    "an id that leaves the folder": ({"../x": toys.celebv_entry("a")}, r"clips: '../x' cannot be a file name"),
    "a video that leaves the folder": ({"a_0": toys.celebv_entry("../../x")}, r"clips.a_0.ytb_id: '../../x' cannot"),
    "a video that is no text": ({"a_0": toys.celebv_entry(7)}, r"clips.a_0.ytb_id: 7 cannot"),
    "no clips": ([], r"clips must be an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_list_of_celebv_gives_one_error_with_clip_and_field(case, upload, tmp_path):
    entries, message = BROKEN[case]
    source = toys.write_celebv(tmp_path / "in", entries)
    shutil.copyfile(upload, source / "a.mp4")
    with pytest.raises(ValueError, match=message):
        celebv_hq.convert(source, tmp_path / "out", **NO_TRACKER)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_clip_that_is_listed_twice_is_refused(tmp_path):
    entry = json.dumps(toys.celebv_entry("a"))
    (tmp_path / "celebvhq_info.json").write_text(f'{{"clips": {{"a_0": {entry}, "a_0": {entry}}}}}')
    with pytest.raises(ValueError, match="celebvhq_info.json cannot be read as JSON .'a_0' stands there twice"):
        celebv_hq.inspect(tmp_path)


def test_a_missing_list_and_missing_videos_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="celebvhq_info.json"):
        celebv_hq.inspect(tmp_path)
    toys.write_celebv(tmp_path, {"a_0": toys.celebv_entry("a")})
    assert "videos: none of the clips' is here" in celebv_hq.inspect(tmp_path).missing[0]


# VFHQ

FIRST, SECOND = "Clip+-0R6z1dXBqo+P0+C1+F4196-4320", "Clip+G0DGRvr7r-k+P2+C0+F100-160"


@pytest.fixture
def ground_truth(tmp_path):
    return toys.write_vfhq(tmp_path / "GT", {SECOND: 60, FIRST: 30})


def test_vfhq_gives_50_frames_of_a_longer_clip_and_all_of_a_shorter(ground_truth, tmp_path):
    for name, count in ((FIRST, 30), (SECOND, 60)):
        write_dataset(tmp_path / "tracked" / name, count)
    options = {"frames": vfhq.TEST_FRAMES, "tracked": tmp_path / "tracked"}
    out = tmp_path / "out"
    assert vfhq.convert(ground_truth, out, **options) == [out / FIRST, out / SECOND]  # sorted: the next one drives
    assert [len(Sequence(out / name, "test")) for name in (FIRST, SECOND)] == [30, 50]
    assert Sequence(out / SECOND, "test").timestep(0) == 0  # the first frame is the source
    assert [entry.identity for entry in Collection(out, "test").entries] == ["-0R6z1dXBqo", "G0DGRvr7r-k"]


def test_the_published_test_protocol_is_50_clips_of_50_frames(ground_truth):
    assert (vfhq.TEST_CLIPS, vfhq.TEST_FRAMES) == (50, 50)
    found = vfhq.inspect(ground_truth).found
    assert "2 clips of 30 to 60 frames each; the test split has 50" in found
    assert "not here: 48 of the test split's 50 clips; the conversion leaves them out" in found


def test_one_clip_is_told_in_the_singular(tmp_path):
    report = str(vfhq.inspect(toys.write_vfhq(tmp_path / "GT", {FIRST: 5}), frames=1))
    assert "1 clip of 5 frames each" in report and "here: 1 clip from 1 video\n" in report
    assert "1 dataset (1 test), up to 1 frame each" in report


def test_low_resolution_copies_of_the_clips_do_not_count(ground_truth, tmp_path):
    """The trap: 50 clips and their 50 small copies look like 100."""
    shutil.copytree(ground_truth, tmp_path / "LR")
    report = vfhq.inspect(tmp_path)
    assert not report.ok and f"choose one of {tmp_path / 'GT'}, {tmp_path / 'LR'}" in report.missing[0]
    with pytest.raises(FileNotFoundError, match="choose one of"):
        vfhq.convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gap_or_a_double_in_the_numbers_is_named(ground_truth):
    copy = ground_truth / FIRST / "00000003.jpg"
    Image.new("RGB", (8, 8)).save(copy)
    with pytest.raises(ValueError, match="00000003.png and 00000003.jpg have the same number"):
        vfhq.inspect(ground_truth)
    copy.unlink()
    (ground_truth / FIRST / "00000003.png").unlink()
    with pytest.raises(ValueError, match=f"{FIRST.replace('+', '.')}: picture number 3 is missing of 0 to 29"):
        vfhq.inspect(ground_truth)


def test_a_picture_that_is_cut_off_fails_its_clip_by_name(ground_truth, tmp_path):
    path = ground_truth / FIRST / "00000007.png"
    path.write_bytes(path.read_bytes()[:200])
    assert vfhq.convert(ground_truth, tmp_path / "out", **NO_TRACKER) == [tmp_path / "out" / "clips" / f"{SECOND}.mp4"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "clips.jsonl").read_text().splitlines()]
    assert lines[0]["state"] == "failed" and "00000007.png cannot be decoded" in lines[0]["why"]


def test_an_empty_folder_is_named(ground_truth):
    (ground_truth / "Clip+empty+P0+C0+F0-9").mkdir()
    with pytest.raises(ValueError, match="F0-9: no 00000000.png"):
        vfhq.inspect(ground_truth)


# HDTF

LINES = {
    "WRA": {
        "video_url": "TomPrice watch?v=1&t=5s\nErikPaulsen watch?v=2\n",
        "annotion_time": "TomPrice.mp4 00:01-00:02 \nErikPaulsen.mp4 00:00-00:01 00:01-00:03\n"
        "JohnThune.mp4 00:00-00:01\n",
        "crop_wh": "TomPrice_0.mp4 40 400 60 400\nErikPaulsen_0.mp4 20 200 10 200\nErikPaulsen_1.mp4 20 220 10 220\n",
        "resolution": "TomPrice.mp4 480\nErikPaulsen.mp4 240\nJohnThune.mp4 240\n",
    },
}


@pytest.fixture
def lists(upload, tmp_path):
    source = toys.write_hdtf(tmp_path / "hdtf", LINES)
    (source / "_videos_raw").mkdir()
    for name in ("WRA_TomPrice.mp4", "ErikPaulsen.mp4"):
        shutil.copyfile(upload, source / "_videos_raw" / name)
    return source


def test_hdtf_clips_are_cut_at_their_times_and_scaled_crops(lists, tmp_path):
    """TomPrice's list is for 480 px, the video here has 240: half of x 40, width 400, y 60."""
    found = hdtf.convert(lists, tmp_path / "out", **NO_TRACKER)
    assert [path.stem for path in found] == ["WRA_ErikPaulsen_000", "WRA_TomPrice_000"]
    price = list(read_frames(found[1]))
    assert len(price) == 25 and psnr(price[0], frame(25)[30:230, 20:220]) > PSNR
    assert psnr(next(read_frames(found[0])), frame(0)[10:210, 20:220]) > PSNR


def test_a_clips_number_is_its_place_in_the_line_of_times(lists, tmp_path):
    found = hdtf.convert(lists, tmp_path / "out", all=True, **NO_TRACKER)
    second = next(path for path in found if path.stem == "WRA_ErikPaulsen_001")
    assert len(list(read_frames(second))) == 50  # 00:01 to 00:03


def test_a_clip_that_is_cut_already_is_used_as_it_is(lists, upload, tmp_path):
    shutil.copyfile(upload, lists / "WRA_TomPrice_000.mp4")
    assert lists / "WRA_TomPrice_000.mp4" in hdtf.convert(lists, tmp_path / "out", **NO_TRACKER)


def test_the_published_protocol_of_hdtf_is_19_clips_of_100_frames():
    assert len(set(hdtf.TEST_CLIPS)) == 19 and hdtf.TEST_FRAMES == 100
    assert sum(name.startswith("WRA_") for name in hdtf.TEST_CLIPS) == 16
    assert all(name.endswith("_000") for name in hdtf.TEST_CLIPS)


def test_a_dry_run_of_hdtf_names_clips_without_video_and_clips_without_lines(lists):
    (lists / "_videos_raw" / "ErikPaulsen.mp4").unlink()
    found = hdtf.inspect(lists).found
    assert any("3 clips with time, crop and resolution, 19 wanted" in line for line in found)  # JohnThune has no crop
    assert any("not in the lists: 17 of 19, " in line and "and 9 more" in line for line in found)
    assert "not here: 1 of 19 clips, WRA_ErikPaulsen_000 (watch?v=2); the conversion leaves them out" in found


def test_a_scaled_crop_may_stick_out_by_a_rounded_pixel_only():
    assert hdtf.square((0, 1, 479), 480, 640, 480) == (0, 1, 478)
    assert hdtf.square((101, 0, 240), 240, 340, 240) == (100, 0, 240)
    x0, _, side = hdtf.square((200, 0, 240), 240, 340, 240)
    assert x0 + side > 340  # write_video refuses it


BROKEN_LISTS = {
    "times without minutes": ("annotion_time", "TomPrice.mp4 1-2", "annotion_time.txt: TomPrice: '1' is no time"),
    "a span that is none": ("annotion_time", "TomPrice.mp4 00:05", "TomPrice: '00:05' is no span"),
    "a span backwards": ("annotion_time", "TomPrice.mp4 00:05-00:02", "'00:05-00:02' ends before it begins"),
    "a video twice": (
        "annotion_time",
        "A.mp4 00:01-00:02\nA.mp4 00:03-00:04",
        "line 2: A stands there twice",
    ),
    "a crop of three": ("crop_wh", "TomPrice_0.mp4 1 2 3", "crop_wh.txt: TomPrice_0: .* must be x, width, y, height"),
    "a crop that is not square": ("crop_wh", "TomPrice_0.mp4 1 200 3 100", "with width = height"),
    "a negative crop": ("crop_wh", "TomPrice_0.mp4 -1 200 3 200", "crop_wh.txt: TomPrice_0"),
    "no height": ("resolution", "TomPrice.mp4 ", "resolution.txt: TomPrice has \\[\\], not one height"),
    "a name that leaves the folder": ("video_url", "../x watch?v=3", "video_url.txt, line 1: '../x' cannot"),
}


@pytest.mark.parametrize("case", BROKEN_LISTS)
def test_a_broken_list_of_hdtf_gives_one_error_with_file_and_line(case, lists, tmp_path):
    kind, text, message = BROKEN_LISTS[case]
    (lists / "HDTF_dataset" / f"WRA_{kind}.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        hdtf.convert(lists, tmp_path / "out", **NO_TRACKER)
    assert not (tmp_path / "out").exists()


def test_a_missing_list_of_hdtf_is_named(lists):
    (lists / "HDTF_dataset" / "RD_crop_wh.txt").unlink()
    with pytest.raises(FileNotFoundError, match="RD_crop_wh.txt is missing"):
        hdtf.inspect(lists)


# Names and the command


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "clips", ".hidden", "a\0b", "a.b"])
def test_a_clip_cannot_have_a_name_that_is_no_folder_of_its_own(name, tmp_path):
    with pytest.raises(ValueError, match="cannot be"):
        ListedClip(name, tmp_path, "x")


def test_the_command_reports_in_a_dry_run_and_writes_nothing(celebv, tmp_path, capsys):
    arguments = ["celebv_hq", celebv, tmp_path / "out", "--dry-run", "--python", NO_TRACKER["python"]]
    assert main([str(argument) for argument in arguments]) == 1
    told = capsys.readouterr().out
    assert "not here: 1 of 4 clips, gone_0" in told and "would write:\n  3 datasets" in told
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_waits_for_codes(celebv, tmp_path):
    write_dataset(tmp_path / "tracked" / "cut_7", 4)
    report = celebv_hq.inspect(celebv, tracked=tmp_path / "tracked")
    assert f"{tmp_path / 'tracked'}: codes for 1 of 3 clips" in report.found and report.ok
    assert report.will_write == ["1 dataset (1 train), all frames", "2 videos, cut and waiting for codes"]


def test_a_dry_run_looks_at_the_output_as_the_conversion_does(celebv, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").touch()
    for mode in ([], ["--dry-run"]):
        with pytest.raises(SystemExit, match="thesis exists and is no dataset: choose another folder"):
            main(["celebv_hq", str(celebv), str(tmp_path / "thesis"), *mode])
        with pytest.raises(SystemExit, match="which is only read"):
            main(["celebv_hq", str(celebv), str(tmp_path), *mode])


def test_a_dry_run_refuses_no_frames_as_the_conversion_does(ground_truth, tmp_path):
    for mode in ([], ["--dry-run"]):
        with pytest.raises(SystemExit, match="--frames must be positive, not 0"):
            main(["vfhq", str(ground_truth), str(tmp_path / "out"), "--frames", "0", *mode])


@pytest.mark.parametrize("module", [celebv_hq, hdtf, vfhq])
def test_every_command_of_clips_tells_their_three_steps(module, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([module.NAME, "--help"])
    assert "or --tracked names a folder with a dataset per clip" in capsys.readouterr().out


@pytest.mark.parametrize("module", [celebv_hq, hdtf, nersemble, nersemble_benchmark, vfhq])
def test_every_command_says_what_it_needs_and_under_which_terms(module, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([module.NAME, "--help"])
    told = capsys.readouterr().out
    assert "You need" in told and "--dry-run" in told and any(word in told for word in ("CC-BY", "terms", "research"))


def test_an_error_leaves_the_command_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="celebv_hq: .*celebvhq_info.json is missing"):
        main(["celebv_hq", str(tmp_path), str(tmp_path / "out")])


def test_two_clips_of_one_name_and_no_frames_are_refused(upload, tmp_path):
    clip = ListedClip("a", upload, "a", 0.0, inf)
    with pytest.raises(ValueError, match="two clips are called 'a'"):
        convert_clips("toy", [clip, clip], tmp_path / "out", ClipOptions(**NO_TRACKER))
    with pytest.raises(ValueError, match="--frames must be positive"):
        ClipOptions(frames=0)
