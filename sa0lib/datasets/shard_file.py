"""One shard: the clips of some sequences in a tar file, as WebDataset groups them.

For each sequence, in order:

    NAME.clip.npz             the numbers of its clip (`TABLES`) and codes_basis
    NAME.image.00000.png ...  the pictures' and mattes' files, byte for byte
    NAME.mask.00000.png ...

Any reader of WebDataset understands this; the one here also refuses what it does not expect, and unpickles nothing.
"""

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from webdataset import TarWriter
from webdataset.tariterators import group_by_keys

from sa0lib.camera import invert_rigid
from sa0lib.datasets.clip import Clip
from sa0lib.datasets.manifest import MANIFEST, NAME, SequenceEntry
from sa0lib.head import WIDTHS

MEMBER = re.compile(rf"({NAME.pattern})\.(clip\.npz|(image|mask)\.\d{{5}}\.[a-z0-9]+)")
TABLES = {  # array -> kind of number and shape of one frame
    "K": ("f", (3, 3)),
    "viewmat": ("f", (4, 4)),
    "size": ("i", (2,)),
    "face_box": ("f", (4,)),
    "timestep": ("i", ()),
    "camera_index": ("i", ()),
    **{name: ("f", (width,)) for name, width in WIDTHS.items()},
}
CUT = "truncated; copy or write it again"


def write_shard(path: Path, clips: Iterable[Clip]) -> list[str]:
    """Write a tar file of clips that were read from folders; returns their names. Same clips, same bytes."""
    names = []
    with open(path, "wb") as stream, TarWriter(stream, encoder=False, mtime=0, format="PAX_FORMAT") as tar:
        for clip in clips:
            tar.write({"__key__": clip.name, **_members_of(clip)})
            names.append(clip.name)
    return names


def _members_of(clip: Clip) -> dict[str, bytes]:
    tables = {name: getattr(clip, name) if name in vars(clip) else clip.params[name] for name in TABLES}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.numpy() for name, value in tables.items()}, codes_basis=np.array(clip.basis))
    members = {"clip.npz": buffer.getvalue()}
    for kind, paths in (("image", clip.images), ("mask", clip.masks)):
        members |= {f"{kind}.{i:05d}{path.suffix.lower()}": path.read_bytes() for i, path in enumerate(paths)}
    return members


def read_shard(path: Path, entries: list[SequenceEntry], split: str) -> Iterator[Clip]:
    """The clips of one tar file, which must be those of `entries`, in order.

    Raises ValueError naming shard and member: the file is truncated, has members that it should not have, or other
        sequences or counts than `entries`.
    """
    found = 0
    for sample in group_by_keys(_members(path)):
        key = sample.pop("__key__")
        if found == len(entries) or key != entries[found].name:
            listed = entries[found].name if found < len(entries) else "no more"
            raise ValueError(f"{path}: {key!r} where the index lists {listed!r}: a file of other shards?")
        yield _read_clip(f"{path}: {key}", sample, entries[found], split)
        found += 1
    if found < len(entries):
        missing = entries[found].name
        raise ValueError(f"{path}: ends after {found} of {len(entries)} sequences, before {missing!r}: {CUT}")


def _members(path: Path) -> Iterator[dict]:
    """Member by member, as webdataset's `group_by_keys` wants them, refusing all that is no plain expected file."""
    size, seen, last = path.stat().st_size, set(), "its beginning"
    try:
        with tarfile.open(path, "r|") as tar:
            for info in tar:
                name = info.name
                if not info.isreg() or not MEMBER.fullmatch(name):
                    raise ValueError(f"{path}: refused member {name!r} of type {info.type.decode('latin1')!r}")
                if not 0 <= info.size <= size:
                    raise ValueError(f"{path}: {name} says it has {info.size} bytes, the shard has {size}: {CUT}")
                if name in seen:
                    raise ValueError(f"{path}: {name} is there twice: write the shards again")
                seen.add(name)
                last = name
                yield {"fname": name, "data": tar.extractfile(info).read(), "__url__": str(path)}
                tar.members = []  # tarfile would keep every header
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{path}: damaged at or after {last} ({error}): {CUT}") from error


def _read_clip(where: str, sample: dict, entry: SequenceEntry, split: str) -> Clip:
    frames, tables = entry.splits[split].frames, _read_tables(where, sample)
    if str(tables.pop("codes_basis")) != entry.basis:
        raise ValueError(f"{where}.clip.npz: codes_basis is not {entry.basis!r}, which {MANIFEST} says")
    for name, (kind, shape) in TABLES.items():
        value = tables.get(name)
        if value is None or value.dtype.kind != kind or value.shape != (frames, *shape):
            found = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
            raise ValueError(f"{where}.clip.npz: {name} must be {kind} {[frames, *shape]}, not {found}")
        if not np.isfinite(value).all():
            raise ValueError(f"{where}.clip.npz: {name} holds NaN or infinity")
    if min(tables["size"].min(), tables["K"][:, [0, 1], [0, 1]].min()) <= 0:
        raise ValueError(f"{where}.clip.npz: size and focal lengths in K must be positive")
    pictures = {}
    for kind in ("image", "mask"):
        keys = sorted(key for key in sample if key.startswith(kind))
        if [int(key.split(".")[1]) for key in keys] != list(range(frames)):
            raise ValueError(f"{where}: {len(keys)} of the {frames} {kind} members 00000 to {frames - 1:05d}: {CUT}")
        pictures[f"{kind}s"] = [sample[key] for key in keys]
    tensors = {name: torch.from_numpy(value) for name, value in tables.items() if name in TABLES}
    try:
        invert_rigid(tensors["viewmat"])
    except ValueError as error:
        raise ValueError(f"{where}.clip.npz: viewmat: {error}") from error
    params = {name: tensors.pop(name) for name in WIDTHS}
    return Clip(entry.name, entry.identity, entry.basis, params=params, **tensors, **pictures, origin=where)


def _read_tables(where: str, sample: dict) -> dict[str, np.ndarray]:
    if "clip.npz" not in sample:
        raise ValueError(f"{where}.clip.npz is missing: write the shards again")
    try:
        with np.load(io.BytesIO(sample["clip.npz"]), allow_pickle=False) as file:
            return {"codes_basis": np.array(""), **{key: file[key] for key in file.files}}
    except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged archive
        raise ValueError(f"{where}.clip.npz is damaged or no npz ({error}): write the shards again") from error
