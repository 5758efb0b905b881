"""The on-disk format every tool here reads and writes, its reader and its writer."""

from sa0lib.datasets.sequence import Frame, Sequence
from sa0lib.datasets.writer import Record, whole_folder, write_sequence

__all__ = ["Frame", "Record", "Sequence", "whole_folder", "write_sequence"]
