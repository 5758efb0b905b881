"""The record of a run as tables to read."""

BACKENDS = {
    "cpu": "cpu (ours)",
    "torch_tiles": "PyTorch tiles",
    "reference": "reference",
    "cuda": "cuda (ours)",
    "gsplat": "gsplat directly",
}
STAGES = ("forward", "forward+backward")


def find(record: dict, **labels) -> dict | None:
    """The timing with these labels; None where it was not measured."""
    labels = {"scene": "avatar"} | labels
    rows = [row for row in record["timings"] if all(row[name] == value for name, value in labels.items())]
    return rows[0] if rows else None


def cell(row: dict | None) -> str:
    """Median (least-greatest); a tilde before the median of fewer than ten."""
    if row is None:
        return ""
    values = [row[name] for name in ("median_ms", "min_ms", "max_ms")]
    median, least, greatest = (f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in values)
    return f"{'~' if row['repetitions'] < 10 else ''}{median} ({least}-{greatest})"


def table(title: str, heads: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as they need; the first on the left, numbers on the right."""
    widths = [max(len(line[i]) for line in [heads, *rows]) for i in range(len(heads))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in [heads, *rows]
    ]
    return "\n".join(["", title, "-" * max(len(title), *map(len, lines)), *lines])


def backends_table(record: dict) -> str:
    """Every backend, size and channel count, at the most threads."""
    columns = [(size, channels) for size in record["plan"]["sizes"] for channels in record["plan"]["channels"]]
    rows = []
    for stage in STAGES:
        for backend, name in BACKENDS.items():
            labels = {"stage": stage, "backend": backend, "threads": record["threads"]}
            found = [find(record, **labels, size=size, channels=channels) for size, channels in columns]
            if any(found):
                rows.append([f"{stage}, {name}", *map(cell, found)])
    for backend in ("cpu", "cuda"):
        labels = {"stage": "iteration", "backend": backend, "threads": record["threads"]}
        found = [find(record, **labels, size=size, channels=channels) for size, channels in columns]
        if any(found):
            rows.append([f"refinement iteration, {BACKENDS[backend]}", *map(cell, found)])
    title = f"Backends, {record['threads']} threads, ms: median (least-greatest), ~ of fewer than ten runs"
    return table(title, ["", *(f"{size} px, {channels} channels" for size, channels in columns)], rows)


def threads_table(record: dict) -> str:
    """Ours on one thread and on all."""
    counts = sorted({1, record["threads"]})
    rows = []
    for size in record["plan"]["sizes"]:
        for stage in (*STAGES, "iteration"):
            for channels in record["plan"]["channels"]:
                labels = {"backend": "cpu", "stage": stage, "size": size, "channels": channels}
                found = [find(record, **labels, threads=count) for count in counts]
                if all(found):
                    gain = found[0]["median_ms"] / found[-1]["median_ms"]
                    rows.append([f"{size} px, {channels} channels, {stage}", *map(cell, found), f"{gain:.2f} x"])
    return table("Threads, cpu (ours), ms", ["", *(f"on {count}" for count in counts), "gain"], rows)


def scaling_table(record: dict, title: str, head: str, rows: list[tuple[str, dict]]) -> str:
    """Both stages of ours along one axis: rows of what stands first in the line, and the labels that pick the case."""
    labels = {"backend": "cpu", "channels": 3, "threads": record["threads"]}
    lines = [[name, *(cell(find(record, stage=stage, **labels, **more)) for stage in STAGES)] for name, more in rows]
    return table(title, [head, *STAGES], lines)


def limit_table(record: dict) -> str:
    """Ours beside the time that its useful arithmetic takes at the measured peak."""
    peak = record["limit"]["peak_gflops"][str(record["threads"])]
    rows = [
        [
            f"{row['size']} px, {row['channels']} channels, {row['stage']}",
            f"{row['useful_evaluations'] / 1e6:.2f} M",
            str(row["operations"]),
            f"{row['limit_ms']:.2f}",
            f"{row['median_ms']:.2f}",
            f"{row['times_limit']:.1f} x",
        ]
        for row in record["limit"]["rows"]
    ]
    title = f"Distance to the arithmetic limit, {record['threads']} threads, measured peak {peak:.0f} GFLOP/s, float32"
    return table(title, ["", "useful evaluations", "FLOP each", "limit ms", "cpu (ours) ms", "distance"], rows)


def summary_lines(record: dict) -> list[str]:
    """What follows from the tables, in sentences."""
    summary, lines = record["summary"], []
    for size, speedup in summary["times_faster_than_torch_tiles"].items():
        lines.append(f"{size} px: forward + backward {speedup:.0f} times as fast as PyTorch tiles")
    for row in summary["refinement"]:
        lines.append(f"{row['size']} px: 10,000 iterations take {row['minutes']:.1f} minutes on {row['backend']}")
    memory = record["memory"]
    lines.append(
        f"peak memory of refining at {memory['size']} px on {memory['frames']} frames: {memory['peak_gib']:.2f} GiB"
        f" ({memory['loaded_gib']:.2f} GiB once the frames are loaded)"
    )
    if record["first_call"]:
        lines.append(
            f"first call on a new machine, kernels compiled: {record['first_call']['first_seconds']:.0f} s, once"
        )
    for row in summary["cuda"]:
        lines.append(
            f"{row['size']} px, {row['channels']} channels on {record['gpu']}: {row['frames_per_second']:.0f} frames/s;"
            f" beside gsplat called directly {row['overhead_forward']:+.1%} forward, "
            f"{row['overhead_forward_backward']:+.1%} forward + backward"
        )
    return lines


def report(record: dict) -> str:
    """All tables and what follows from them."""
    plan, last = record["plan"], record["plan"]["sizes"][-1]
    scene = record["scene"]
    return "\n".join(
        [
            f"The refined avatar: {scene['gaussians']:,} Gaussians, {scene['drawn']:,} of them drawn, "
            f"on {scene['covered']:.0%} of the pixels.",
            f"Programs running before it began (load average): {record['load_before']:.1f}. Time on a quiet machine.",
            backends_table(record),
            threads_table(record),
            scaling_table(
                record,
                f"Gaussians, cpu (ours), {last} px, 3 channels, {record['threads']} threads, ms",
                "Gaussians",
                [(f"{count:,}", {"scene": "resampled", "size": last, "gaussians": count}) for count in plan["counts"]],
            ),
            scaling_table(
                record,
                f"Pixels, cpu (ours), {scene['gaussians']:,} Gaussians, 3 channels, {record['threads']} threads, ms",
                "pixels",
                [(f"{size} x {size}", {"size": size}) for size in plan["pixels"]],
            ),
            limit_table(record),
            "",
            *summary_lines(record),
        ]
    )
