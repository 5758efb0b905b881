"""data_scripts.track, its first half: reading a video, and which of its frames can be used."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from toy_video import FRAMES, HEIGHT, INFO, WIDTH, detections, hand, write_video

from data_scripts.track.choose import check_kept, left_out, overlaps, widen
from data_scripts.track.video import MIN_FRAMES, check_count, probe, read_frames
from sa0lib.paths import ASSETS


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "toy.mp4"
    write_video(path)
    return path


# Videos


def test_frames_are_decoded_in_order_and_in_rgb(video):
    frames = list(read_frames(video))
    assert len(frames) == FRAMES and frames[0].shape == (HEIGHT, WIDTH, 3)
    assert frames[0][62:78, 202:218].min() > 235 and frames[0][100:, :100].max() < 80


def test_a_phones_rotation_tag_turns_the_frames_upright(video, tmp_path):
    data = bytearray(video.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 40  # after version, times, track, duration, layer, volume
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # 90 clockwise
    (tmp_path / "phone.mp4").write_bytes(data)
    assert (probe(tmp_path / "phone.mp4").width, probe(tmp_path / "phone.mp4").height) == (HEIGHT, WIDTH)
    straight, turned = next(read_frames(video)), next(read_frames(tmp_path / "phone.mp4"))
    assert np.array_equal(turned, np.rot90(straight, -1))


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="my.mp4: no such video"):
        probe(tmp_path / "my.mp4")


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "my.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(ValueError, match="my.mp4 cannot be decoded"):
        probe(tmp_path / "my.mp4")


def test_a_video_that_is_cut_off_is_refused():
    with pytest.raises(ValueError, match="only 200 of 472 frames decode"):
        check_count(replace(INFO, frames=472), 200)


def test_a_damaged_video_is_refused_with_the_frame_at_fault(tmp_path):
    data = bytearray((ASSETS / "clip.mp4").read_bytes())
    rng = np.random.default_rng(0)
    data[300_000:900_000:300] = rng.integers(0, 256, 2000, dtype=np.uint8).tobytes()
    (tmp_path / "my.mp4").write_bytes(data)
    with pytest.raises(ValueError, match=r"my.mp4: frame \d+ is damaged|decoding stops after frame"):
        list(read_frames(tmp_path / "my.mp4"))


def test_a_short_video_is_refused():
    with pytest.raises(ValueError, match=f"has {MIN_FRAMES - 1} frames: too short"):
        check_count(replace(INFO, frames=0), MIN_FRAMES - 1)


def test_a_tiny_video_is_refused(tmp_path):
    write_video(tmp_path / "my.mp4", 3, width=64, height=48)
    with pytest.raises(ValueError, match="is 64 x 48: at least 128"):
        probe(tmp_path / "my.mp4")


# Which frames are used


def test_an_undisturbed_face_is_kept_everywhere():
    assert left_out(*detections(), INFO) == [None] * FRAMES


def test_a_hand_before_the_face_takes_its_neighbourhood_with_it():
    faces, hands = detections()
    hands[12, 1] = hand(160, 130)
    reasons = left_out(faces, hands, INFO)
    assert reasons[12] == "hand before the head"
    margin = round(0.3 * INFO.fps)
    assert reasons[12 - margin] == reasons[12 + margin] == "hand just before or after"
    assert reasons[12 - margin - 1] is None and reasons[12 + margin + 1] is None


def test_a_hand_beside_the_head_does_no_harm():
    faces, hands = detections()
    hands[:, 0] = hand(290, 200)
    assert left_out(faces, hands, INFO) == [None] * FRAMES


def test_a_hand_at_the_neck_counts():
    faces, hands = detections()
    hands[5, 0] = hand(160, 110 + 0.5 * 90 + 15)
    assert left_out(faces, hands, INFO)[5] == "hand before the head"


def test_lost_frames_are_left_out():
    faces, hands = detections()
    faces[3:6] = np.nan
    reasons = left_out(faces, hands, INFO)
    assert [i for i, reason in enumerate(reasons) if reason] == [3, 4, 5] and reasons[3] == "no face"


def test_a_face_that_leaves_the_picture_is_left_out():
    faces, hands = detections()
    faces[7] += (WIDTH - 165, 0)
    assert left_out(faces, hands, INFO)[7] == "face leaves the picture"


def test_a_video_without_a_face_is_refused():
    faces, hands = detections()
    with pytest.raises(ValueError, match="clip.mp4: no face in any of its 30 frames"):
        left_out(faces * np.nan, hands, INFO)


def test_two_people_are_refused_with_the_first_frame_that_shows_both():
    faces, hands = detections(x=90)
    faces[4:, 1] = faces[4:, 0] + (140, 0)
    with pytest.raises(ValueError, match=r"two faces in 26 frames, first in frame 4 \(0.2 s\); cut or crop"):
        left_out(faces, hands, INFO)


def test_a_small_face_in_the_background_does_no_harm():
    faces, hands = detections(x=90)
    faces[:, 1] = (faces[:, 0] - (90, 110)) * 0.3 + (260, 60)
    assert left_out(faces, hands, INFO) == [None] * FRAMES


def test_one_face_found_twice_is_not_two_people():
    faces, hands = detections()
    faces[:, 1] = faces[:, 0] + 2
    assert left_out(faces, hands, INFO) == [None] * FRAMES


def test_a_distant_face_is_refused():
    with pytest.raises(ValueError, match="the face is 40 px high, at least 60"):
        left_out(*detections(size=40), INFO)


def test_too_few_frames_are_refused_with_the_reasons():
    reasons = [None] * 10 + ["no face"] * 15 + ["hand before the head"] * 5
    with pytest.raises(ValueError, match=r"only 10 of 30 .*\(15 no face, 5 hand before the head\)"):
        check_kept(reasons, INFO)


def test_convex_hulls_overlap_only_where_they_meet():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    assert overlaps(square, square + 0.9) and overlaps(square, 0.2 * square + 0.4)
    assert not overlaps(square, square + (1.1, 0)) and not overlaps(square, square @ [[1, 1], [-1, 1]] + (1.6, 0.8))


def test_widening_flags_stays_inside_the_row():
    flags = np.zeros(8, bool)
    flags[[0, 6]] = True
    assert widen(flags, 1).tolist() == [True, True, False, False, False, True, True, True]
