"""A collection on disk: hundreds or tens of thousands of sequences, opened one at a time when they are wanted."""

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from pathlib import Path

from sa0lib.datasets.clip import Clip, read_clip
from sa0lib.datasets.layout import SPLITS
from sa0lib.datasets.manifest import SequenceEntry, read_manifest

CACHED_FRAMES = 50_000  # numbers of frames kept in memory, in each process: about 100 MB


class Collection:
    """One split of a collection; `collection[i]` is the Clip of its i-th sequence.

    Opening reads manifest.json and nothing else. A clip's numbers are kept once read, up to `CACHED_FRAMES` frames, and
    its pictures never. Safe in DataLoader workers: it holds no open file, and what it has cached stays behind.

    Args:
        root: the folder with manifest.json.
        split: "train", "val" or "test"; sequences without frames in it are left out.

    Raises FileNotFoundError, ValueError: what `read_manifest` raises, an unknown split, or nothing in it.
    """

    def __init__(self, root: Path | str, split: str):
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
        self.root, self.split, self.manifest = Path(root), split, read_manifest(root)
        self.entries = [entry for entry in self.manifest.sequences if split in entry.splits]
        if not self.entries:
            raise ValueError(f"{self.manifest.path}: no sequence has frames for the split {split!r}")
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._cached = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Clip:
        entry = self.entries[i]
        if entry.name in self._clips:
            self._clips.move_to_end(entry.name)
            return self._clips[entry.name]
        clip = self._clips[entry.name] = read_clip(self.root, entry, self.split)
        self._cached += len(clip)
        while self._cached > CACHED_FRAMES and len(self._clips) > 1:
            self._cached -= len(self._clips.popitem(last=False)[1])
        return clip

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_clips": OrderedDict(), "_cached": 0}

    @property
    def basis(self) -> str:
        """The head model that all codes belong to, for `Head.require_basis`."""
        return self.manifest.basis

    def where(self, keep: Callable[[SequenceEntry], bool]) -> "Collection":
        """The sequences that `keep` wants. Raises ValueError if there are none."""
        entries = [entry for entry in self.entries if keep(entry)]
        if not entries:
            raise ValueError(f"{self.manifest.path}: no sequence of the split {self.split!r} is left")
        part = copy(self)
        part.entries = entries
        return part
