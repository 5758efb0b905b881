"""Performances: curves that a face could follow, and that look like speaking, listening, acting and being calm."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_scripts.worlds.acting import CLOSED, LIMITS, REACH, STYLES, TONGUE, codes, perform
from data_scripts.worlds.acting.curves import ARKIT
from sa0lib.head import load_head
from sa0lib.paths import ASSETS
from sa0lib.uv import rasterize_triangles

MOODS = list(STYLES)
built = pytest.mark.skipif(
    not (ASSETS / "open_head.npz").is_file(), reason="OpenHead is not built: python -m data_scripts.build_open_head"
)


@pytest.fixture(scope="module")
def head():
    return load_head()


def play(mood, seed=0, seconds=60, fps=50):
    return perform(np.random.default_rng(seed), seconds * fps, fps, mood)


def score(performance, name):
    return performance.scores[:, ARKIT.index(name)].astype(float)


def total_turn(performance):
    return performance.rotation + performance.neck  # about one axis, so they add up


def power(curve, fps, low, high):
    """Mean spectral power of a curve between two frequencies in hertz."""
    frequency = np.fft.rfftfreq(len(curve), 1 / fps)
    spectrum = np.abs(np.fft.rfft((curve - curve.mean()) * np.hanning(len(curve)))) ** 2 / len(curve)
    return spectrum[(frequency >= low) & (frequency < high)].mean()


@pytest.mark.parametrize("mood", MOODS)
def test_same_seed_gives_the_same_performance(mood):
    first, second = play(mood, 4, 8), play(mood, 4, 8)
    for name in ("scores", "gaze", "rotation", "neck", "translation", "syllables", "blinks"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert not np.array_equal(first.scores, play(mood, 5, 8).scores)


@pytest.mark.parametrize("mood", MOODS)
def test_another_frame_rate_shows_the_same_performance(mood):
    slow, fast = play(mood, 1, 12, 25), play(mood, 1, 12, 50)
    for name in ("scores", "gaze", "rotation", "neck", "translation"):
        np.testing.assert_allclose(getattr(slow, name), getattr(fast, name)[::2], atol=1e-5, err_msg=name)


def test_frames_of_a_clip_are_taken_as_they_are():
    clip = play("talk", 0, 4, 25)
    few = clip.at(np.array([3, 50, 99]))
    assert few.scores.shape == (3, 52) and np.array_equal(few.scores[1], clip.scores[50])
    assert np.array_equal(few.translation[2], clip.translation[99]) and few.fps == 25


@pytest.mark.parametrize("mood", MOODS)
def test_scores_stay_between_0_and_1_and_the_head_within_its_reach(mood):
    for seed in range(3):
        p = play(mood, seed)
        assert p.scores.min() >= 0 and p.scores.max() <= 1
        assert np.abs(p.translation).max() <= REACH
        assert np.linalg.norm(total_turn(p), axis=1).max() <= np.linalg.norm(LIMITS)


@pytest.mark.parametrize("mood", MOODS)
def test_nothing_jumps_from_one_frame_to_the_next(mood):
    p = play(mood, 2, 30, 200)
    speed = np.abs(np.diff(p.scores, axis=0)).max(0) * 200  # per second
    quick = np.array([name.startswith(("eyeBlink", "eyeLook", "eyeWide", "eyeSquint")) for name in ARKIT])
    assert speed[~quick].max() < 20  # no lip, brow or jaw goes all the way in less than 50 ms
    assert speed[quick].max() < 60  # lids and eyes are quicker
    assert np.abs(np.diff(total_turn(p), axis=0)).max() * 200 < np.radians(200)
    assert np.abs(np.diff(p.translation, axis=0)).max() * 200 < 0.25


@pytest.mark.parametrize("mood", MOODS)
def test_blinks_come_as_often_as_people_blink(mood):
    starts = np.concatenate([np.diff(play(mood, seed).blinks) for seed in range(4)])
    assert 10 <= 60 / starts.mean() <= 30  # a minute
    assert starts.min() >= 1.4 and starts.max() <= 6.0


def test_blinks_close_faster_than_they_open():
    p = play("calm", 0, 60, 200)
    closed = score(p, "eyeBlinkLeft")
    falls, rises = [], []
    for start in p.blinks[1:-1]:
        one = closed[int(start * 200) : int(start * 200) + 70]
        top = one.argmax()
        rises.append(top)
        falls.append(np.nonzero(one > 0.1)[0].max() - top)
    assert np.mean(falls) > 1.4 * np.mean(rises)


def test_talking_opens_the_jaw_with_every_syllable():
    for seed in range(3):
        p = play("talk", seed)
        jaw, t = score(p, "jawOpen"), np.arange(3000) / 50
        apart = np.diff(p.syllables)
        between = (p.syllables[:-1] + p.syllables[1:])[apart < 0.35] / 2  # consonants, not pauses
        vowels, consonants = (np.interp(times, t, jaw).mean() for times in (p.syllables, between))
        assert vowels > 1.3 * consonants and vowels > consonants + 0.04
        assert 3 < 1 / np.median(apart) < 6


def test_talking_moves_the_jaw_at_syllable_rate_and_listening_does_not():
    talk, listen = ([power(score(play(m, s), "jawOpen"), 50, 3, 6) for s in range(3)] for m in ("talk", "listen"))
    assert min(talk) > 30 * max(listen)
    assert min(power(score(play("talk", s), "jawOpen"), 50, 3, 6) for s in range(3)) > 10 * max(
        power(score(play("talk", s), "jawOpen"), 50, 9, 15) for s in range(3)
    )  # a band, not white noise


def test_only_those_who_talk_have_syllables():
    assert [bool(len(play(mood, 0, 30).syllables)) for mood in MOODS] == [mood in ("talk", "act") for mood in MOODS]


def test_listening_nods_more_than_being_calm():
    nods = {m: [power(total_turn(play(m, s))[:, 0], 50, 1.2, 2.5) for s in range(3)] for m in ("listen", "calm")}
    assert np.mean(nods["listen"]) > 10 * np.mean(nods["calm"])


def test_acting_feels_more_and_turns_further_than_being_calm():
    strong, calm = ([play(m, s) for s in range(3)] for m in ("act", "calm"))
    face = [i for i, name in enumerate(ARKIT) if not name.startswith(("eyeLook", "eyeBlink"))]
    assert np.mean([p.scores[:, face].mean() for p in strong]) > 3 * np.mean([p.scores[:, face].mean() for p in calm])
    assert max(np.abs(total_turn(p)[:, 1]).max() for p in strong) > np.radians(22)
    assert max(np.abs(total_turn(p)[:, 1]).max() for p in calm) < np.radians(15)


def test_eyes_turn_against_the_head():
    p = play("listen", 0)
    assert np.corrcoef(total_turn(p)[:, 1], p.gaze[:, 0])[0, 1] < -0.3


def test_lips_close_no_further_than_the_jaw_opens_and_the_tongue_needs_an_open_jaw():
    for mood, seed in [("talk", 0), ("talk", 1), ("talk", 2), ("act", 0), ("act", 1), ("act", 2), ("act", 3)]:
        p = play(mood, seed)
        jaw, tongue = score(p, "jawOpen"), score(p, "tongueOut")
        assert (score(p, "mouthClose") <= jaw + 1e-6).all()
        assert (tongue <= TONGUE * jaw + 1e-6).all() and tongue.max() > 0.15


def test_unknown_mood_and_empty_clip_are_refused():
    with pytest.raises(ValueError, match="mood 'sing'.*talk"):
        perform(np.random.default_rng(0), 10, 25, "sing")
    with pytest.raises(ValueError, match="n_frames=0"):
        perform(np.random.default_rng(0), 0, 25, "talk")


def test_head_without_arkit_actions_is_refused():
    flame = SimpleNamespace(arkit_names=[], source="FLAME 2020")
    with pytest.raises(ValueError, match="FLAME 2020.*ARKit"):
        codes(play("calm", 0, 1), flame, torch.zeros(1, 300))


# --- on the head -----------------------------------------------------------------------------------------------


def people(count):
    return 0.8 * torch.randn(count, 300, generator=torch.Generator().manual_seed(1))


def still(**scores):
    """A one-frame performance with only these scores, given without their sides."""
    p = play("calm", 0, 1, 1)
    row = np.zeros((1, 52), np.float32)
    for name, value in scores.items():
        for side in ("", "Left", "Right"):
            if name + side in ARKIT:
                row[0, ARKIT.index(name + side)] = value
    return type(p)(row, 0 * p.gaze, 0 * p.rotation, 0 * p.neck, 0 * p.translation, p.syllables, p.blinks, p.fps)


def aperture(head, performance, shape):
    """Height between the lids' landmarks of the left eye, metres."""
    points = head.landmarks(head(**codes(performance, head, shape)))[0]
    return float(points[[43, 44], 1].mean() - points[[46, 47], 1].mean())


@built
def test_names_of_the_actions_are_the_heads(head):
    assert ARKIT == tuple(head.arkit_names)


@built
@pytest.mark.parametrize("others", [{}, {"eyeSquint": 0.8}, {"eyeLookDown": 0.8}, {"eyeWide": 0.5, "cheekSquint": 0.5}])
def test_lids_meet_in_a_blink_and_never_pass_each_other_on_anybody(head, others):
    for shape in people(5):
        gap = aperture(head, still(eyeBlink=1.0, **others), shape[None])
        if "eyeWide" not in others:  # where even the full score may not close very wide eyes
            assert gap < CLOSED + 2e-3
        assert gap > CLOSED - 1e-4


@built
def test_no_eye_is_seen_behind_closed_lids(head):
    number = head.region_names.index("eye_left")
    faces = head.faces.numpy()
    for shape in people(4):
        seen = []
        for blink in (0.0, 1.0):
            vertices = head(**codes(still(eyeBlink=blink), head, shape[None]))[0].detach().numpy()
            xy = np.stack([vertices[:, 0] * 5000, (0.045 - vertices[:, 1]) * 5000], 1)
            face = rasterize_triangles(xy, 1 - vertices[:, 2], faces, 275, 275)[0]
            seen.append((head.region.numpy()[faces[face[face >= 0], 0]] == number).sum())
        assert seen[1] < 0.06 * seen[0]


@built
def test_lids_follow_the_eyes_down(head):
    shape = torch.zeros(1, 300)
    assert aperture(head, still(eyeLookDown=0.9), shape) < aperture(head, still(), shape) - 2e-3


@built
def test_eyes_turn_by_the_gaze(head):
    p = play("act", 1, 10)
    eyes = codes(p, head, torch.zeros(1, 300))["eyes"].numpy()
    for first in (0, 3):  # left, right eye: x is pitch (down), y is yaw (left)
        np.testing.assert_allclose(eyes[:, first + 1], p.gaze[:, 0], atol=8e-3)
        np.testing.assert_allclose(eyes[:, first], -p.gaze[:, 1], atol=8e-3)


@built
def test_jaw_never_closes_beyond_the_teeth(head):
    for mood in MOODS:
        assert codes(play(mood, 0, 20), head, torch.zeros(1, 300))["jaw"][:, 0].min() >= 0


@built
def test_tongue_shows_only_between_the_lips(head):
    """Seen from the front while talking: a tongue that pierced a lip would show outside of the mouth's opening."""
    p = play("talk", 0, 30)
    out = np.argsort(-score(p, "tongueOut"))[:: len(p.scores) // 40][:6]
    faces, tongue = head.faces.numpy(), head.region_names.index("tongue")
    turned = p.at(out)
    rest = {"rotation", "neck", "translation"}
    pose = {k: v for k, v in codes(turned, head, people(1)).items() if k not in rest}
    vertices = head(**pose).detach()
    inner = head.landmarks(vertices)[:, 60:68].numpy()
    for points, lips in zip(vertices.numpy(), inner, strict=True):
        xy = np.stack([(points[:, 0] + 0.04) * 5000, (-0.02 - points[:, 1]) * 5000], 1)
        face = rasterize_triangles(xy, 1 - points[:, 2], faces, 400, 400)[0]
        row, column = np.nonzero((face >= 0) & (head.region.numpy()[faces[face, 0]] == tongue))
        x, y = column / 5000 - 0.04, -0.02 - row / 5000
        low = np.interp(x, lips[[0, 7, 6, 5, 4], 0], lips[[0, 7, 6, 5, 4], 1])
        high = np.interp(x, lips[[0, 1, 2, 3, 4], 0], lips[[0, 1, 2, 3, 4], 1])
        assert len(x) == 0 or ((y > low - 2e-3) & (y < high + 2e-3)).mean() > 0.99
