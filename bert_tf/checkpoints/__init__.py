"""Checkpoints of every kind under one set of names, Google's.

`read` gives arrays, `load` puts them into a model, `from_pretrained` makes the model, `save`
writes one of three formats. Imports of TensorFlow wait until one of them is called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bert_tf.checkpoints import location
from bert_tf.checkpoints.labels import saved_labels, saved_task
from bert_tf.checkpoints.location import Location, locate
from bert_tf.checkpoints.report import LoadReport
from bert_tf.checkpoints.saving import save, save_description

if TYPE_CHECKING:
    import keras
    import numpy as np

    from bert_tf.config import BertConfig
    from bert_tf.modeling import BertModel
    from bert_tf.tokenization import Tokenizer

__all__ = [
    "LoadReport",
    "Location",
    "architecture",
    "from_pretrained",
    "global_step",
    "load",
    "locate",
    "read",
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
    weights = locate(path).weights
    if weights is None:
        raise ValueError(
            f"{os.fspath(path)} holds no weights; bert_model.ckpt.index, model.safetensors, "
            "pytorch_model.bin and *.weights.h5 were looked for"
        )
    kind = location.format_of(weights) or location.GOOGLE
    if kind == location.HUGGING_FACE:
        from bert_tf.checkpoints import huggingface

        return huggingface.read(weights)
    if kind == location.KERAS:
        from bert_tf.checkpoints import keras_h5

        return keras_h5.read(weights)
    from bert_tf.checkpoints import google

    return google.read(weights, optimizer_state)


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

    return assign(model, read(path, optimizer_state=False), os.fspath(path), allow_partial)


def architecture(path: str | os.PathLike[str]) -> tuple[BertConfig, Tokenizer]:
    """A checkpoint's config and its tokenizer, from the files beside the weights.

    Whether the tokenizer lower-cases is decided as `locate(path).case_reason` says.

    Raises:
      ValueError: one is missing or they do not fit each other; the message names it.
    """
    from bert_tf import tokenization
    from bert_tf.config import BertConfig

    place = locate(path)
    config_file = _present(path, place.config_file, "bert_config.json or config.json")
    wanted = f"{location.VOCAB_FILE} or {location.SPM_MODEL_FILE}"
    _present(path, place.vocab_file or place.spm_model_file, wanted)
    config = BertConfig.from_json_file(config_file)
    tokenizer = tokenization.create_tokenizer(
        **place.tokenizer_file,
        do_lower_case=bool(place.do_lower_case),
        keep_special_tokens=place.keep_special_tokens,
    )
    tokenization.validate_vocab_size(tokenizer.vocab_file, tokenizer.num_tokens, config.vocab_size)
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
    tensors = read(path, optimizer_state=False)
    model = modeling.BertModel(config, add_pooler="bert/pooler/dense/kernel" in tensors)
    assign(model, tensors, os.fspath(path))
    return config, tokenizer, model


def _present(path: str | os.PathLike[str], file: str | None, wanted: str) -> str:
    if file is None:
        raise ValueError(f"{os.fspath(path)} has no {wanted} beside its weights; put it there")
    return file


def global_step(path: str | os.PathLike[str]) -> int:
    """The training step that a checkpoint notes; 0 where it notes none."""
    from bert_tf.checkpoints import google

    weights = locate(path).weights
    if weights is None or location.format_of(weights) not in (None, location.GOOGLE):
        return 0
    return google.global_step(weights)
