"""Whole files of other tools: names, JSON, npz, LMDB and poses, each refused with its file and field."""

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np
from jaxtyping import Float

from data_scripts.adapters.fields import numbers, rotation
from data_scripts.adapters.report import Report
from sa0lib.datasets.layout import unique

LARGEST_NPZ = 2**31  # bytes unpacked: a tracked sequence is a few MB, more is a mistake or an attack
NAME = re.compile(r"[\w+\-]+(\.[\w+\-]+)*", re.ASCII)


def require(report: Report, out: Path) -> None:
    """Raise FileNotFoundError with everything that is missing, if anything is; FileExistsError if `out` is taken."""
    if not report.ok:
        raise FileNotFoundError("; ".join(report.missing) or "nothing to convert")
    report.check_places(out)


def safe_name(name: str, where: str) -> str:
    """`name`, if it can be a file's name inside a folder. Raises ValueError naming `where` for `../x` and the like."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{where}: {name!r} cannot be a file name (letters, digits, _ + - and inner dots only)")
    return name


def unique_json(path: Path) -> dict:
    """A JSON object in which no key may stand twice. Raises FileNotFoundError; ValueError naming the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        value = json.loads(path.read_text(encoding="utf8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}): take it from its source again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected an object {{...}}")
    return value


def rigid(value: object, where: str) -> Float[np.ndarray, "4 4"]:
    """A 4x4 rotation plus translation. Raises ValueError, beginning with `where`, if it is anything else."""
    matrix = numbers(value, (4, 4), where)
    rotation(matrix[:3, :3], where)
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise ValueError(f"{where} must end with the row 0 0 0 1, not {matrix[3].tolist()}")
    return matrix


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of numbers in an npz. Raises FileNotFoundError; ValueError if damaged, oversized or holding objects."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST_NPZ:
            raise ValueError(f"it unpacks to {size / 2**30:.1f} GB")
        with np.load(path, allow_pickle=False) as file:  # an object array is a pickle, and a pickle is a program
            return {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"{path} is refused: {error}. Nothing in it was run; take it from its source again") from error


@contextmanager
def open_lmdb(folder: Path) -> Iterator[lmdb.Transaction]:
    """A transaction that only reads. Raises FileNotFoundError; ValueError if the file is cut off or no such LMDB."""
    path = folder / "data.mdb"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the folder with the tracker's pictures (--lmdb DIR)")
    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ValueError(f"{path} cannot be opened ({error}): copy it again, or dump and load it anew") from error
    with environment:
        pages = environment.info()["last_pgno"] + 1
        if path.stat().st_size < pages * environment.stat()["psize"]:  # reading beyond its end would kill the process
            raise ValueError(f"{path} is cut off, {pages} pages are announced: copy it again")
        try:
            with environment.begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise ValueError(f"{path} cannot be read ({error}): copy it again, or dump and load it anew") from error
