"""Every chapter is a pair: the .py that people edit, and the .ipynb that it gives when it is run."""

import shutil

import nbformat
import pytest

from data_scripts import notebook
from sa0lib.paths import ROOT

SOURCE = """# %% [markdown]
# # A chapter

# %%
print("two", 1 + 1)

# %% tags=["nbval-check-output"]
6 * 7

# %%
import sys

print("progress", file=sys.stderr)
from IPython.display import HTML, display

display(HTML("<b>a picture</b>"))
display({"text/plain": "a | b", "text/html": "<table></table>"}, raw=True)
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one chapter, with its own cache."""
    for folder in ("notebooks", "sa0lib", "data_scripts", "data/assets", "data/clip", "book/results"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "sa0lib" / "head.py").write_text("x = 1\n")
    (tmp_path / "notebooks" / "00_a.py").write_text(SOURCE)
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "DATA", tmp_path / "data")
    monkeypatch.setattr(notebook, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(notebook, "CACHES", tmp_path / "cache")
    return tmp_path


@pytest.fixture
def synced(repository):
    notebook.sync([], "smoke", timeout=120)
    return repository


def rewrite(path, change):
    nb = nbformat.read(path, as_version=4)
    change(nb)
    nbformat.write(nb, path)


def test_every_chapter_agrees_with_its_twin():
    assert notebook.all_differences() == []


def test_there_are_chapters():
    """A check over no files would pass: the number of chapters and of their code cells may only grow."""
    sources = sorted((ROOT / "notebooks").glob("*.py"))
    cells = sum(c.cell_type == "code" for s in sources for c in notebook.read_source(s).cells)
    assert len(sources) >= 3
    assert cells >= 30


def test_a_twin_holds_text_outputs_of_a_whole_run_and_nothing_else(synced):
    nb = nbformat.read(synced / "notebooks" / "00_a.ipynb", as_version=4)
    code = [c for c in nb.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == [1, 2, 3]
    assert code[0].outputs[0].text == "two 2\n"
    assert code[1].outputs[0].data == {"text/plain": "42"}
    assert [o.data for o in code[2].outputs] == [{"text/plain": "a | b"}]


def test_a_twin_is_the_same_when_it_is_made_again(synced):
    twin = synced / "notebooks" / "00_a.ipynb"
    first = twin.read_bytes()
    twin.unlink()
    shutil.rmtree(synced / "cache")
    notebook.sync([], "smoke", timeout=120)
    assert twin.read_bytes() == first


def test_an_edited_source_is_seen(synced):
    source = synced / "notebooks" / "00_a.py"
    source.write_text(SOURCE.replace("1 + 1", "1 + 2"))
    assert notebook.all_differences() == ["00_a.ipynb differs from 00_a.py, first in cell 1"]
    with pytest.raises(SystemExit, match="make notebooks"):
        notebook.execute("smoke", timeout=120)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda nb: nb.cells.pop(), "differs"),
        (lambda nb: nb.cells[1].update(execution_count=None), "not run from top to bottom"),
        (lambda nb: nb.cells[2].update(execution_count=7), "not run from top to bottom"),
        (lambda nb: nb.cells[2].update(outputs=[]), "to be compared but has no output"),
        (
            lambda nb: nb.cells[3].outputs.append(nbformat.v4.new_output("display_data", {"image/png": "iVBO"})),
            "more than text outputs",
        ),
    ],
)
def test_a_twin_that_was_tampered_with_is_seen(synced, change, complaint):
    rewrite(synced / "notebooks" / "00_a.ipynb", change)
    assert any(complaint in d for d in notebook.all_differences())


def test_a_file_without_its_other_half_is_seen(synced):
    (synced / "notebooks" / "00_a.py").rename(synced / "notebooks" / "01_b.py")
    assert notebook.all_differences() == ["00_a.ipynb has no .py", "01_b.ipynb is missing"]


def test_what_did_not_change_is_not_run_again(synced, capsys):
    notebook.execute("smoke", timeout=120)
    assert "00_a: unchanged" in capsys.readouterr().out


def test_a_failing_chapter_keeps_its_old_twin(synced):
    twin = synced / "notebooks" / "00_a.ipynb"
    before = twin.read_bytes()
    (synced / "notebooks" / "00_a.py").write_text(SOURCE.replace("1 + 1", "1 / 0"))
    with pytest.raises(notebook.CellExecutionError, match="ZeroDivisionError"):
        notebook.sync([], "smoke", timeout=120)
    assert twin.read_bytes() == before


@pytest.mark.parametrize(
    "path",
    [
        "sa0lib/head.py",
        "data_scripts/new.py",
        "requirements.txt",
        "data/assets/a.npz",
        "data/clip/x/0.png",
        "book/results/r.json",
    ],
)
def test_a_change_of_what_notebooks_read_makes_old_runs_invalid(repository, path):
    before = notebook.execution_key("smoke")
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_text("changed\n")
    assert notebook.execution_key("smoke") != before


def test_the_rung_is_part_of_what_was_run(repository):
    assert notebook.execution_key("smoke") != notebook.execution_key("desk")


def test_touching_a_file_does_not_make_old_runs_invalid(repository):
    before = notebook.execution_key("smoke")
    (repository / "sa0lib" / "head.py").touch()
    assert notebook.execution_key("smoke") == before


def test_only_the_cache_of_the_present_state_is_kept(repository):
    first = notebook.execution_cache("smoke")
    other_rung = notebook.execution_cache("desk")
    (repository / "sa0lib" / "head.py").write_text("x = 2\n")
    second = notebook.execution_cache("smoke")
    assert second.is_dir() and other_rung.is_dir() and not first.exists()
