"""Checkpoints: written whole or not at all, and read without running code from the file."""

import io
import os
from pathlib import Path

import torch


def write_checkpoint(path: Path, state: dict) -> None:
    """Write a state atomically; folders are made."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(buffer.getvalue())
    os.replace(part, path)


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """A state on a device. Raises ValueError for a file that is damaged or holds more than tensors and numbers."""
    try:
        return dict(torch.load(path, weights_only=True, map_location=device))
    except Exception as error:  # zip, pickle and torch each have their own
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it to start again") from error
