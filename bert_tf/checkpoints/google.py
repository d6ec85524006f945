"""Google's format: TensorFlow 1 checkpoints, tensors under their variables' names.

`PREFIX.index` and `PREFIX.data-00000-of-00001`, byte for byte what `tf.compat.v1.train.Saver`
writes. TensorFlow keeps a CRC-32C of every tensor and index block and checks it on reading.
"""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.io import gfile

from bert_tf import filesystem
from bert_tf.checkpoints.files import damaged, size, staged
from bert_tf.checkpoints.names import is_optimizer_state

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


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
    return int(open_file.get_tensor("global_step")) if "global_step" in by_name else 0


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


def _open(prefix: str) -> tuple[Any, dict[str, list[int]]]:
    """A reader and the shapes by name."""
    open_file = reader(prefix)
    by_name = open_file.get_variable_to_shape_map()
    if _OBJECT_GRAPH in by_name:
        raise ValueError(
            f"{prefix} was written by tf.train.Checkpoint, whose names depend on the program that "
            "wrote it; write it there with tf.compat.v1.train.Saver or as .safetensors"
        )
    return open_file, by_name


def reader(prefix: str) -> Any:
    """TensorFlow's reader of a checkpoint; a `DamagedCheckpointError` if it cannot be opened."""
    index = f"{prefix}.index"
    size(index)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(filesystem.plain_name(prefix))
        try:
            opened = tf.compat.v1.train.NewCheckpointReader(path)
            opened.get_variable_to_shape_map()
        except Exception as error:  # the reader raises OpError, IndexError, RuntimeError, ...
            raise damaged(index, error) from error
        # The data files are opened when they are needed.
        weakref.finalize(opened, stack.pop_all().close)
    return opened


def _tensors(
    prefix: str, optimizer_state: bool, wanted: Collection[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    open_file, by_name = _open(prefix)
    yield from tensors(prefix, open_file, by_name, optimizer_state, wanted)


def tensors(
    prefix: str,
    open_file: Any,
    by_name: Mapping[str, list[int]],
    optimizer_state: bool = True,
    wanted: Collection[str] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of an open checkpoint one by one, all of `by_name` or those `wanted`."""
    data_files = _data_files(prefix)
    if not data_files:
        raise damaged(f"{prefix}.data-00000-of-00001", "the file is missing")
    types = open_file.get_variable_to_dtype_map()
    needed = sum(math.prod(shape) * types[name].size for name, shape in by_name.items())
    present = sum(map(size, data_files))
    if needed > present:
        raise damaged(data_files[0], f"{present} bytes of data where {needed} are indexed")
    for name in sorted(by_name if wanted is None else wanted):
        if optimizer_state or not is_optimizer_state(name):
            try:
                yield name, open_file.get_tensor(name)
            except Exception as error:  # as above
                raise damaged(data_files[0], f"tensor {name}: {error}") from error
