"""The notebooks, paired, run and checked: NN_name.py is the source, NN_name.ipynb its twin with text outputs.

    python -m data_scripts.notebook execute --profile desk    # run what the book needs, unless it is unchanged
    python -m data_scripts.notebook sync [NAME ...]           # .py -> .ipynb, run it, keep its text outputs
    python -m data_scripts.notebook check                     # do the twins agree?

Executed notebooks are kept in a jupyter-cache whose folder name is a hash of everything a notebook may read: the
library, the data scripts, the pins, the results and the assets. jupyter-cache itself only looks at a notebook's
own code.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from data_scripts.get_assets import content_hash
from sa0lib.paths import DATA, ROOT
from sa0lib.profile import PROFILES, current_profile

NOTEBOOKS = ROOT / "notebooks"
CACHES = ROOT / "_build" / ".jupyter_cache"
LARGEST = 250_000  # bytes of a committed .ipynb: text outputs need no more
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


# --- the pair -------------------------------------------------------------------------------------------------


def read_source(source: Path) -> NotebookNode:
    """The notebook that a py:percent file describes, without outputs; cell ids follow from the cells' places."""
    nb = jupytext.read(source, fmt="py:percent")
    nb.metadata = nbformat.from_dict({"jupytext": {"formats": "ipynb,py:percent"}, "kernelspec": KERNEL})
    for i, cell in enumerate(nb.cells):
        cell["id"] = f"cell-{i:03d}"
    return nb


def differences(source: Path) -> list[str]:
    """Why NN_name.ipynb is not the run and stripped twin of NN_name.py; empty when it is."""
    twin = source.with_suffix(".ipynb")
    if not twin.is_file():
        return [f"{twin.name} is missing"]
    wanted, found = read_source(source), nbformat.read(twin, as_version=4)
    cells = [[(c.cell_type, c.source, c.metadata) for c in nb.cells] for nb in (wanted, found)]
    if cells[0] != cells[1]:
        first = next((i for i, (a, b) in enumerate(zip(*cells, strict=False)) if a != b), min(map(len, cells)))
        return [f"{twin.name} differs from {source.name}, first in cell {first}"]
    problems = []
    code = [c for c in found.cells if c.cell_type == "code"]
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)):
        problems.append(f"{twin.name} was not run from top to bottom")
    for i, cell in enumerate(code, 1):
        if cell.outputs != text_outputs(cell.outputs):
            problems.append(f"{twin.name}: code cell {i} holds more than text outputs")
        if "nbval-check-output" in cell.metadata.get("tags", []) and not cell.outputs:
            problems.append(f"{twin.name}: code cell {i} is to be compared but has no output")
    if twin.stat().st_size > LARGEST:
        problems.append(f"{twin.name} has {twin.stat().st_size} bytes, more than {LARGEST}")
    return problems


def all_differences() -> list[str]:
    """`differences` of every notebook, and the twins without a source."""
    orphans = [p.name for p in NOTEBOOKS.glob("*.ipynb") if not p.with_suffix(".py").is_file()]
    return [f"{name} has no .py" for name in orphans] + [d for s in sources() for d in differences(s)]


def sources() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.py"))


def text_outputs(outputs: list) -> list:
    """Printed text, values and Markdown; pictures, figures, sliders and progress bars are left out."""
    kept = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            kept.append(output)
        elif set(output.get("data", {"image/png"})) <= {"text/plain", "text/html", "text/markdown"}:
            texts = {
                k: v for k, v in output.data.items() if k != "text/html" and not v.startswith("<")
            }  # "<Figure ..."
            if texts:
                kept.append(nbformat.from_dict({**output, "data": texts, "metadata": {}}))
    return kept


# --- running --------------------------------------------------------------------------------------------------


def execution_key(profile: str) -> str:
    """Profile name and a hash over everything that a notebook's outputs may depend on besides its own code."""
    read = [ROOT / "requirements.txt", *(ROOT / "sa0lib").rglob("*.py"), *(ROOT / "data_scripts").rglob("*.py")]
    read += [ROOT / "book" / "results", DATA / "clip", *(p for p in (DATA / "assets").glob("*") if p.is_file())]
    digest = content_hash(read, (DATA, ROOT))
    return f"{profile}-python{sys.version_info.major}.{sys.version_info.minor}-{digest}"


def execution_cache(profile: str) -> Path:
    """The folder of the jupyter-cache that is valid now; those of earlier states of the repository are deleted."""
    current = CACHES / execution_key(profile)
    for old in CACHES.glob(f"{profile}-*"):
        if old != current:
            shutil.rmtree(old)
    current.mkdir(parents=True, exist_ok=True)
    return current


class Runner(NotebookClient):
    """Runs a notebook in its folder; says which cell is running, and passes the cells' progress bars on."""

    def __init__(self, nb: NotebookNode, name: str, timeout: int | None):
        path = {"metadata": {"path": str(NOTEBOOKS)}}
        settings = dict(record_timing=False, coalesce_streams=True)  # nothing in a file that differs from run to run
        super().__init__(nb, timeout=timeout, kernel_name="python3", resources=path, **settings)
        self.name, self.start = name, time.monotonic()
        self.count = sum(c.cell_type == "code" for c in nb.cells)
        self.on_cell_execute = self.say

    def say(self, cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "code":
            n = sum(c.cell_type == "code" for c in self.nb.cells[: cell_index + 1])
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            elapsed = time.monotonic() - self.start
            print(f"  {self.name} {n:2}/{self.count} {elapsed:5.0f} s | {first[:70]}", flush=True)

    def process_message(self, msg, cell, cell_index):
        if msg["header"]["msg_type"] == "stream" and msg["content"]["name"] == "stderr":
            sys.stderr.write(msg["content"]["text"])
            sys.stderr.flush()
        return super().process_message(msg, cell, cell_index)


def run_cached(nb: NotebookNode, source: Path, cache: JupyterCacheAbstract, timeout: int | None) -> NotebookNode:
    """The notebook with its outputs: from the cache, or run now and put there. Raises what nbclient raises."""
    try:
        cache.match_cache_notebook(nb)
        print(f"{source.stem}: unchanged since its last run", flush=True)
    except KeyError:
        runner = Runner(nb, source.stem, timeout)
        runner.execute()
        seconds = time.monotonic() - runner.start
        print(f"{source.stem}: {seconds:.0f} s", flush=True)
        uri = str(source.with_suffix(".ipynb"))
        bundle = CacheBundleIn(nb, uri, data={"execution_seconds": seconds})
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return cache.merge_match_into_notebook(nb)[1]


def execute(profile: str, timeout: int | None) -> None:
    """Run every committed notebook on a rung. Raises SystemExit where a twin is not that of its source."""
    if problems := [d for s in sources() for d in differences(s)]:
        raise SystemExit("\n".join(problems) + "\nrun `make notebooks`, and look at what changed")
    cache = get_cache(execution_cache(profile))
    for source in sources():
        run_cached(nbformat.read(source.with_suffix(".ipynb"), as_version=4), source, cache, timeout)


def sync(names: list[str], profile: str, timeout: int | None) -> None:
    """Write the twins anew from their sources, with the text outputs of a run. SystemExit for an unknown name."""
    chosen = [s for s in sources() if not names or s.stem in names]
    if unknown := set(names) - {s.stem for s in chosen}:
        raise SystemExit(
            f"no such notebook: {', '.join(sorted(unknown))}; there are {', '.join(s.stem for s in sources())}"
        )
    cache = get_cache(execution_cache(profile))
    for source in chosen:
        nb = read_source(source)
        outputs = run_cached(nb, source, cache, timeout)
        code = (c for c in outputs.cells if c.cell_type == "code")
        for cell, ran in ((c, next(code)) for c in nb.cells if c.cell_type == "code"):
            cell.execution_count, cell.outputs = ran.execution_count, text_outputs(ran.outputs)
            cell.metadata.pop("execution", None)
        temporary = source.with_suffix(".ipynb.partial")
        nbformat.write(nb, temporary)
        os.replace(temporary, source.with_suffix(".ipynb"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("execute", "sync", "check"))
    parser.add_argument(
        "names", nargs="*", help="for sync: notebooks by name, such as 00_quickstart; all when none is given"
    )
    parser.add_argument("--profile", choices=PROFILES, default=current_profile().name, help="rung of the scale ladder")
    parser.add_argument("--timeout", type=int, help="seconds that one cell may take; no limit when not given")
    args = parser.parse_args()
    os.environ["SA0_PROFILE"] = args.profile  # kernels inherit it
    try:
        if args.action == "execute":
            execute(args.profile, args.timeout)
        elif args.action == "sync":
            sync(args.names, args.profile, args.timeout)
        elif problems := all_differences():
            raise SystemExit("\n".join(problems) + "\nrun `make notebooks`, and look at what changed")
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise SystemExit(f"a notebook failed, nothing of it was kept:\n{error}") from None


if __name__ == "__main__":
    main()
