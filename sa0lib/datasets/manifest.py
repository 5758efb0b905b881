"""The index of a collection: one `manifest.json` that lists its sequences, so that none has to be opened to count them.

A collection (a generated world, a converted dataset) is a folder of sequences in the layout of
`sa0lib/datasets/layout.py`, each in a folder of its own. When the sequences are on disk, whoever wrote them ends with

    entries = [index_sequence(root, name, identity, extra={"seed": 7}) for name, identity in ...]
    write_manifest(root, world={"name": "celeb", "seed": 0, "versions": {...}}, sequences=entries)

and readers begin with `read_manifest(root)`. The file, one sequence a line:

    {"format": 1, "world": {"name": "celeb", ...}, "basis": "OpenHead 0123456789ab", "sha256": "...", "sequences": [
     {"name": "000000", "identity": "000000", "sha256": "...",
      "splits": {"train": {"frames": 96, "cameras": [0, 1], "timesteps": 48}}, "extra": {}}, ...]}

`world` and `extra` are the writer's own. The hash of a sequence is that of its files' names and bytes; the manifest's
is that of all names, identities and hashes, so a rerun that gives the same data gives the same number.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa0lib.datasets.layout import SOURCES, SPLITS, inside, integer, unique
from sa0lib.datasets.sequence import Sequence

FORMAT = 1
MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")  # no dots: in a shard the first dot ends the name
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Span:
    """What one split of a sequence holds."""

    frames: int  # pictures
    cameras: tuple[int, ...]  # their camera_index, ascending
    timesteps: int  # instants


@dataclass(frozen=True)
class SequenceEntry:
    """One sequence, as the manifest knows it."""

    name: str  # its folder under the collection's root: letters, digits, _ + - and / between folders
    identity: str  # who is seen: sequences of one person share it
    basis: str  # the head model that its codes belong to
    sha256: str  # of its files
    splits: dict[str, Span]  # "train", "val", "test"; only those that hold frames
    extra: dict[str, Any] = field(default_factory=dict)  # whatever else its writer wants to keep


@dataclass(frozen=True)
class Manifest:
    """A manifest.json that has been read and checked."""

    path: Path
    world: dict[str, Any]  # has "name"; the rest is the writer's own
    basis: str  # shared by all sequences
    sha256: str  # of all names, identities and hashes
    sequences: list[SequenceEntry]


def sequence_sha256(folder: Path) -> str:
    """A hash of every file under `folder`: paths and bytes, in the paths' order."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def index_sequence(root: Path | str, name: str, identity: str, extra: dict | None = None) -> SequenceEntry:
    """The entry of `root/name`, counted and hashed from its files.

    Raises FileNotFoundError, ValueError: what `Sequence` raises, there is no frame in any split, or one of them in two.
    """
    folder = inside(Path(root), name, "the sequence's name")
    spans, bases, shown = {}, set(), {}
    for split in SPLITS:
        if not (folder / f"transforms_{split}.json").is_file():
            continue  # other tools leave out the splits that they do not have
        sequence = Sequence(folder, split)
        for i in range(len(sequence)):
            instant = f"timestep {sequence.timestep(i)} of camera {sequence.camera_index(i)}"
            for what in (instant, f"picture {sequence.files(i)[0]}"):
                if (other := shown.setdefault(what, sequence.path)) != sequence.path:
                    raise ValueError(f"{sequence.path}: {what} is in {other} too: leave it in one split, or tests leak")
        if len(sequence):
            cameras = sorted({sequence.camera_index(i) for i in range(len(sequence))})
            timesteps = len({sequence.timestep(i) for i in range(len(sequence))})
            spans[split] = Span(len(sequence), tuple(cameras), timesteps)
            bases.add(sequence.basis)
    if not spans:
        raise ValueError(f"{folder}: no frame in any of its transforms files; leave the sequence out")
    if len(bases) > 1:
        raise ValueError(f"{folder}: its splits have codes of {sorted(bases)}; one sequence has one basis")
    return SequenceEntry(name, identity, bases.pop(), sequence_sha256(folder), spans, dict(extra or {}))


def write_manifest(root: Path | str, world: dict[str, Any], sequences: Iterable[SequenceEntry]) -> Path:
    """Write `root/manifest.json` whole or not at all; returns its path.

    Args:
        root: the collection's folder; the sequences lie in it already.
        world: {"name": ..., anything JSON: seeds, versions, licences}.
        sequences: `index_sequence` of each, in any order; the file has them by name.

    Raises ValueError: no sequence, a name twice, codes of several bases, or values that are no JSON.
    """
    path, sequences = Path(root) / MANIFEST, sorted(sequences, key=lambda entry: entry.name)
    bases = sorted({entry.basis for entry in sequences})
    if len(bases) != 1:
        found = " and ".join(bases) or "none at all"
        raise ValueError(f"{path}: sequences must share one codes_basis, not {found}; each takes a folder of its own")
    head = {"format": FORMAT, "world": world, "basis": bases[0], "sha256": _sha256(sequences)}
    try:
        lines = [json.dumps(_to_json(entry), allow_nan=False) for entry in sequences]
        text = json.dumps(head, allow_nan=False)[:-1] + ', "sequences": [\n ' + ",\n ".join(lines) + "\n]}\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: world or extra holds something that is no JSON ({error})") from error
    _parse(json.loads(text), path)  # what is written can be read
    file = tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False)
    try:
        with file:
            file.write(text)
        os.chmod(file.name, 0o644)  # temporary files are private to the user
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise
    return path


def read_manifest(root: Path | str) -> Manifest:
    """The manifest of a collection. Raises FileNotFoundError; ValueError naming the field that is wrong."""
    path = Path(root) / MANIFEST
    return _parse(read_json(path), path)


def read_json(path: Path) -> Any:
    """A JSON file. Raises FileNotFoundError; ValueError for a damaged one, or one with a key twice in an object."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {path.parent} is no collection, or was not written to its end")
    try:
        return json.loads(path.read_text(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no JSON ({error}): write the collection again") from error


def check_name(name: str, where: str) -> None:
    """Raise ValueError, beginning with `where`, if a sequence in a collection cannot be called `name`."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{where} {name!r}: use letters, digits, _ + - and / between folders, below the root")


def _to_json(entry: SequenceEntry) -> dict:
    splits = {
        split: {"frames": span.frames, "cameras": list(span.cameras), "timesteps": span.timesteps}
        for split, span in entry.splits.items()
    }
    kept = {"name": entry.name, "identity": entry.identity, "sha256": entry.sha256, "splits": splits}
    return kept | {"extra": entry.extra}


def _sha256(sequences: list[SequenceEntry]) -> str:
    return hashlib.sha256(
        "".join(sorted(f"{e.name} {e.identity} {e.sha256}\n" for e in sequences)).encode()
    ).hexdigest()


def _typed(data: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object, not {type(data).__name__}")
    if key not in data:
        raise ValueError(f"{where} has no {key!r}")
    if not isinstance(data[key], kind) or data[key] == "":
        raise ValueError(f"{where}.{key} must be a {kind.__name__} with something in it, not {data[key]!r:.60}")
    return data[key]


def _parse(data: Any, path: Path) -> Manifest:
    where = str(path)
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object, not {type(data).__name__}: write the collection again")
    if data.get("format") != FORMAT:
        raise ValueError(f"{where}: format is {data.get('format')!r}, this reader knows {FORMAT}: update one of them")
    world, basis = _typed(data, "world", dict, where), _typed(data, "basis", str, where)
    _typed(world, "name", str, f"{where}: world")
    if not any(basis == source or basis.startswith(source + " ") for source in SOURCES):
        raise ValueError(f"{where}: unknown basis {basis!r}; known are {', '.join(SOURCES)}")
    listed, sequences, names = _typed(data, "sequences", list, where), [], set()
    if not listed:
        raise ValueError(f"{where}: sequences is empty")
    for i, item in enumerate(listed):
        entry = _parse_entry(item, basis, f"{where}: sequences[{i}]")
        if entry.name in names:
            raise ValueError(f"{where}: sequences[{i}].name {entry.name!r} is listed twice")
        names.add(entry.name)
        sequences.append(entry)
    if _typed(data, "sha256", str, where) != _sha256(sequences):
        raise ValueError(f"{where}: sha256 is not that of the sequences listed: the list was edited or cut")
    return Manifest(path, world, basis, data["sha256"], sequences)


def _parse_entry(item: Any, basis: str, where: str) -> SequenceEntry:
    name, identity = _typed(item, "name", str, where), _typed(item, "identity", str, where)
    check_name(name, f"{where}.name")
    sha256, spans = _typed(item, "sha256", str, where), {}
    if not SHA256.fullmatch(sha256):
        raise ValueError(f"{where}.sha256 must be 64 hexadecimal digits, not {sha256!r:.80}")
    for split, counts in _typed(item, "splits", dict, where).items():
        at = f"{where}.splits.{split}"
        if split not in SPLITS:
            raise ValueError(f"{at}: splits are {SPLITS}")
        cameras = _typed(counts, "cameras", list, at)
        spans[split] = span = Span(
            integer(counts.get("frames"), 1, f"{at}.frames"),
            tuple(integer(camera, 0, f"{at}.cameras") for camera in cameras),
            integer(counts.get("timesteps"), 1, f"{at}.timesteps"),
        )
        if list(cameras) != sorted(set(cameras)) or not cameras:
            raise ValueError(f"{at}.cameras must be ascending and distinct, not {cameras}")
        if not max(len(cameras), span.timesteps) <= span.frames <= len(cameras) * span.timesteps:
            raise ValueError(
                f"{at}: {span.frames} frames cannot be {len(cameras)} cameras x {span.timesteps} timesteps"
            )
    if not spans:
        raise ValueError(f"{where}.splits is empty")
    return SequenceEntry(name, identity, basis, sha256, spans, _typed(item, "extra", dict, where))
