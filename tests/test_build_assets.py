"""A step runs when something that it depends on changed, and only then."""

import json
import sys

import pytest

from data_scripts import build_assets, get_assets
from data_scripts.build_assets import STEPS, Step, run, sources
from sa0lib.paths import ROOT


@pytest.fixture
def step(tmp_path, monkeypatch):
    """A repository with one step: it adds what it reads to a file of its runs, which is also its output."""
    package = tmp_path / "toy_scripts"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "words.py").write_text('WORD = "ran"\n')
    (package / "make.py").write_text(
        "from toy_scripts.words import WORD\n"
        "open('data/out.txt', 'a').write(WORD + ' ' + open('data/in.txt').read() + '\\n')\n"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.txt").write_text("first")
    for module in (build_assets, get_assets):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "DATA", tmp_path / "data")
    bases = (tmp_path / "data", tmp_path)
    monkeypatch.setattr(build_assets, "content_hash", lambda paths: get_assets.content_hash(paths, bases))
    monkeypatch.setattr(build_assets, "sources", lambda module: sources(module, tmp_path))
    monkeypatch.setattr(build_assets, "RECORDS", tmp_path / "data" / "built.json")
    return Step("toy_scripts.make", (tmp_path / "data" / "in.txt",), tmp_path / "data" / "out.txt")


def test_a_step_runs_once(step):
    assert run(step)
    assert not run(step)
    assert step.makes.read_text() == "ran first\n"


@pytest.mark.parametrize("path", ["toy_scripts/make.py", "toy_scripts/words.py", "data/in.txt", "data/out.txt"])
def test_a_step_runs_again_when_its_code_its_input_or_its_output_changed(step, tmp_path, path):
    run(step)
    with open(tmp_path / path, "a") as f:
        f.write("\n#")
    assert run(step)
    assert not run(step)


def test_a_step_runs_again_when_its_output_is_gone(step):
    run(step)
    step.makes.unlink()
    assert run(step)


def test_a_step_does_not_run_again_for_a_date(step):
    run(step)
    step.makes.touch()
    step.reads[0].touch()
    assert not run(step)


def test_a_failed_step_stops_and_is_not_recorded(step, tmp_path):
    (tmp_path / "data" / "in.txt").unlink()
    with pytest.raises(SystemExit):
        run(step)
    assert not (tmp_path / "data" / "built.json").exists()


def test_a_failed_step_does_not_forget_the_others(step, tmp_path):
    (tmp_path / "data" / "built.json").write_text(json.dumps({"other": {}}))
    run(step)
    assert set(json.loads((tmp_path / "data" / "built.json").read_text())) == {"other", "toy_scripts.make"}


@pytest.mark.parametrize("module", [step.module for step in STEPS])
def test_the_code_of_a_step_is_found_as_python_finds_it(module):
    """Against the interpreter: what importing the command really loads from this repository."""
    script = f"import sys, {module}; print(*(getattr(m, '__file__', None) for m in sys.modules.values()))"
    loaded = get_assets.subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    mine = {f for f in loaded.stdout.split() if f.startswith((f"{ROOT}/sa0lib/", f"{ROOT}/data_scripts/"))}
    assert mine <= {str(p) for p in sources(module)}
    assert any("sa0lib" in f for f in mine)
