"""Pickles of arrays in plain containers, read without running anything that is inside them.

A pickle is a program: loading one the usual way runs whatever its author wrote. Trackers write their results as pickles
all the same. Here every name in the pickle becomes a record that only remembers its arguments and state; arrays are
built afterwards, from raw bytes, by this file. A name that no array needs is refused. (`sa0lib/flame_files.py` does the
same for FLAME's own, older kind of pickle.)
"""

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from sa0lib.flame_files import RefusedGlobal


class _Record:
    """Stands for a call in the pickle: its arguments, and the state set afterwards. Does nothing."""

    kind = ""

    def __new__(cls, *args):
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state):
        self.state = state


_ADMITTED = {
    (module, name): type(kind, (_Record,), {"kind": kind})
    for module, name, kind in [
        ("numpy.core.multiarray", "_reconstruct", "array"),  # numpy 1
        ("numpy._core.multiarray", "_reconstruct", "array"),  # numpy 2
        ("numpy.core.multiarray", "scalar", "scalar"),
        ("numpy._core.multiarray", "scalar", "scalar"),
        ("numpy.core.numeric", "_frombuffer", "buffer"),  # pickle protocol 5
        ("numpy._core.numeric", "_frombuffer", "buffer"),
        ("numpy", "ndarray", "class"),
        ("numpy", "dtype", "dtype"),
        ("_codecs", "encode", "bytes"),  # bytes in protocol 2
    ]
}


class _Unpickler(pickle._Unpickler):  # the Python one: a few bytes can make the C one take all memory
    def __init__(self, file: IO[bytes], path: Path):
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _ADMITTED:
            raise RefusedGlobal(
                f"{self.path}: refused. This pickle asks for {module}.{name}, which no table of numbers needs and "
                "which could run code on this machine; nothing was run. Do not use this file: make it anew yourself"
            )
        return _ADMITTED[module, name]


def _bytes(value: Any) -> bytes:
    if getattr(value, "kind", "") == "bytes":
        text, encoding = value.args
        if encoding != "latin1":
            raise TypeError(f"bytes in {encoding!r}")
        return text.encode("latin1")
    return bytes(memoryview(value))


def _array(record: _Record) -> np.ndarray:
    axes = None
    if record.kind == "array":
        _, shape, dtype, fortran, data = record.state
        order = "F" if fortran else "C"
    elif record.kind == "buffer":
        data, dtype, shape, order, *axes = record.args
    elif record.kind == "scalar":
        (dtype, data), shape, order = record.args, (), "C"
    else:
        raise TypeError(f"no array but {record.kind!r}")
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
    elif isinstance(value, _Record):
        done[id(value)] = out = _array(value)
    elif isinstance(value, bool | int | float | str | None):
        return value
    else:
        raise TypeError(f"a {type(value).__name__} is no number and no container of numbers")
    return out


def _load(file: IO[bytes], path: Path) -> Any:
    try:
        tree = _Unpickler(file, path).load()
        return _plain(tree, {})
    except RefusedGlobal:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path}: damaged, or not a table of arrays ({error!r}); copy or make it again") from error


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
        return _load(file, path)


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
    return _load(io.BytesIO(data), path)
