"""Make whole worlds in parallel, resume them, and prove that a second run gives the same bytes."""

import json
import platform
import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from data_scripts.worlds.generate import VERSION, assemble, fingerprint, make_shots
from data_scripts.worlds.photo.variant import best_variant, llvm_works
from data_scripts.worlds.worlds import World, n_clips
from sa0lib.datasets.manifest import index_sequence, read_manifest, sequence_sha256, write_manifest
from sa0lib.profile import WorldSize, current_profile

IN_FLIGHT = 48  # jobs handed to the processes: enough for many cores, few enough that clips are soon put together
CHUNK = 100  # shots that a process makes in one go; long clips are shared among processes
MAKERS = ("mitsuba", "pyoidn", "numpy", "scipy", "torch")  # packages whose versions a picture may depend on


@contextmanager
def workers(processes: int) -> Iterator[Executor]:
    """Processes that make pictures. An interruption does not wait for the hundreds of clips in the queue."""
    # Spawned, not forked: the kernels' threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(size: WorldSize) -> list[list[tuple[int, int]]]:
    shots = [(t, c) for t in range(size.frames) for c in range(size.cameras)]
    return [shots[i : i + CHUNK] for i in range(0, len(shots), CHUNK)]


def _make(world: str, size: WorldSize, index: int, shots: list, parts: Path, variant: str) -> float:
    start = time.process_time()
    make_shots(world, size, index, shots, parts, variant)
    return time.process_time() - start


def _finish(world: str, size: WorldSize, index: int, parts: Path, out: Path, mark: Path, stamp: str) -> float:
    start = time.process_time()
    assemble(world, size, index, parts, out)
    mark.write_text(stamp)
    return time.process_time() - start


def make_clips(
    world: World, size: WorldSize, indices: list[int], root: Path, variant: str, pool: Executor, note: str
) -> Iterator[float]:
    """Make these clips of a world in `root`, those that are not there, as this generator is run through.

    Yields the processor seconds of each job.

    Loose shots wait in `root/.parts/<fingerprint>`, so those of other code are never mixed in.
    """
    stamp = fingerprint(size, variant)
    parts, made = root / ".parts" / stamp, root / ".made"
    made.mkdir(parents=True, exist_ok=True)
    todo = []
    for index in indices:
        mark = made / f"{index:06d}"
        if not (mark.is_file() and mark.read_text() == stamp and (root / mark.name).is_dir()):
            todo.append(index)
    chunks = _chunks(size)
    left = {index: len(chunks) for index in todo}
    bar = tqdm(total=len(indices) * size.frames * size.cameras, unit="picture", desc=note, smoothing=0.05)
    bar.update((len(indices) - len(todo)) * size.frames * size.cameras)
    waiting = deque((index, chunk) for index in todo for chunk in chunks)
    jobs: dict[Future, tuple[int, int]] = {}  # job -> clip, pictures
    while waiting or jobs:
        while waiting and len(jobs) < IN_FLIGHT:
            index, chunk = waiting.popleft()
            job = pool.submit(_make, world.name, size, index, chunk, parts / f"{index:06d}", variant)
            jobs[job] = (index, len(chunk))
        for job in wait(jobs, return_when=FIRST_COMPLETED).done:
            index, pictures = jobs.pop(job)
            spent = job.result()
            bar.update(pictures)
            left[index] -= pictures > 0
            if pictures and not left[index]:
                place = (parts / f"{index:06d}", root / f"{index:06d}", made / f"{index:06d}", stamp)
                jobs[pool.submit(_finish, world.name, size, index, *place)] = (index, 0)
            yield spent
    bar.close()
    shutil.rmtree(root / ".parts", ignore_errors=True)


def make_world(world: World, size: WorldSize, root: Path, pool: Executor) -> None:
    """Make a world and write its manifest."""
    start = time.perf_counter()
    count = n_clips(world, size)
    variant = best_variant(size.frames * size.cameras * size.pixels**2 * size.samples)
    effort = root / ".made" / "seconds.json"
    effort.parent.mkdir(parents=True, exist_ok=True)
    try:
        seconds = json.loads(effort.read_text())
    except (FileNotFoundError, ValueError):  # the first run, or one that was stopped while it wrote this
        seconds = {"processor": 0.0, "wall": 0.0}
    for spent in chain([0.0], make_clips(world, size, list(range(count)), root, variant, pool, world.name)):
        seconds["processor"] += spent
        now = time.perf_counter()
        seconds["wall"] += now - start
        start = now
        effort.write_text(json.dumps(seconds))  # after every job: a run that is stopped has cost something, too
    entries = [
        index_sequence(root, f"{i:06d}", f"{world.name}-{i:06d}", {"seed": world.seed + i}) for i in range(count)
    ]
    facts = {
        "name": world.name,
        "plays": world.plays,
        "profile": current_profile().name,
        "family": world.family,
        "seed": world.seed,
        "pixels": size.pixels,
        "samples": size.samples,
        "generator": VERSION,
        "variant": variant,
        "versions": {name: version(name) for name in MAKERS} | {"python": platform.python_version()},
        "seconds": {name: round(value) for name, value in seconds.items()},
        "licence": "CC0-1.0",
    }
    write_manifest(root, facts, entries)


def check_world(world: World, size: WorldSize, root: Path, share: float, pool: Executor) -> list[str]:
    """Make every n-th clip again beside the world; names of those that differ from the manifest or on disk.

    Raises FileNotFoundError, ValueError: no manifest, or one of a variant that does not work here.
    """
    manifest = read_manifest(root)
    variant = manifest.world.get("variant")
    if variant != "scalar_rgb" and not (variant == "llvm_ad_rgb" and llvm_works()):
        raise ValueError(f"{manifest.path}: world.variant {variant!r} does not work here, so nothing can be compared")
    expected = {entry.name: entry.sha256 for entry in manifest.sequences}
    indices = list(range(0, n_clips(world, size), max(round(1 / share), 1)))
    again = root.with_name(f".{root.name}.again")
    shutil.rmtree(again, ignore_errors=True)
    try:
        for _ in make_clips(world, size, indices, again, variant, pool, f"{world.name} again"):
            pass
        names = [f"{i:06d}" for i in indices]
        return [n for n in names if {sequence_sha256(r / n) for r in (again, root)} != {expected.get(n)}]
    finally:
        shutil.rmtree(again, ignore_errors=True)
