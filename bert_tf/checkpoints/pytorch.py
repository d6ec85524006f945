"""`pytorch_model.bin` without PyTorch, and without executing what is in it.

Such a file is a pickle, a program for a small machine, beside raw storages. Three globals are
known here, those a state dict is made of: ordered dictionaries, tensors and the types of storages.

Two layouts: a zip archive (PyTorch 1.6 and later) and, before that, five pickles in a row
followed by the storages. Source: torch/serialization.py and torch/_utils.py of PyTorch 2.
"""

from __future__ import annotations

import dataclasses
import io
import math
import mmap
import os
import zipfile
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from bert_tf.checkpoints.files import reading
from bert_tf.checkpoints.limits import Allowance, is_shape
from bert_tf.checkpoints.pickles import ORDERED_DICT, Function, Machine

_STORAGE_TYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _StorageType(NamedTuple):
    dtype: np.dtype


@dataclasses.dataclass
class _Storage:
    """`count` numbers; `data` is filled in when they have been read."""

    key: str
    dtype: np.dtype
    count: int
    data: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage, not yet read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, allowance: Allowance) -> np.ndarray:
        dtype, data = self.storage.dtype, self.storage.data
        count = math.prod(self.shape)
        allowance.take(count * dtype.itemsize)
        if count == 0:
            return np.zeros(self.shape, dtype)
        end = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if data is None or end >= data.size or count > data.size:
            raise ValueError(f"a tensor of shape {self.shape} in a smaller storage")
        strides = tuple(stride * dtype.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_ignored: Any) -> _Tensor:
    """torch._utils._rebuild_tensor_v2; what follows the strides is about gradients and hooks."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    if not all(map(is_shape, (shape, strides, (offset,)))) or len(shape) != len(strides):
        raise ValueError("a tensor whose offset, shape and strides are not its sizes")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_ignored: Any) -> Any:
    """torch._utils._rebuild_parameter."""
    return tensor


_GLOBALS = {
    ("collections", "OrderedDict"): ORDERED_DICT,
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
}


class _Storages:
    """The storages that a pickle has named, by their keys."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def named(self, pid: Any) -> _Storage:
        """Return the storage of a persistent id, which may be anything."""
        if type(pid) is not tuple or not 5 <= len(pid) <= 6:
            raise ValueError("a persistent id that is no storage's")
        kind, storage_type, key, _location, count, *view = pid
        if (
            not isinstance(storage_type, _StorageType)
            or kind != "storage"
            or view not in ([], [None])
        ):
            raise ValueError("a storage of an unknown kind")
        if not isinstance(key, str) or not is_shape((count,)):
            raise ValueError("a storage without key or size")
        return self.by_key.setdefault(key, _Storage(key, storage_type.dtype, count))


def read(path: str) -> dict[str, np.ndarray]:
    """The state dict in a `.bin` (`.pt`, `.pth`) file: name -> array, names as in the file.

    Raises:
      UnsafePickleError: the pickle refers to anything but tensors; nothing was run.
      DamagedCheckpointError: the file is truncated or corrupted.
    """
    with reading(path) as (local, allowance), open(local, "rb") as file:
        read_layout = _read_zip if zipfile.is_zipfile(file) else _read_legacy
        state = read_layout(file, allowance)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}, not a dictionary of tensors")
        return {name: _array(name, tensor, allowance) for name, tensor in state.items()}


def _array(name: Any, tensor: Any, allowance: Allowance) -> np.ndarray:
    if not isinstance(name, str):
        raise ValueError(f"an entry's name is a {type(name).__name__}, not a text")
    allowance.take(0, name)
    if not isinstance(tensor, _Tensor):
        raise ValueError(f"entry {name!r:.80} is a {type(tensor).__name__}, not a tensor")
    return tensor.array(allowance)


def _read_zip(file: BinaryIO, allowance: Allowance) -> Any:
    left = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}

        def contents(name: str) -> bytes:
            nonlocal left
            if name not in entries:
                raise ValueError(f"it lacks {name!r:.80}")
            entry = archive.getinfo(entries[name])
            if entry.compress_type != zipfile.ZIP_STORED:  # so it cannot swell on reading
                raise ValueError(f"{entry.filename:.80} is compressed")
            left -= entry.file_size
            if left < 0:
                raise ValueError("its parts lie one over the other")
            return archive.read(entry)

        if entries.get("byteorder") and contents("byteorder") != b"little":
            raise ValueError("the numbers are big-endian")
        program = io.BytesIO(contents("data.pkl"))
        storages = _Storages()
        state = Machine(_GLOBALS, allowance, "utf-8", storages.named).load(program)
        for storage in storages.by_key.values():
            storage.data = np.frombuffer(contents(f"data/{storage.key}"), storage.dtype)
            if storage.data.size != storage.count:
                raise ValueError(f"storage {storage.key:.80} has not {storage.count} numbers")
    return state


def _read_legacy(file: BinaryIO, allowance: Allowance) -> Any:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    storages = _Storages()
    machine = Machine(_GLOBALS, allowance, "utf-8", storages.named)
    for number in (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        found = machine.load(data)
        if type(found) is not int or found != number:
            raise ValueError("this is no file of PyTorch's")
    system = machine.load(data)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("the numbers are big-endian")
    state = machine.load(data)
    keys = machine.load(data)
    for key in keys if isinstance(keys, list) else [None]:
        if not isinstance(key, str) or key not in storages.by_key:
            raise ValueError("its list of storages names others than its tensors do")
        storage = storages.by_key[key]
        count = int.from_bytes(data.read(8), "little")
        if count != storage.count:
            raise ValueError(
                f"storage {key:.80} has {count} numbers where {storage.count} are named"
            )
        storage.data = np.frombuffer(data, storage.dtype, count, data.tell())
        data.seek(storage.data.nbytes, os.SEEK_CUR)
    return state
