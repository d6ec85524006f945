"""Google's format: TensorFlow 1 checkpoints, tensors under their variables' names.

`PREFIX.index` and `PREFIX.data-00000-of-00001`, byte for byte what `tf.compat.v1.train.Saver`
writes. TensorFlow keeps a CRC-32C of every tensor and index block and checks it on reading.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.io import gfile

from bert_tf import filesystem
from bert_tf.checkpoints import index_table
from bert_tf.checkpoints.files import damaged, size, staged
from bert_tf.checkpoints.names import is_optimizer_state

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAX_TEXTS = 8 << 20  # bytes of a tensor of texts; the graph of BERT-large with Adam has 1 MB


def tensor_names(prefix: str) -> list[str]:
    """The names in a checkpoint's index; raises as `read` does."""
    return sorted(_open(prefix)[1])


def is_object_based(prefix: str) -> bool:
    """Whether `tf.train.Checkpoint` or `tf.saved_model.save` wrote it; raises as `read` does."""
    return _OBJECT_GRAPH in reader(prefix).get_variable_to_shape_map()


def read(
    prefix: str, optimizer_state: bool = True, sources: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by name; without slots and global_step on request.

    Args:
      prefix: without the ending of one of its files.
      optimizer_state: as `checkpoints.read`.
      sources: only these, name in the result -> name in the file; their own names by default.

    Raises:
      DamagedCheckpointError: a file is missing, truncated, or fails its checksums.
      ValueError: not a name-based checkpoint.
    """
    if sources is None:
        return dict(_tensors(prefix, optimizer_state))
    names = {source: name for name, source in sources.items()}
    wanted = {x for x in names if optimizer_state or not is_optimizer_state(names[x])}
    return {names[name]: tensor for name, tensor in _tensors(prefix, True, wanted)}


def verify(prefix: str) -> None:
    """Reads everything and keeps nothing; raises as `read` does."""
    for _ in _tensors(prefix, True):
        pass


def global_step(prefix: str) -> int:
    """The step of training at which it was written; 0 where the file does not say."""
    open_file = reader(prefix)
    by_name = open_file.get_variable_to_shape_map()
    if by_name.get("global_step") != []:
        return 0
    step = np.asarray(open_file.get_tensor("global_step"))
    return int(step) if step.dtype.kind in "iu" else 0


def write(
    prefix: str, tensors: Mapping[str, Any], beside: Mapping[str, bytes] | None = None
) -> None:
    """Writes tensors (arrays or variables, by name) so that Google's code can load them.

    Args:
      prefix: for instance `out/model.ckpt-20`.
      tensors: name -> numpy array, tf.Variable or Keras variable.
      beside: further small files for the same folder, name -> contents.

    Raises:
      OSError: the disk is full, the folder not writable, ...; nothing is left behind.
    """
    names = sorted(tensors)  # the Saver's order
    base = os.path.basename(prefix)
    with staged(prefix, last=f"{base}.index") as staging, tf.device("CPU:0"):
        for name, contents in (beside or {}).items():
            filesystem.write_bytes(os.path.join(staging, name), contents)
        tf.raw_ops.SaveV2(
            prefix=os.path.join(staging, base),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.convert_to_tensor(tensors[name]) for name in names],
        )


def delete(prefix: str) -> None:
    """Removes a checkpoint's files, the index first: half a deletion is no checkpoint."""
    for path in (f"{prefix}.index", *_data_files(prefix)):
        if gfile.exists(path):
            gfile.remove(path)


def _data_files(prefix: str) -> list[str]:
    return filesystem.beside(prefix, ".data-")


def _open(prefix: str) -> tuple[Reader, dict[str, list[int]]]:
    """A reader and the shapes by name."""
    open_file = reader(prefix)
    by_name = open_file.get_variable_to_shape_map()
    if _OBJECT_GRAPH in by_name:
        raise ValueError(
            f"{prefix} was written by tf.train.Checkpoint, whose names depend on the program that "
            "wrote it; write it there with tf.compat.v1.train.Saver or as .safetensors"
        )
    return open_file, by_name


class Reader:
    """TensorFlow's reader of a checkpoint whose index has been checked."""

    def __init__(self, prefix: str, index: index_table.Index):
        self._prefix = prefix
        self._index = index
        plain = contextlib.ExitStack()
        weakref.finalize(self, plain.close)  # the data files are opened when they are needed
        self._opened = tf.compat.v1.train.NewCheckpointReader(
            plain.enter_context(filesystem.plain_name(prefix))
        )
        self._checked_data = False
        self.get_variable_to_shape_map = self._opened.get_variable_to_shape_map
        self.get_variable_to_dtype_map = self._opened.get_variable_to_dtype_map
        self.get_variable_to_shape_map()

    def get_tensor(self, name: str) -> Any:
        """Return a tensor's value, an array or bytes.

        Raises:
          DamagedCheckpointError: a file of data is missing, truncated, or fails its checksums.
        """
        if not self._checked_data:
            self._check_data()
        data_file = self._prefix + next(iter(self._index.data_sizes))
        try:
            entry = self._index.entries[name]
            if entry.dtype == tf.string.as_datatype_enum:
                self._check_texts(entry)
            return self._opened.get_tensor(name)
        except MemoryError:
            raise
        except Exception as error:  # the reader raises OpError, IndexError, RuntimeError, ...
            raise damaged(data_file, f"tensor {name}: {error}") from error

    def _check_data(self) -> None:
        present = 0
        for ending, needed in self._index.data_sizes.items():
            found = size(self._prefix + ending)
            present += found
            if found < needed:
                raise damaged(
                    self._prefix + ending, f"{found} bytes of data where {needed} are indexed"
                )
        if self._index.stored > present:
            raise damaged(
                f"{self._prefix}.index",
                f"tensors of {self._index.stored} bytes in {present} bytes of data",
            )
        self._checked_data = True

    def _check_texts(self, entry: Any) -> None:
        if entry.size > _MAX_TEXTS or entry.slices:
            raise ValueError(f"texts of {entry.size} bytes")
        path = self._prefix + self._index.file_of(entry)
        with gfile.GFile(path, "rb") as file:
            file.seek(entry.offset)
            index_table.check_texts(entry, file.read(entry.size))


def reader(prefix: str) -> Reader:
    """A reader of a checkpoint; a `DamagedCheckpointError` if it cannot be opened."""
    path = f"{prefix}.index"
    size(path)
    contents = filesystem.read_bytes(path, index_table.MAX_BYTES)
    try:
        return Reader(prefix, index_table.parse(contents))
    except MemoryError:
        raise
    except Exception as error:  # the reader raises OpError, IndexError, RuntimeError, ...
        raise damaged(path, error) from error


def _tensors(
    prefix: str, optimizer_state: bool, wanted: Collection[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    open_file, by_name = _open(prefix)
    yield from tensors(open_file, by_name, optimizer_state, wanted)


def tensors(
    open_file: Reader,
    by_name: Collection[str],
    optimizer_state: bool = True,
    wanted: Collection[str] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of an open checkpoint one by one, all of `by_name` or those `wanted`."""
    for name in sorted(by_name if wanted is None else wanted):
        if optimizer_state or not is_optimizer_state(name):
            yield name, open_file.get_tensor(name)
