"""Figures that only a process of its own can give: its peak memory, and the first call on a new machine.

python -m tests.benchmarks.fresh_process memory --size 512
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sa0lib.paths import DATA, ROOT
from sa0lib.rasterize import rasterization
from tests.benchmarks.scene import Subject, refiner_of


def peak_gib() -> float:
    """The most memory this process has held so far (ru_maxrss is in KiB on Linux, in bytes on macOS)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def memory(subject: Subject, size: int, iterations: int) -> dict:
    """Peak memory of a refinement on all training frames: once they are loaded, and after some iterations."""
    train = subject.frames(size)
    loaded = peak_gib()
    refiner = refiner_of(subject, train)
    for _ in range(iterations):
        refiner.step()
    return {
        "size": size,
        "frames": len(train),
        "iterations": iterations,
        "loaded_gib": round(loaded, 3),
        "peak_gib": round(peak_gib(), 3),
    }


def first_call() -> dict:
    """Seconds of the first forward and backward of this process, and of the second."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        leaves = [torch.ones(8, n).requires_grad_() for n in (3, 4, 3, 3)]
        opacities = torch.full((8,), 0.5).requires_grad_()
        view, K = torch.eye(4)[None], torch.tensor([[[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]])
        image, _, _ = rasterization(*leaves[:3], opacities, leaves[3], view, K, 32, 32, backend="cpu")
        image.sum().backward()
        seconds.append(round(time.perf_counter() - start, 3))
    return {"first_seconds": seconds[0], "second_seconds": seconds[1]}


def measured(figure: str, *arguments: str | int | Path) -> dict:
    """The answer of `python -m tests.benchmarks.fresh_process FIGURE ...`; for first_call with no kernels on disk.

    Call it before this process grows: Linux lets a child's peak begin with the size of its parent.

    Raises:
        RuntimeError: the process failed; the message is its last words.
    """
    command = [sys.executable, "-m", "tests.benchmarks.fresh_process", figure, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as empty:
        cache = {"NUMBA_CACHE_DIR": empty} if figure == "first_call" else {}
        answer = subprocess.run(command, cwd=ROOT, env={**os.environ, **cache}, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {answer.stderr.strip().splitlines()[-1]}")
    return json.loads(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("memory", "first_call"))
    parser.add_argument("--data", type=Path, default=DATA / "clip", help="the tracked subject")
    parser.add_argument("--avatar", type=Path, default=DATA / "refined" / "clip" / "avatar.ply")
    parser.add_argument("--size", type=int, default=512, help="pixels")
    parser.add_argument("--iterations", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.figure == "first_call":
        print(json.dumps(first_call()))
    else:
        subject = Subject.load(arguments.data, arguments.avatar)
        print(json.dumps(memory(subject, arguments.size, arguments.iterations)))


if __name__ == "__main__":
    main()
