"""Frames per second and memory of the training loader: a folder of files against shards, one worker and two.

Makes a collection of coloured noise in a temporary folder, writes it as shards, and draws two passes of Phase-1 batches
from each in a process of its own. The second pass of a folder finds its numbers (cameras, codes) in memory. Frames are
those delivered: the K sources and the target of each sample. Files have been written just before, so they come from
the page cache: this is the cost of opening, decoding, drawing and passing on, not of a disk. The CPU time of a frame,
all processes together, is the figure that other work on the machine changes least.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sa0lib.datasets import Collection, FolderBatches, loader
from sa0lib.datasets.samplers import phase_1
from sa0lib.datasets.shards import ShardBatches, write_shards
from sa0lib.ledger import record_run
from sa0lib.paths import ROOT, RUNS
from tests.toy_collection import write_collection

PASSES = 2
PROC = Path("/proc")  # Linux: memory and CPU time of each process; elsewhere they are not recorded


@dataclass(frozen=True)
class Plan:
    """What is made and how it is read."""

    sequences: int = 2500
    frames: int = 8  # of a sequence
    size: int = 64  # pixels, both ways
    sequences_per_shard: int = 100
    batch_size: int = 48  # the paper's in Phase 1
    workers: tuple[int, ...] = (1, 2)


QUICK = Plan(sequences=24, sequences_per_shard=8, batch_size=4)


def usage(pid: int) -> tuple[float, float]:
    """(the most memory that a process has held in MiB, shared libraries included; its CPU seconds so far)."""
    peak = (PROC / str(pid) / "status").read_text().split("VmHWM:")[1].split()[0]
    user, system = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return int(peak) / 1024, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def case(source: str, root: Path, batch_size: int, workers: int) -> dict:
    """Two passes over the batches of `root`: start-up, frames per second and CPU time of each pass, peak memory."""
    kind = {"folder": lambda config: FolderBatches(Collection(root, "train"), config, batch_size)}
    kind["shards"] = lambda config: ShardBatches(root, config, batch_size)
    steps = len(Collection(root, "train")) // batch_size
    start = time.perf_counter()
    delivered, marks = 0, []  # marks: after the first batch (start-up) and after each pass
    for step, batch in enumerate(loader(kind[source](phase_1(PASSES * steps)), workers)):
        delivered += batch.sources.image.shape[0] * (batch.sources.image.shape[1] + 1)
        if step == 0 or step % steps == steps - 1:
            pids = [os.getpid(), *(process.pid for process in multiprocessing.active_children())]
            used = [usage(pid) for pid in pids] if PROC.exists() else None
            marks.append((time.perf_counter() - start, delivered, used))
    (startup, _, _), (_, _, last) = marks[0], marks[-1]
    speeds, cpu = [], []
    for (t0, n0, used0), (t1, n1, used1) in zip(marks, marks[1:], strict=False):
        speeds.append(round((n1 - n0) / (t1 - t0), 1))
        if used0:
            cpu.append(round(1e3 * (sum(c for _, c in used1) - sum(c for _, c in used0)) / (n1 - n0), 3))
    return {
        "source": source,
        "workers": workers,
        "startup_seconds": round(startup, 2),
        "frames_per_second": speeds,
        "cpu_ms_per_frame": cpu or None,
        "delivered_frames": delivered,
        "peak_main_mib": last and round(last[0][0], 1),
        "peak_worker_mib": round(max(peak for peak, _ in last[1:]), 1) if last and workers else None,
    }


def in_its_own_process(source: str, root: Path, batch_size: int, workers: int) -> dict:
    """`case` in a fresh process. Raises RuntimeError with its last words if it fails."""
    command = [sys.executable, "-m", "tests.benchmarks.loader", "--case", source, str(root), str(batch_size)]
    answer = subprocess.run([*command, str(workers)], cwd=ROOT, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {answer.stderr.strip().splitlines()[-1]}")
    return json.loads(answer.stdout)


def benchmark(plan: Plan) -> dict:
    """Make the data and measure all cases; the record that `report` prints and the ledger keeps."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="loader-") as folder:
        roots, made = {"folder": Path(folder, "world"), "shards": Path(folder, "shards")}, {}
        start = time.perf_counter()
        write_collection(roots["folder"], plan.sequences, plan.frames, size=plan.size)
        made["folder"] = time.perf_counter() - start
        write_shards(Collection(roots["folder"], "train"), roots["shards"], plan.sequences_per_shard)
        made["shards"] = time.perf_counter() - start - made["folder"]
        on_disk = {}
        for source, root in roots.items():
            sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
            on_disk[source] = {"files": len(sizes), "mib": round(sum(sizes) / 2**20, 1)}
            on_disk[source]["written_in_seconds"] = round(made[source], 1)
        cases = [
            in_its_own_process(source, root, plan.batch_size, workers)
            for workers in plan.workers
            for source, root in roots.items()
        ]
    plan = asdict(plan) | {"passes": PASSES}
    return {"plan": plan, "load_before": round(load, 2), "on_disk": on_disk, "cases": cases}


def report(record: dict) -> str:
    """The record as a table."""
    lines = [f"{'':16}{'start':>8}{'frames/s in pass':>20}{'CPU ms/frame':>20}{'peak MiB':>18}"]
    lines += [f"{'source':8}{'workers':>8}{'s':>8}{'1':>10}{'2':>10}{'1':>10}{'2':>10}{'main':>9}{'worker':>9}"]
    for row in record["cases"]:
        columns = [*row["frames_per_second"], *(row["cpu_ms_per_frame"] or ("-", "-"))]
        memory = f"{row['peak_main_mib'] or '-':>9}{row['peak_worker_mib'] or '-':>9}"
        start = f"{row['source']:8}{row['workers']:8}{row['startup_seconds']:8.2f}"
        lines.append(start + "".join(f"{value:>10}" for value in columns) + memory)
    for source, disk in record["on_disk"].items():
        lines.append(f"{source}: {disk['files']} files, {disk['mib']} MiB, written in {disk['written_in_seconds']} s")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few hundred frames: seconds, not a measurement")
    parser.add_argument("--record", metavar="NAME", help="write the result to book/results/runs/NAME.json")
    parser.add_argument("--case", nargs=4, metavar=("SOURCE", "ROOT", "BATCH", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case:
        source, root, *numbers = options.case
        print(json.dumps(case(source, Path(root), *map(int, numbers))))
        return
    start = time.perf_counter()
    try:
        record = benchmark(QUICK if options.quick else Plan())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"loader benchmark: {error}")
    print(report(record))
    if options.record:
        print("record:", record_run(options.record, record, 0, time.perf_counter() - start, RUNS))


if __name__ == "__main__":
    main()
