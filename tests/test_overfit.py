"""The overfit run as a reader calls it: it resumes, scores known and new frames, and refuses bad data in one line."""

import json
import sys

import pytest
import toy_collection
from flame_toy import flame_model, write_flame, write_template
from PIL import Image

from sa0lib import overfit
from sa0lib.head import load_flame, load_head


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_collection, "BASIS", load_head().basis)
    return toy_collection.write_collection(tmp_path / "world", sequences=2, timesteps=8, size=32)


def run(monkeypatch, *arguments) -> None:
    quick = ["--people", "2", "--uv-size", "8", "--batch-size", "1"]
    monkeypatch.setattr(sys, "argv", ["overfit", *quick, *map(str, arguments)])
    overfit.main()


def test_known_and_new_frames_are_scored_apart_and_pictured(data, tmp_path, monkeypatch):
    run(monkeypatch, "--data", data, "--out", tmp_path / "out", "--steps", 2)
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert [len(person) for person in record["psnr_training_frames"]] == [6, 6]
    assert [len(person) for person in record["psnr_new_frames"]] == [2, 2]
    assert record["history"][-1]["step"] == 2 and record["people"] == ["person0", "person1"]
    with Image.open(tmp_path / "out" / "record.webp") as sheet:
        assert sheet.size == (6 * 32, 2 * 32)


def test_a_finished_run_is_scored_again_without_training(data, tmp_path, monkeypatch):
    records = []
    for _ in range(2):
        run(monkeypatch, "--data", data, "--out", tmp_path / "out", "--steps", 2)
        records.append(json.loads((tmp_path / "out" / "record.json").read_text()))
    assert records[0]["psnr_new_frames"] == records[1]["psnr_new_frames"]


@pytest.mark.parametrize(("option", "value", "named"), [("--lr", 1e-2, "lr"), ("--people", 1, "data")])
def test_a_run_does_not_go_on_with_other_settings_or_data(data, tmp_path, monkeypatch, option, value, named):
    run(monkeypatch, "--data", data, "--out", tmp_path / "out", "--steps", 1)
    with pytest.raises(SystemExit, match=f"another {named}"):
        run(monkeypatch, "--data", data, "--out", tmp_path / "out", "--steps", 1, option, value)


def test_data_in_codes_of_flame_are_learnt_with_the_readers_flame(tmp_path, monkeypatch):
    model = flame_model()
    flame = write_flame(model, tmp_path / "generic_model.pkl"), write_template(model, tmp_path / "head_template.obj")
    head = load_flame(*flame)
    monkeypatch.setattr(toy_collection, "BASIS", head.basis)
    data = toy_collection.write_collection(tmp_path / "world", sequences=2, timesteps=8, size=32)
    where = "--data", data, "--out", tmp_path / "out", "--steps", 1
    with pytest.raises(SystemExit, match="FLAME 2020"):
        run(monkeypatch, *where)
    with pytest.raises(SystemExit, match="need each other"):
        run(monkeypatch, *where, "--flame", flame[0])
    run(monkeypatch, *where, "--flame", flame[0], "--template", flame[1])
    assert (tmp_path / "out" / "record.json").is_file()


def test_missing_data_is_named(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="overfit: .*nowhere"):
        run(monkeypatch, "--data", tmp_path / "nowhere", "--out", tmp_path)


def test_more_people_than_there_are_is_one_clear_error(data, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="has 2 people to train on: --people 3"):
        run(monkeypatch, "--data", data, "--out", tmp_path, "--people", 3)
