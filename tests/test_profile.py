"""The scale ladder is one switch with four positions."""

import re
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from sa0lib.paths import ROOT
from sa0lib.profile import PROFILES, Profile, WorldSize, current_profile


def test_the_ladder_has_four_rungs_in_order():
    assert list(PROFILES) == ["smoke", "desk", "workstation", "paper"]
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_desk_is_the_rung_without_a_choice(monkeypatch):
    monkeypatch.delenv("SA0_PROFILE", raising=False)
    assert current_profile() is PROFILES["desk"]


@pytest.mark.parametrize("name", PROFILES)
def test_the_switch_chooses_the_rung(monkeypatch, name):
    monkeypatch.setenv("SA0_PROFILE", name)
    assert current_profile() is PROFILES[name]


def test_an_unknown_rung_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.setenv("SA0_PROFILE", "dekstop")
    with pytest.raises(ValueError, match="'dekstop'.*smoke, desk, workstation, paper"):
        current_profile()


def test_a_rung_cannot_be_changed_in_passing():
    with pytest.raises(FrozenInstanceError):
        PROFILES["desk"].refine_iters = 1


def test_no_rung_asks_for_less_than_the_one_below():
    def size(value):
        if isinstance(value, WorldSize):
            return value.sequences * value.frames * value.cameras * value.pixels**2
        return float("inf") if value is None else value

    names = [f.name for f in fields(Profile) if f.name not in ("name", "machine")]
    rungs = list(PROFILES.values())
    for lower, upper in zip(rungs, rungs[1:], strict=False):
        shrinking = [n for n in names if size(getattr(lower, n)) > size(getattr(upper, n))]
        assert not shrinking, f"{upper.name} asks for less than {lower.name}: {shrinking}"


def test_stage_2_at_the_desk_is_the_papers_but_for_the_picture_size():
    paper, desk = PROFILES["paper"], PROFILES["desk"]
    stage_2 = ("uv_size", "n_frames", "refine_iters")
    assert replace(paper, **{n: getattr(desk, n) for n in stage_2}) == paper


def test_nothing_else_reads_the_switch():
    """Rungs differ in the fields of Profile and nowhere else, so only profile.py may look at the variable or a name."""
    sources = [*ROOT.glob("sa0lib/**/*.py"), *ROOT.glob("notebooks/*.py")]
    by_hand = re.compile(r"SA0_PROFILE[\"'\]]|\.name\s*[!=]=\s*[\"'](smoke|desk|workstation|paper)")
    readers = [p.name for p in sources if by_hand.search(p.read_text(encoding="utf8"))]
    assert readers == ["profile.py"]
