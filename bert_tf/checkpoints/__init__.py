"""Checkpoints of every kind under one set of names, Google's.

`read` gives arrays, `load` puts them into a model, `from_pretrained` makes the model, `save`
writes one of four formats. Imports of TensorFlow wait until one of them is called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from absl import logging

from bert_tf.checkpoints import location
from bert_tf.checkpoints.labels import noted_task_type, saved_labels, saved_task
from bert_tf.checkpoints.location import Location, locate
from bert_tf.checkpoints.report import LoadReport
from bert_tf.checkpoints.saving import refuse_replacing, save, save_description

if TYPE_CHECKING:
    import keras
    import numpy as np

    from bert_tf.checkpoints.families import Contents
    from bert_tf.config import BertConfig
    from bert_tf.modeling import BertModel
    from bert_tf.tokenization import Tokenizer

__all__ = [
    "LoadReport",
    "Location",
    "architecture",
    "config_of",
    "contents",
    "from_pretrained",
    "global_step",
    "load",
    "locate",
    "noted_task_type",
    "read",
    "refuse_replacing",
    "save",
    "save_description",
    "saved_labels",
    "saved_task",
]


def read(path: str | os.PathLike[str], optimizer_state: bool = True) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, as numpy arrays under Google's names.

    Args:
      path: a folder, a prefix or a file; see `locate`.
      optimizer_state: whether Adam's slots and global_step are read too, where there are any.

    Raises:
      DamagedCheckpointError: a file is truncated or corrupted; the message names it.
      ValueError: there is no checkpoint, or it is refused; the message says why.
    """
    return contents(path, optimizer_state).tensors


def contents(path: str | os.PathLike[str], optimizer_state: bool = True) -> Contents:
    """As `read`, with the family, and what was found that is not the family's own way.

    Raises:
      ValueError: as `read`.
    """
    from bert_tf.checkpoints import families

    return families.read(_weights(path), optimizer_state)


def _weights(path: str | os.PathLike[str]) -> str:
    weights = locate(path).weights
    if weights is None:
        raise ValueError(
            f"{os.fspath(path)} holds no weights; bert_model.ckpt.index, saved_model.pb, "
            "model.safetensors, pytorch_model.bin, *.h5 and *.pdparams were looked for"
        )
    return weights


def load(
    model: keras.layers.Layer, path: str | os.PathLike[str], allow_partial: bool = False
) -> LoadReport:
    """Sets a model's weights from a checkpoint; the report accounts for each of them.

    Weights the file lacks stay as they are, a head with another number of labels too.

    Args:
      model: a BertModel, a model from `heads`, or any Keras model that holds one BertModel.
      path: as in `read`.
      allow_partial: accept an encoder (embeddings and layers) that is not completely there.

    Raises:
      ValueError: as `read`, or the encoder is incomplete; the model is unchanged then.
    """
    from bert_tf.checkpoints.loading import assign

    found = contents(path, optimizer_state=False)
    return assign(model, found.tensors, os.fspath(path), allow_partial, found.notes)


def architecture(path: str | os.PathLike[str]) -> tuple[BertConfig, Tokenizer]:
    """A checkpoint's config and its tokenizer, from the files beside the weights.

    Whether the tokenizer lower-cases is decided as `Location.lower_cases` says.

    Raises:
      ValueError: one is missing or they do not fit each other; the message names it.
    """
    from bert_tf import tokenization

    place = locate(path)
    config = config_of(place)
    if config is None:
        raise ValueError(_absent(path, "bert_config.json or config.json"))
    wanted = f"{location.VOCAB_FILE} or {location.SPM_MODEL_FILE}"
    if not place.tokenizer_file:
        raise ValueError(_absent(path, wanted))
    tokenizer = tokenization.create_tokenizer(
        **place.tokenizer_file,
        do_lower_case=place.lower_cases,
        keep_special_tokens=place.keep_special_tokens,
    )
    tokenizer.check_model(config.vocab_size, place.config_file or "the checkpoint")
    return config, tokenizer


def from_pretrained(
    path: str | os.PathLike[str],
) -> tuple[BertConfig, Tokenizer, BertModel]:
    """A checkpoint's config, its tokenizer, and its encoder, built and loaded.

    Where the checkpoint has no pooler, neither has the model: nothing in it is random.

    Raises:
      ValueError: as `architecture`, or a weight of the encoder is missing or of another shape.
    """
    from bert_tf import modeling
    from bert_tf.checkpoints.loading import assign

    config, tokenizer = architecture(path)
    found = contents(path, optimizer_state=False)
    model = modeling.BertModel(config, add_pooler="bert/pooler/dense/kernel" in found.tensors)
    assign(model, found.tensors, os.fspath(path))
    for note in found.notes:
        logging.info("%s: %s", os.fspath(path), note)
    return config, tokenizer, model


def config_of(place: Location) -> BertConfig | None:
    """The config beside the weights; of a SavedModel, which has none, what its weights say.

    Raises:
      ValueError: the file is no BERT's config, or the config of a much larger one than the
        weights; or the weights do not tell.
    """
    from bert_tf.config import BertConfig

    kind = location.kind_of(place.weights or "")
    if place.config_file is not None:
        config = BertConfig.from_json_file(place.config_file, of_paddle=kind == location.PADDLE)
        location.check_size(config, place, place.config_file)
        return config
    if place.weights is None or kind != location.GOOGLE:
        return None
    from bert_tf.checkpoints import families

    return families.saved_model_config(place.weights)


def _absent(path: str | os.PathLike[str], wanted: str) -> str:
    return f"{os.fspath(path)} has no {wanted} beside its weights; put it there"


def global_step(path: str | os.PathLike[str]) -> int:
    """The training step that a checkpoint notes; 0 where it notes none."""
    from bert_tf.checkpoints import google

    weights = locate(path).weights
    if weights is None or location.kind_of(weights) != location.GOOGLE:
        return 0
    return google.global_step(weights)
