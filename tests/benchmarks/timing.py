"""Timing of many cases in turns: whatever else the machine does meanwhile hits all of them alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm

ROUNDS = 6


@dataclass(frozen=True)
class Case:
    """One thing to time, and what it is."""

    scene: str  # "avatar" or "resampled"
    backend: str  # cpu | reference | torch_tiles | cuda | gsplat
    stage: str  # "forward", "forward+backward" or "iteration"
    size: int  # pixels, both ways
    channels: int
    gaussians: int
    threads: int  # of torch and the kernels
    run: Callable[[], object] = field(compare=False)

    def labels(self) -> dict[str, str | int]:
        """All but what is run."""
        names = ("scene", "backend", "stage", "size", "channels", "gaussians", "threads")
        return {name: getattr(self, name) for name in names}


def seconds_of(case: Case) -> float:
    """The wall-clock time of one run, on as many threads as the case says."""
    if torch.get_num_threads() != case.threads:
        torch.set_num_threads(case.threads)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    case.run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(cases: list[Case], repetitions: int, seconds: float) -> list[dict]:
    """Median, least and greatest milliseconds of every case, in the order given.

    Each case runs twice unrecorded: to compile and to fill caches, then to see how long it takes. It is repeated as
    often as fits into `seconds`, at least 3 and at most `repetitions` times, spread evenly over a few rounds in which
    the cases take turns. A turn of several repetitions begins with one unrecorded, so that it does not matter what
    the case before has left in the caches, the allocator and the pools of threads.
    """
    threads = torch.get_num_threads()
    counts = []
    for case in tqdm(cases, desc="warm-up", leave=False):
        seconds_of(case)
        counts.append(int(np.clip(seconds / seconds_of(case), min(3, repetitions), repetitions)))
    times: list[list[float]] = [[] for _ in cases]
    for turn in tqdm(range(ROUNDS), desc="rounds", leave=False):
        for case, count, taken in zip(cases, counts, times, strict=True):
            due = (turn + 1) * count // ROUNDS - len(taken)
            if due > 1:
                seconds_of(case)
            taken += [1e3 * seconds_of(case) for _ in range(due)]
    torch.set_num_threads(threads)
    return [
        {
            **case.labels(),
            "median_ms": round(float(np.median(taken)), 3),
            "min_ms": round(min(taken), 3),
            "max_ms": round(max(taken), 3),
            "repetitions": len(taken),
        }
        for case, taken in zip(cases, times, strict=True)
    ]
