"""Recorded runs: one JSON a run, written by the run commands only, read by the pages by key."""

import json
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from sa0lib.paths import ROOT, RUNS
from sa0lib.profile import current_profile

RECORDED_PACKAGES = ("torch", "numpy", "numba", "lpips", "torchmetrics")


def write_json(path: Path, value: dict) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never a part."""
    text = json.dumps(value, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)


def provenance(seed: int, seconds: float) -> dict:
    """What a reader needs to judge or repeat a run: commit, rung, seed, machine, versions, cost."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout.strip()
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": commit + ("+changes" if changed else ""),
        "command": " ".join(["python", "-m", *_module_and_arguments()]),
        "profile": current_profile().name,
        "seed": seed,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": cuda,
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in RECORDED_PACKAGES},
        "minutes": round(seconds / 60, 2),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def _module_and_arguments() -> list[str]:
    spec = sys.modules["__main__"].__spec__
    return [spec.name if spec else Path(sys.argv[0]).name, *sys.argv[1:]]


def record_run(name: str, result: dict, seed: int, seconds: float, folder: Path = RUNS) -> Path:
    """Write `folder/name.json`: the result beside its provenance. Returns the path."""
    path = folder / f"{name}.json"
    write_json(path, {"name": name, **result, "provenance": provenance(seed, seconds)})
    return path


def read_run(name: str, folder: Path = RUNS) -> dict:
    """A recorded run by name.

    Raises:
        FileNotFoundError: no such record; the message lists those there are.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"{path}: no run recorded under this name; recorded: {known}")
    return json.loads(path.read_text())
