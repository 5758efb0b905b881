"""Recorded runs: written whole, with their provenance, and read by name."""

import json

import pytest

from sa0lib.ledger import read_run, record_run


def test_a_recorded_run_reads_back_with_its_provenance(tmp_path):
    record_run("toy", {"psnr": 30.5}, seed=3, seconds=90.0, folder=tmp_path)
    run = read_run("toy", tmp_path)
    assert run["psnr"] == 30.5
    assert run["provenance"]["seed"] == 3 and run["provenance"]["minutes"] == 1.5
    assert {"commit", "profile", "machine", "versions", "peak_memory_gib"} <= run["provenance"].keys()


def test_an_unknown_run_is_refused_with_the_names_that_exist(tmp_path):
    record_run("toy", {}, seed=0, seconds=1.0, folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="recorded: toy"):
        read_run("missing", tmp_path)


def test_a_failed_write_leaves_the_old_record(tmp_path):
    record_run("toy", {"psnr": 1.0}, seed=0, seconds=1.0, folder=tmp_path)
    with pytest.raises(TypeError):
        record_run("toy", {"psnr": object()}, seed=0, seconds=1.0, folder=tmp_path)
    assert json.loads((tmp_path / "toy.json").read_text())["psnr"] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["toy.json"]
