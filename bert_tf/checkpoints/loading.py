"""Weights under Google's names into a model, and out of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bert_tf.checkpoints.names import is_encoder, is_optimizer_state
from bert_tf.checkpoints.report import LoadReport, incomplete
from bert_tf.modeling import checkpoint_name


def named_weights(model: keras.layers.Layer) -> dict[str, Any]:
    """A model's weights under Google's names.

    Weights of a user's own layers, where they would share a name, keep their path in the model.

    Raises:
      ValueError: the model holds two encoders.
    """
    if not model.built:
        model.build()
    weights = [(checkpoint_name(weight), weight) for weight in model.weights]
    counts = Counter(name for name, _ in weights)
    if twice := [name for name in counts if counts[name] > 1 and name.startswith("bert/")]:
        raise ValueError(f"the model holds {twice[0]} more than once; load each encoder by itself")
    return {name if counts[name] == 1 else weight.path: weight for name, weight in weights}


def assign(
    model: keras.layers.Layer,
    tensors: Mapping[str, np.ndarray],
    source: str,
    allow_partial: bool = False,
    notes: tuple[str, ...] = (),
) -> LoadReport:
    """Sets a model's weights from tensors under Google's names.

    `source` is for messages, and `notes` for the report.

    Raises:
      ValueError: the encoder is not completely there, or (even with `allow_partial`) not at all.
        The model is unchanged then.
    """
    weights = named_weights(model)
    missing = sorted(weights.keys() - tensors.keys())
    mismatched = tuple(
        (name, tuple(weights[name].shape), tensors[name].shape)
        for name in sorted(weights.keys() & tensors.keys())
        if tuple(weights[name].shape) != tensors[name].shape
    )
    loaded = sorted(weights.keys() - set(missing) - {name for name, *_ in mismatched})
    unexpected = sorted(n for n in tensors.keys() - weights.keys() if not is_optimizer_state(n))
    sizes = {name: math.prod(x.shape) for name, x in weights.items() if is_encoder(name)}
    found = sum(sizes[name] for name in loaded if name in sizes)
    percent = 100 * found / max(1, sum(sizes.values()))
    report = LoadReport(
        source, tuple(loaded), tuple(missing), tuple(unexpected), mismatched, percent, notes
    )
    if found == 0 or not (allow_partial or sizes.keys() <= set(loaded)):
        raise ValueError(incomplete(report))
    for name in loaded:
        weights[name].assign(_contiguous(tensors[name]))
    return report


def _contiguous(tensor: np.ndarray) -> np.ndarray | tf.Tensor:
    """What was read as a view of its transpose, turned by TensorFlow: in half of numpy's time."""
    if tensor.ndim == 2 and tensor.T.flags.c_contiguous and not tensor.flags.c_contiguous:
        return tf.transpose(tensor.T)
    return tensor
