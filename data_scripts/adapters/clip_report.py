"""What a dry run says about clips: how many are here, where their codes come from, and what would be written."""

from data_scripts.adapters.clips import LOG, ClipOptions, ListedClip, dataset_of, hint
from data_scripts.adapters.report import Report, counted
from sa0lib.datasets.layout import SPLITS


def inspect_clips(clips: list[ListedClip], report: Report, codes: ClipOptions) -> Report:
    """Add to `report` what the steps after the list need and would write."""
    report.marker, ready = LOG, clips
    videos = counted(len({clip.source for clip in clips}), "video")
    report.found.append(f"here: {counted(len(clips), 'clip')} from {videos}")
    if not clips:
        report.missing.append("videos: none of the clips' is here; this project downloads none")
    if codes.tracked:
        ready = [clip for clip in clips if dataset_of(clip, codes.tracked)]
        report.found.append(f"{codes.tracked}: codes for {len(ready)} of {counted(len(clips), 'clip')}")
    if not codes.can_track and not codes.tracked:
        report.missing.append(f"the tracker (without it, clips are cut and wait): {hint(codes)}")
    if ready:
        splits = {split: sum(clip.split == split for clip in ready) for split in SPLITS}
        told = ", ".join(f"{count} {split}" for split, count in splits.items() if count)
        frames = f"up to {counted(codes.frames, 'frame')} each" if codes.frames else "all frames"
        report.will_write.append(f"{counted(len(ready), 'dataset')} ({told}), {frames}")
    if len(ready) < len(clips):
        report.will_write.append(f"{counted(len(clips) - len(ready), 'video')}, cut and waiting for codes")
    return report


def listed(names: list[str], limit: int = 8) -> str:
    """The first few of many names."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def not_here(gone: list[str], count: int) -> str:
    """A report's line about clips that a list of `count` names and nobody has: they stop nothing."""
    return f"not here: {len(gone)} of {counted(count, 'clip')}, {listed(gone)}; the conversion leaves them out"
