"""Which family a checkpoint is of, told by its name and then by what is in it, and its weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bert_tf.checkpoints import google, location, scopes
from bert_tf.config import BertConfig


class Contents(NamedTuple):
    """Tensors under Google's names; the family; what was found besides its own way, in words."""

    tensors: dict[str, np.ndarray]
    family: str
    notes: tuple[str, ...] = ()


def read(weights: str, optimizer_state: bool = True) -> Contents:
    """What is in a file or under a prefix that `locate` found; see `checkpoints.contents`.

    Raises:
      ValueError: as `checkpoints.read`; or the tensors, of sizes that fit the file, do not fit
        into memory.
    """
    try:
        return _read(weights, optimizer_state)
    except MemoryError as error:
        raise ValueError(
            f"{weights} needs more memory than there is; end other programs, or use a machine "
            "with more memory"
        ) from error
    except ValueError as error:
        if weights in str(error):
            raise
        raise type(error)(f"{weights}: {error}") from error


def _read(weights: str, optimizer_state: bool) -> Contents:
    kind = location.kind_of(weights)
    if kind == location.HUGGING_FACE:
        from bert_tf.checkpoints import huggingface

        return huggingface.contents(weights)
    if kind == location.KERAS:
        return _keras(weights)
    if kind == location.PADDLE:
        from bert_tf.checkpoints import paddle

        return Contents(paddle.read(weights), "ERNIE (PaddlePaddle)")
    if google.is_object_based(weights):
        from bert_tf.checkpoints import model_garden

        saved = weights.endswith(location.SAVED_VARIABLES)
        family = "SavedModel (TF-Hub)" if saved else "TensorFlow Model Garden"
        slots = model_garden.count_slots(weights)
        notes = (f"{slots} of the optimizer's tensors left out",) if slots else ()
        return Contents(model_garden.read(weights), family, notes)
    plan = scopes.plan(google.tensor_names(weights))
    tensors = google.read(weights, optimizer_state, plan.sources)
    return Contents(tensors, "TensorFlow 1 (google-research/bert)", plan.notes)


def _keras(weights: str) -> Contents:
    from bert_tf.checkpoints import keras_families, keras_h5

    if weights.endswith(".h5") and (tensors := keras_h5.read(weights)) is not None:
        return Contents(tensors, "Keras weights of bert_tf")
    family, tensors, notes = keras_families.read(weights)
    return Contents(tensors, family, notes)


def saved_model_config(prefix: str) -> BertConfig | None:
    """The config of a SavedModel on TF-Hub, by its weights' shapes; None if it is no SavedModel.

    What shapes do not tell is as in Google's releases: GELU in the tanh form, epsilon 1e-12.

    Raises:
      ValueError: the number of heads is not to be seen.
    """
    if not prefix.endswith(location.SAVED_VARIABLES) or not google.is_object_based(prefix):
        return None
    from bert_tf.checkpoints import model_garden

    sizes = model_garden.sizes(prefix)
    if "num_attention_heads" not in sizes:
        raise ValueError(
            f"{prefix} does not tell how many attention heads there are; put a bert_config.json "
            "beside saved_model.pb"
        )
    return BertConfig.from_dict(sizes)
