"""Latency of the feed-forward generator at the paper's size: a person from K sources, and a frame of that person.

    python -m tests.benchmarks.generator [--record NAME]

Weights are random, which costs the same. `encode` is backbone, DPT head, warp, pool and StyleUNet; `decode` is the
heads, binding left out. Both precisions take turns, so that whatever else the machine does hits both; so does a large
matrix product, whose operations in a second are as many as this machine can do.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch

from sa0lib.camera import Camera, intrinsics, orbit
from sa0lib.datasets.clip import Views
from sa0lib.head import WIDTHS, load_head
from sa0lib.ledger import record_run
from sa0lib.nets import Generator, GeneratorConfig

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIDE = 4096  # of the matrices whose product is the yardstick


def portraits(count: int, size: int, device: str) -> Views:
    """Noise seen by cameras around a neutral head: one sample [1, count, ...]."""
    cameras = [
        Camera(intrinsics(3.6 * size, size, size), orbit(0.3 * i, 0.0, 1.2, torch.zeros(3)), size, size)
        for i in range(count)
    ]
    views = Views(
        image=torch.rand(count, 3, size, size),
        mask=torch.ones(count, 1, size, size),
        K=torch.stack([camera.K for camera in cameras]),
        viewmat=torch.stack([camera.viewmat for camera in cameras]),
        params={name: torch.zeros(count, width) for name, width in WIDTHS.items()},
        face_box=torch.zeros(count, 4),
        timestep=torch.arange(count),
        camera_index=torch.zeros(count, dtype=torch.long),
    )
    return views.map(lambda t: t[None].to(device))


def milliseconds(run: Callable[[], object], precision: torch.dtype, device: str) -> float:
    """Wall-clock time of one call."""
    autocast = nullcontext() if precision == torch.float32 else torch.autocast(device, precision)
    start = time.perf_counter()
    with autocast, torch.inference_mode():
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def benchmark(config: GeneratorConfig, size: int, repetitions: int) -> dict:
    """Medians of every case; cases take turns, after one unrecorded call each."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    generator = Generator(load_head().to(device), config).to(device).eval()
    target = portraits(1, size, device).map(lambda t: t[:, 0])
    runs = {}
    for count in (1, 4):
        sources = portraits(count, size, device)
        with torch.inference_mode():
            person = generator.encode(sources)
        for precision in PRECISIONS:
            runs[precision, count] = (
                lambda sources=sources: generator.encode(sources),
                lambda person=person: generator.decode(person, target.params, target.viewmat),
            )
    for name, precision in PRECISIONS.items():
        a, b = torch.rand(2, SIDE, SIDE, device=device, dtype=precision)
        runs[name, "product"] = (lambda a=a, b=b: a @ b,)
    taken = {case: [[] for _ in stages] for case, stages in runs.items()}
    for turn in range(repetitions + 1):
        for case, stages in runs.items():
            for times, stage in zip(taken[case], stages, strict=True):
                spent = milliseconds(stage, PRECISIONS[case[0]], device)
                if turn:
                    times.append(spent)
    products = {name: float(np.median(taken.pop((name, "product"))[0])) for name in PRECISIONS}
    cases = [
        {
            "device": device,
            "precision": precision,
            "sources": count,
            "encode_ms": round(float(np.median(encode)), 1),
            "decode_ms": round(float(np.median(decode)), 1),
        }
        for (precision, count), (encode, decode) in taken.items()
    ]
    return {
        "config": vars(config),
        "pixels": size,
        "repetitions": repetitions,
        "cases": cases,
        "product_gops": {name: round(2e-6 * SIDE**3 / ms, 1) for name, ms in products.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--record", metavar="NAME", help="write the result to book/results/runs/NAME.json")
    options = parser.parse_args()
    start = time.perf_counter()
    record = benchmark(GeneratorConfig(), 512, options.repetitions)
    for case in record["cases"]:
        print(case)
    if options.record:
        print("record:", record_run(options.record, record, 0, time.perf_counter() - start))


if __name__ == "__main__":
    main()
