"""`.weights.h5`: what Keras's `load_weights` reads, and Google's names beside it.

Keras finds weights by where they sit in a model's layers. So that they can also be read without
the model, each dataset bears two attributes: Google's name and a checksum of its contents.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import google_crc32c
import h5py
import keras
import numpy as np

from bert_tf import filesystem, heads
from bert_tf.checkpoints import hdf5
from bert_tf.checkpoints.files import damaged, reading, staged
from bert_tf.checkpoints.loading import assign, named_weights
from bert_tf.checkpoints.names import is_optimizer_state
from bert_tf.config import BertConfig
from bert_tf.modeling import BertModel

_NAME, _CHECKSUM, _COUNT = "bert_tf_name", "bert_tf_crc32c", "bert_tf_count"
_BLOCK = 1 << 20  # bytes


def read(path: str) -> dict[str, np.ndarray] | None:
    """Weights under Google's names, from a file that `write` wrote; None if another wrote it.

    Raises:
      DamagedCheckpointError: the file is missing, truncated or corrupted.
    """
    tensors: dict[str, np.ndarray] = {}
    with reading(path) as (local, allowance), hdf5.opened(local, allowance) as file:
        count = file.attribute(file.groups[""], _COUNT)
        for dataset in file.datasets.values():
            if (name := file.attribute(dataset, _NAME)) is not None:
                if not isinstance(name, str):
                    raise ValueError(f"the {_NAME} of {dataset.name} is no text")
                allowance.take(0, name)
                tensor = tensors[name] = file.value(dataset, name)
                if _checksum(tensor, name) != file.attribute(dataset, _CHECKSUM):
                    raise ValueError(f"{name} does not match its checksum")
    if count is None and not tensors:
        return None
    if len(tensors) != count:
        raise damaged(path, f"{len(tensors)} tensors, but another number of them was written")
    return tensors


def write(
    path: str,
    source: Mapping[str, Any] | keras.layers.Layer,
    config: BertConfig,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Writes weights that the model `source`, or one made like it, loads with `load_weights`.

    A mapping goes into the model its names belong to: `heads.pretraining`, `heads.span`,
    `heads.classifier`, or a `keras.Model` of the encoder alone. What the mapping lacks (a pooler,
    say) is in the file for Keras's sake, newly initialised and without a name.

    Raises:
      ValueError: the names belong to no such model.
      OSError: as `google.write`.
    """
    if isinstance(source, Mapping):
        weights = {n: np.asarray(x) for n, x in source.items() if not is_optimizer_state(n)}
        model = _model_for(weights, config)
        report = assign(model, weights, path, allow_partial=True)
        if lost := [*report.unexpected, *(name for name, *_ in report.mismatched)]:
            raise ValueError(f"no model of bert_tf holds {', '.join(lost[:5])} of {path}")
        named = set(weights)
    else:
        model, named = source, None
    weights = {
        name: np.asarray(x)
        for name, x in named_weights(model).items()
        if named is None or name in named
    }
    base = os.path.basename(path)
    with staged(path, last=base) as staging:
        for name, contents in (beside or {}).items():
            filesystem.write_bytes(os.path.join(staging, name), contents)
        with filesystem.local_target(os.path.join(staging, base)) as local:
            keras.saving.save_weights(model, local)
            _add_names(local, weights)


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, x: found.append(x) if isinstance(x, h5py.Dataset) else None)
    return found


def _add_names(path: str, weights: Mapping[str, np.ndarray]) -> None:
    """Finds each weight's dataset by content: where two are alike, either name is right."""
    names = defaultdict(list)
    for name, tensor in weights.items():
        names[_digest(tensor)].append(name)
    with h5py.File(path, "r+") as file:
        for dataset in _datasets(file):
            tensor = hdf5.array(dataset)
            if alike := names[_digest(tensor)]:
                name = dataset.attrs[_NAME] = alike.pop()
                dataset.attrs[_CHECKSUM] = _checksum(tensor, name)
        file.attrs[_COUNT] = len(weights)
    if left := [name for group in names.values() for name in group]:
        raise ValueError(f"Keras did not write {', '.join(left[:5])}")


def _heading(tensor: np.ndarray, name: str) -> bytes:
    return f"{name} {tensor.dtype.str} {tensor.shape} ".encode()


def _checksum(tensor: np.ndarray, name: str) -> int:
    """CRC-32C, as Google's format has; of blocks, because the library wants a copy of each."""
    contents = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    checksum = google_crc32c.value(_heading(tensor, name))
    for start in range(0, len(contents), _BLOCK):
        checksum = google_crc32c.extend(checksum, bytes(contents[start : start + _BLOCK]))
    return checksum


def _digest(tensor: np.ndarray) -> bytes:
    """The same for what is the same, and for nothing else."""
    digest = hashlib.sha256(_heading(tensor, ""))
    digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _model_for(weights: Mapping[str, np.ndarray], config: BertConfig) -> keras.Model:
    if any(name.startswith(("cls/predictions/", "cls/seq_relationship/")) for name in weights):
        return heads.pretraining(config)
    if "cls/squad/output_weights" in weights:
        return heads.span(config)
    if "output_weights" in weights:
        return heads.classifier(config, len(weights["output_weights"]))
    names = ("input_ids", "input_mask", "segment_ids")
    inputs = {name: keras.Input([None], dtype="int32", name=name) for name in names}
    return keras.Model(inputs, BertModel(config, "bert/pooler/dense/kernel" in weights)(inputs))
