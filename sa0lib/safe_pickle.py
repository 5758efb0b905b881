"""Pickles of arrays in plain containers, read without running anything that is inside them.

A pickle is a program: loading one the usual way runs whatever its author wrote. FLAME and every tracker come as pickles
all the same. So the unpickler here knows a short list of names, and even those it does not call: for each it makes a
record that only remembers its arguments and state; afterwards this file looks into the records and builds arrays from
raw bytes. Every other name is refused.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np


class RefusedGlobal(ValueError):
    """A pickle asked for something other than an array."""


class Record:
    """Stands for an object in the pickle: what it would have been called with, and its state. Does nothing."""

    kind = ""

    def __new__(cls, *args):
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state):
        self.state = state


Admitted = dict[tuple[str, str], type[Record]]  # (module, name) -> what stands for it


def records(names: Iterable[tuple[str, str, str]]) -> Admitted:
    """Stand-ins for (module, name, kind)."""
    return {(module, name): type(kind, (Record,), {"kind": kind}) for module, name, kind in names}


ARRAYS = records(
    [
        ("numpy.core.multiarray", "_reconstruct", "array"),  # numpy 1
        ("numpy._core.multiarray", "_reconstruct", "array"),  # numpy 2
        ("numpy.core.multiarray", "scalar", "scalar"),
        ("numpy._core.multiarray", "scalar", "scalar"),
        ("numpy.core.numeric", "_frombuffer", "buffer"),  # pickle protocol 5
        ("numpy._core.numeric", "_frombuffer", "buffer"),
        ("numpy", "ndarray", "class"),
        ("numpy", "dtype", "dtype"),
        ("_codecs", "encode", "bytes"),  # how Python 3 writes bytes in a Python 2 pickle
    ]
)


class _Unpickler(pickle._Unpickler):  # the Python one: a few bytes can make the C one take all memory
    def __init__(self, file: IO[bytes], path: Path, admitted: Admitted):
        super().__init__(file, encoding="latin1")  # Python 2 strings hold raw bytes
        self.path, self.admitted = path, admitted

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.admitted:
            raise RefusedGlobal(
                f"{self.path}: refused. This pickle asks for {module}.{name}, which no table of numbers needs and "
                "which could run code on this machine; nothing was run. Take the file from its source again, or make "
                "it anew yourself"
            )
        return self.admitted[module, name]


def read_records(file: IO[bytes], path: Path, admitted: Admitted = ARRAYS) -> Any:
    """What an open pickle holds, with records in the place of objects; `path` is for messages.

    Raises ValueError: damaged, or (`RefusedGlobal`) it names something that is not admitted.
    """
    try:
        return _Unpickler(file, path, admitted).load()
    except RefusedGlobal:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path}: damaged or not a pickle ({error!r}); copy, download or make it again") from error


def _bytes(value: Any) -> bytes:
    if getattr(value, "kind", "") == "bytes":
        text, encoding = value.args
        if encoding != "latin1":
            raise TypeError(f"bytes in {encoding!r}")
        value = text
    return value.encode("latin1") if isinstance(value, str) else bytes(memoryview(value))


def to_array(record: Any) -> np.ndarray:
    """Numbers from the record of an array. Raises TypeError for any other record."""
    axes, kind = None, getattr(record, "kind", "")
    if kind == "array":
        _, shape, dtype, fortran, data = record.state
        order = "F" if fortran else "C"
    elif kind == "buffer":
        data, dtype, shape, order, *axes = record.args
    elif kind == "scalar":
        (dtype, data), shape, order = record.args, (), "C"
    else:
        raise TypeError(f"no array but {kind or type(record).__name__}")
    code = (dtype.state[1] if dtype.state else "=") + dtype.args[0]  # byte order first
    if not re.fullmatch(r"[<>=|]([fiu][1248]|b1)", code):
        raise TypeError(f"an array of {code!r}, not of numbers")
    values = np.frombuffer(_bytes(data), np.dtype(code))
    if order == "K":  # stored in memory order, then its axes permuted
        return values.reshape(shape).transpose(*axes).copy()
    return values.reshape(shape, order=order).copy()


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Records become arrays. `done`: object -> result, so that what is shared is converted once, and loops end."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        done[id(value)] = out = {}
        out.update((key, _plain(item, done)) for key, item in value.items())
    elif isinstance(value, list | tuple):
        done[id(value)] = out = []
        out.extend(_plain(item, done) for item in value)
    elif isinstance(value, Record):
        done[id(value)] = out = to_array(value)
    elif isinstance(value, bool | int | float | str | None):
        return value
    else:
        raise TypeError(f"a {type(value).__name__} is no number and no container of numbers")
    return out


def read(file: IO[bytes], path: Path) -> Any:
    """`load` of an open file; `path` is for messages."""
    tree = read_records(file, path)
    try:
        return _plain(tree, {})
    except Exception as error:  # whatever a damaged pickle has put into the records
        raise ValueError(f"{path}: no table of arrays ({error!r}); copy, download or make it again") from error


def load(path: Path | str) -> Any:
    """What a pickle holds: dicts, lists (tuples become lists), strings, numbers and numpy arrays.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or (`RefusedGlobal`) it asks for anything else. Nothing in the file is ever run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        return read(file, path)


def load_torch(path: Path | str) -> Any:
    """The same of a file written by `torch.save` (since torch 1.6, a zip archive) that holds numpy arrays, no tensors.

    Raises as `load` does.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(member for member in archive.infolist() if member.filename.endswith("/data.pkl"))
            if member.file_size > path.stat().st_size:  # torch does not compress; this would fill the memory
                raise zipfile.BadZipFile(f"data.pkl would unpack to {member.file_size} bytes")
            data = archive.read(member)
    except (zipfile.BadZipFile, StopIteration, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged, or not written by torch.save ({error!r}); copy it again") from error
    return read(io.BytesIO(data), path)
