"""HDF5 files of strangers: what would keep the HDF5 library busy for ever is refused."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import ml_dtypes
import numpy as np

_HEAP = b"GCOL\x01"  # a collection of strings of attributes; of 3 bytes more, its size and objects
_HEADER = 16  # bytes, of a collection and of each object


@contextmanager
def opened(source: str | io.BytesIO) -> Iterator[h5py.File]:
    """The file, for reading. Raises ValueError for one whose heaps the library would go round in.

    Raises OSError, and KeyError, RuntimeError, ... later, for what else h5py cannot read.
    """
    if isinstance(source, io.BytesIO):
        _check_heaps(source.getvalue())
    else:
        with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            _check_heaps(m)
    with h5py.File(source, "r") as file:
        yield file


def array(dataset: h5py.Dataset) -> np.ndarray:
    """Return the contents; Keras writes bfloat16, which HDF5 does not know, as pairs of bytes."""
    contents = dataset[()]
    if dataset.attrs.get("dtype") == "bfloat16":
        return np.asarray(contents).view(ml_dtypes.bfloat16)
    return contents


def _check_heaps(data: Any) -> None:
    """Walks all collections as the library does, which adds a damaged size to its place unseen.

    HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap", with lengths
    of 8 bytes, as Keras writes them.
    """
    start = data.find(_HEAP)
    while start >= 0:
        place, end = start + _HEADER, start + _number(data, start + 8, 8)
        while place + _HEADER <= min(end, len(data)):
            length = _number(data, place + 8, 8)
            if _number(data, place, 2):  # else the space that is left, its header included
                length = _HEADER + -(-length // 8) * 8
            if not 0 < length <= end - place:
                raise ValueError(f"an object of {length} bytes in a heap of {end - start}")
            place += length
        start = data.find(_HEAP, start + 1)


def _number(data: Any, place: int, count: int) -> int:
    return int.from_bytes(data[place : place + count], "little")
