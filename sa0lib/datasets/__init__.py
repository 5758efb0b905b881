"""The on-disk format every tool here reads and writes, its reader and its writer."""

from sa0lib.datasets.sequence import Frame, Sequence
from sa0lib.datasets.writer import Record, check_replaceable, whole_folder, write_sequence

__all__ = ["Frame", "Record", "Sequence", "check_replaceable", "whole_folder", "write_sequence"]
