"""The on-disk format every tool here reads and writes: sequences, collections of them, and batches drawn from both."""

from sa0lib.datasets.batches import Batch, FolderBatches, loader, to_float
from sa0lib.datasets.clip import Clip, Views
from sa0lib.datasets.collection import Collection
from sa0lib.datasets.manifest import index_sequence, read_manifest, write_manifest
from sa0lib.datasets.sequence import Frame, Sequence
from sa0lib.datasets.writer import Record, check_replaceable, whole_folder, write_sequence

__all__ = [
    "Batch",
    "Clip",
    "Collection",
    "FolderBatches",
    "Frame",
    "Record",
    "Sequence",
    "Views",
    "check_replaceable",
    "index_sequence",
    "loader",
    "read_manifest",
    "to_float",
    "whole_folder",
    "write_manifest",
    "write_sequence",
]
