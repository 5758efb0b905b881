"""Every timing of the rasterizer and of the refinement, in one run and one set of tables.

All cases take turns, so that they meet the same machine. The scene is the refined avatar of the quickstart
(`python -m sa0lib.refine` makes it), posed to one frame of its clip. gsplat is timed where there is a CUDA device.
"""

import argparse
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numba
import torch

from sa0lib.ledger import record_run
from sa0lib.paths import DATA, RUNS
from sa0lib.rasterize import rasterization
from tests.benchmarks.cases import QUICK, STAGES, Plan, all_cases, cuda_cases
from tests.benchmarks.fresh_process import measured
from tests.benchmarks.limit import (
    BACKWARD,
    BACKWARD_EACH_CHANNEL,
    FORWARD,
    FORWARD_EACH_CHANNEL,
    operations,
    peak_flops,
    useful_evaluations,
)
from tests.benchmarks.report import find, report
from tests.benchmarks.scene import Scene, Subject, posed
from tests.benchmarks.timing import measure


def benchmark(plan: Plan, data: Path, avatar: Path, threads: int) -> dict:
    """Measure everything in `plan`; the record that `report` prints and the ledger keeps."""
    load = os.getloadavg()[0]
    subject = Subject.load(data, avatar)
    files = ("--data", data.resolve(), "--avatar", avatar.resolve())
    memory = measured("memory", *files, "--size", plan.sizes[-1], "--iterations", plan.memory_iterations)
    first_call = measured("first_call") if plan.compile else None
    scene = posed(subject, subject.frames(plan.sizes[-1], plan.frames))
    cases = all_cases(plan, subject, scene, threads)
    if torch.cuda.is_available():
        cases += cuda_cases(plan, Subject.load(data, avatar, "cuda"), scene, threads)
    timings = measure(cases, plan.repetitions, plan.seconds)
    record = {
        "plan": asdict(plan),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": round(load, 2),
        "scene": seen(scene),
        "timings": timings,
        "memory": memory,
        "first_call": first_call,
    }
    record["limit"] = limits(record, scene)
    record["summary"] = summary(record)
    return record


@torch.no_grad()
def picture(scene: Scene) -> tuple[torch.Tensor, dict]:
    """Alpha and meta of a picture by the cpu backend."""
    camera = scene.camera
    views = camera.viewmat[None], camera.K[None], camera.width, camera.height
    _, alpha, meta = rasterization(*scene.gaussians, *views, backend="cpu")
    return alpha, meta


def seen(scene: Scene) -> dict:
    """How many Gaussians there are and are drawn, and the share of pixels that are more covered than not."""
    alpha, meta = picture(scene)
    drawn = int((meta["radii"][0] > 0).all(-1).sum())
    return {"gaussians": len(scene), "drawn": drawn, "covered": round(float((alpha > 0.5).float().mean()), 4)}


def limits(record: dict, scene: Scene) -> dict:
    """The useful arithmetic of the main cases, and how many times longer than it they take."""
    plan, threads = record["plan"], record["threads"]
    peaks = {str(count): peak_flops(count) for count in sorted({1, threads})}
    rows = []
    for size in plan["sizes"]:
        _, meta = picture(scene.resized(size))
        evaluations = useful_evaluations(meta, scene.gaussians[3], size, size)
        for channels in plan["channels"]:
            for stage in STAGES:
                labels = {"stage": stage, "size": size, "channels": channels}
                median = find(record, backend="cpu", threads=threads, **labels)["median_ms"]
                limit = 1e3 * evaluations * operations(stage, channels) / peaks[str(threads)]
                rows.append(
                    labels
                    | {
                        "useful_evaluations": evaluations,
                        "operations": operations(stage, channels),
                        "limit_ms": round(limit, 4),
                        "median_ms": median,
                        "times_limit": round(median / limit, 2),
                    }
                )
    formulas = {
        "forward": FORWARD,
        "forward_each_channel": FORWARD_EACH_CHANNEL,
        "backward": BACKWARD,
        "backward_each_channel": BACKWARD_EACH_CHANNEL,
    }
    return {
        "peak_gflops": {count: round(peak / 1e9, 1) for count, peak in peaks.items()},
        "operations": formulas,
        "rows": rows,
    }


def summary(record: dict) -> dict:
    """Ratios and totals that follow from the medians."""
    plan, threads = record["plan"], record["threads"]

    def median(backend: str, stage: str, size: int, channels: int = 3) -> float | None:
        row = find(record, backend=backend, stage=stage, size=size, channels=channels, threads=threads)
        return row and row["median_ms"]

    fb = "forward+backward"
    faster = {str(size): round(median("torch_tiles", fb, size) / median("cpu", fb, size), 1) for size in plan["sizes"]}
    refinement = [
        {"backend": backend, "size": size, "minutes": round(10_000 * step / 60e3, 2)}
        for size in plan["sizes"]
        for backend in ("cpu", "cuda")
        if (step := median(backend, "iteration", size)) is not None
    ]
    cuda = [
        {
            "size": size,
            "channels": channels,
            "frames_per_second": round(1e3 / ours, 1),
            "overhead_forward": round(ours / median("gsplat", "forward", size, channels) - 1, 4),
            "overhead_forward_backward": round(
                median("cuda", fb, size, channels) / median("gsplat", fb, size, channels) - 1, 4
            ),
        }
        for size in plan["sizes"]
        for channels in plan["channels"]
        if (ours := median("cuda", "forward", size, channels)) is not None
    ]
    return {"times_faster_than_torch_tiles": faster, "refinement": refinement, "cuda": cuda}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "clip", help="the tracked subject")
    parser.add_argument(
        "--avatar", type=Path, default=DATA / "refined" / "clip" / "avatar.ply", help="what sa0lib.refine made of it"
    )
    cores = numba.config.NUMBA_NUM_THREADS
    parser.add_argument("--threads", type=int, default=min(2, cores), help="the most threads; one is always timed too")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two repetitions: seconds, not a measurement")
    parser.add_argument("--record", metavar="NAME", help="write the timings to book/results/runs/NAME.json")
    options = parser.parse_args(arguments)
    if not options.avatar.is_file():
        parser.error(f"{options.avatar} is missing: python -m sa0lib.refine makes it")
    if not 1 <= options.threads <= cores:
        parser.error(f"--threads must be 1 to {cores} here, not {options.threads}")
    start = time.perf_counter()
    try:
        record = benchmark(QUICK if options.quick else Plan(), options.data, options.avatar, options.threads)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"benchmarks: {error}")
    print(report(record))
    if options.record:
        print("record:", record_run(options.record, record, 0, time.perf_counter() - start, RUNS))


if __name__ == "__main__":
    main()
