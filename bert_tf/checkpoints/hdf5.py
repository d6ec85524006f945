"""HDF5 files of strangers: what would keep the HDF5 library busy for ever is refused.

Datasets are found by a walk through the groups, which follows no link to elsewhere; a name in an
attribute is looked up among what was found.
"""

from __future__ import annotations

import io
import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from bert_tf.checkpoints.limits import Allowance

_HEAP = b"GCOL\x01"  # a collection of strings of attributes; of 3 bytes more, its size and objects
_HEADER = 16  # bytes, of a collection and of each object


_MAX_ITEMS = 20_000  # groups and datasets; BERT-large with an optimizer has 3,000
_MAX_DEPTH = 32
_CHUNK = 512  # bytes of memory that the library takes for each


class Contents:
    """The groups and datasets of an open file by their paths, "" for the root.

    Raises ValueError for more of them, nested more deeply, than any model has.
    """

    def __init__(self, file: h5py.File, largest_text: int, allowance: Allowance):
        self._largest_text = largest_text
        self._allowance = allowance
        self.groups: dict[str, h5py.Group] = {"": file}
        self.datasets: dict[str, h5py.Dataset] = {}
        file.visititems(self._found)

    def _found(self, path: str, item: h5py.Group | h5py.Dataset) -> None:
        self._allowance.take(0, path)
        if path.count("/") >= _MAX_DEPTH:
            raise ValueError(f"groups nested more than {_MAX_DEPTH} deep")
        found = self.datasets if isinstance(item, h5py.Dataset) else self.groups
        found[path] = item
        if len(self.groups) + len(self.datasets) > _MAX_ITEMS:
            raise ValueError(f"more than {_MAX_ITEMS} groups and tensors")

    def value(self, dataset: h5py.Dataset, name: str) -> np.ndarray:
        """Return the numbers of a dataset, which must be in this file."""
        # Not `nbytes`, which overflows.
        count = math.prod(dataset.shape) * dataset.dtype.itemsize
        if dataset.external or dataset.is_virtual or count > self._allowance.file_size:
            raise ValueError(f"{name} is not in this file")
        if dataset.dtype.hasobject:
            raise ValueError(f"{name} holds no numbers")
        self._allowance.take(count)
        if chunk := dataset.chunks:
            counts = (-(-n // m) for n, m in zip(dataset.shape, chunk, strict=True))
            # A chunk is read as a whole, even where it is larger than its dataset.
            size = math.prod(chunk) * dataset.dtype.itemsize
            self._allowance.take(_CHUNK * math.prod(counts) + max(0, size - count))
        if dataset.dtype.kind == "V":
            self.attribute(dataset, "dtype")  # is looked at, so it counts
        return array(dataset)

    def attribute(self, item: h5py.Group | h5py.Dataset, name: str) -> Any:
        """Return an attribute, None if there is none."""
        if name not in item.attrs:
            return None
        found = item.attrs.get_id(name)
        # Texts of any length are kept apart, and may be one and the same.
        text = self._largest_text if found.dtype.hasobject else 0
        self._allowance.take(math.prod(found.shape or ()) * (found.dtype.itemsize + text))
        return item.attrs[name]

    def names(self, item: h5py.Group, attribute: str) -> list[str]:
        """Return an attribute that is a list of texts."""
        found = self.attribute(item, attribute)
        if not isinstance(found, np.ndarray) or found.ndim != 1:
            raise ValueError(f"its {attribute} are no list of names")
        return [name.decode() if isinstance(name, bytes) else str(name) for name in found]


@contextmanager
def opened(source: str | io.BytesIO, allowance: Allowance) -> Iterator[Contents]:
    """The file, for reading. Raises ValueError for one whose heaps the library would go round in.

    Raises OSError, and KeyError, RuntimeError, ... later, for what else h5py cannot read.
    """
    if isinstance(source, io.BytesIO):
        largest = _check_heaps(source.getvalue())
    else:
        with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            largest = _check_heaps(m)
    with h5py.File(source, "r") as file:
        yield Contents(file, largest, allowance)


def array(dataset: h5py.Dataset) -> np.ndarray:
    """Return the contents; Keras writes bfloat16, which HDF5 does not know, as pairs of bytes."""
    contents = dataset[()]
    if dataset.dtype.kind == "V" and dataset.attrs.get("dtype") == "bfloat16":
        return np.asarray(contents).view(ml_dtypes.bfloat16)
    return contents


def _check_heaps(data: Any) -> int:
    """Return the bytes of the largest text in any collection, all of which are walked.

    The library walks them too, and adds a damaged size to its place unseen.

    HDF5 File Format Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap", with lengths
    of 8 bytes, as Keras writes them.
    """
    largest = 0
    start = data.find(_HEAP)
    while start >= 0:
        place, end = start + _HEADER, start + _number(data, start + 8, 8)
        while place + _HEADER <= min(end, len(data)):
            length = _number(data, place + 8, 8)
            if _number(data, place, 2):  # else the space that is left, its header included
                length = _HEADER + -(-length // 8) * 8
            if not 0 < length <= end - place:
                raise ValueError(f"an object of {length} bytes in a heap of {end - start}")
            largest = max(largest, length)
            place += length
        start = data.find(_HEAP, start + 1)
    return largest


def _number(data: Any, place: int, count: int) -> int:
    return int.from_bytes(data[place : place + count], "little")
