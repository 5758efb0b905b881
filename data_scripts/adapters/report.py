"""What an adapter finds in a reader's folder before it writes anything."""

from dataclasses import dataclass, field
from pathlib import Path

from sa0lib.datasets.writer import SEQUENCE, check_replaceable


@dataclass
class Report:
    """What is there, what is missing, what would be written. One line of plain text per item."""

    found: list[str] = field(default_factory=list)  # e.g. "img_lmdb: 1,250 frames"
    missing: list[str] = field(default_factory=list)  # each stops the conversion; names the file and the fix
    will_write: list[str] = field(default_factory=list)  # e.g. "subject_a: 900 train, 350 test frames"
    places: list[str] = field(default_factory=lambda: [""])  # what is written: folders below OUT; "" is OUT itself
    marker: str = SEQUENCE  # what an earlier output has in each of them

    def check_places(self, out: Path) -> None:
        """Raise FileExistsError if something is in the way in `out`."""
        for place in self.places:
            check_replaceable(out / place, self.marker)

    @property
    def ok(self) -> bool:
        """Could `convert` do its work?"""
        return bool(self.will_write) and not self.missing

    def __str__(self) -> str:
        parts = (("found", self.found), ("missing", self.missing), ("would write", self.will_write))
        return "\n".join(
            f"{name}:\n" + "\n".join(f"  {line}" for line in lines or ["nothing"]) for name, lines in parts
        )


def counted(count: int, noun: str) -> str:
    """ "1 frame", "2 frames"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
