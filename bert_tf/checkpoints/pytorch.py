"""`pytorch_model.bin` without PyTorch, and without executing what is in it.

Such a file is a pickle, a program for a small machine, beside raw storages. The unpickler here
knows three things a state dict is made of: ordered dictionaries, tensors and the types of
storages. Any other global is refused before anything is called.

Two layouts: a zip archive (PyTorch 1.6 and later) and, before that, five pickles in a row
followed by the storages. Source: torch/serialization.py and torch/_utils.py of PyTorch 2.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import math
import mmap
import os
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from bert_tf import filesystem
from bert_tf.checkpoints.files import damaged

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


class UnsafePickleError(ValueError):
    """The file wants to call something that no set of weights needs."""


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

    def array(self) -> np.ndarray:
        dtype, data = self.storage.dtype, self.storage.data
        sizes = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or any(type(x) is not int or x < 0 for x in sizes):
            raise ValueError(f"a tensor of shape {self.shape} with strides {self.strides}")
        if (count := math.prod(self.shape)) == 0:
            return np.zeros(self.shape, dtype)
        end = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if data is None or end >= data.size or count > data.size:
            raise ValueError(f"a tensor of shape {self.shape} in a smaller storage")
        strides = tuple(stride * dtype.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


class _RebuildTensor:
    """torch._utils._rebuild_tensor_v2; what follows the strides is about gradients and hooks."""

    __slots__ = ()  # nor can a pickle hang anything on it, as it could on a function

    def __call__(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *_ignored: Any
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
    """torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_ignored: Any) -> Any:
        return tensor


_GLOBALS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
}


class RestrictedUnpickler(pickle.Unpickler):
    """Knows the globals in `allowed`, by module and name, and refuses any other uncalled."""

    allowed: Mapping[tuple[str, str], Any]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise UnsafePickleError(
                f"it asks for {module}.{name}, which no set of weights needs, so nothing in it was "
                "run; give weights from a source you trust, best as model.safetensors"
            ) from None


class _Unpickler(RestrictedUnpickler):
    allowed = _GLOBALS

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or any(view):
            raise ValueError(f"a storage of an unknown kind: {pid}")
        if not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise ValueError(f"a storage without key or size: {pid}")
        return self.storages.setdefault(key, _Storage(key, storage_type.dtype, count))


def read(path: str) -> dict[str, np.ndarray]:
    """The state dict in a `.bin` (`.pt`, `.pth`) file: name -> array, names as in the file.

    Raises:
      UnsafePickleError: the pickle refers to anything but tensors; nothing was run.
      DamagedCheckpointError: the file is truncated or corrupted.
    """
    with filesystem.local_copy(path) as local, open(local, "rb") as file, pickle_errors(path):
        state = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}, not a dictionary of tensors")
        return {name: _array(name, tensor) for name, tensor in state.items()}


@contextlib.contextmanager
def pickle_errors(path: str) -> Iterator[None]:
    """What goes wrong with a pickle in the block names the file: it is refused, or damaged."""
    try:
        yield
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path} is refused: {error}") from None
    except Exception as error:  # a broken pickle raises nearly anything, KeyError to EOFError
        raise damaged(path, str(error) or type(error).__name__) from error


def _array(name: Any, tensor: Any) -> np.ndarray:
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
        raise ValueError(f"entry {name!r} is a {type(tensor).__name__}, not a tensor")
    return tensor.array()


def unpickle(unpickler: pickle.Unpickler, file: Any) -> Any:
    """Loads the next pickle in `file`, after a look at its opcodes that runs none.

    The unpickler keeps its memo in a list as long as the largest index, whatever that is.
    """
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name.endswith("PUT") and argument > file.tell():
            raise ValueError(f"opcode {opcode.name} with index {argument}")
    file.seek(start)
    return unpickler.load()


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}

        def contents(name: str) -> bytes:
            entry = archive.getinfo(entries[name])
            if entry.compress_type != zipfile.ZIP_STORED:  # so it cannot swell on reading
                raise ValueError(f"{entry.filename} is compressed")
            return archive.read(entry)

        if entries.get("byteorder") and contents("byteorder") != b"little":
            raise ValueError("the numbers are big-endian")
        program = io.BytesIO(contents("data.pkl"))
        unpickler = _Unpickler(program)
        state = unpickle(unpickler, program)
        for storage in unpickler.storages.values():
            storage.data = np.frombuffer(contents(f"data/{storage.key}"), storage.dtype)
            if storage.data.size != storage.count:
                raise ValueError(f"storage {storage.key} has not {storage.count} numbers")
    return state


def _read_legacy(file: BinaryIO) -> Any:
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def header() -> Any:
        return unpickle(_Unpickler(data), data)

    if header() != _LEGACY_MAGIC or header() != _LEGACY_PROTOCOL:
        raise ValueError("this is no file of PyTorch's")
    if header().get("little_endian") is not True:
        raise ValueError("the numbers are big-endian")
    unpickler = _Unpickler(data)
    state = unpickle(unpickler, data)
    for key in header():
        storage = unpickler.storages[key]
        count = int.from_bytes(data.read(8), "little")
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} numbers where {storage.count} are named")
        storage.data = np.frombuffer(data, storage.dtype, count, data.tell())
        data.seek(storage.data.nbytes, os.SEEK_CUR)
    return state
