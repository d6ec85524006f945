"""BERT's encoder, as google-research/bert's modeling.py computes it.

The letters of all shapes:
  B  batch: sequences
  F  from: positions that attend           T  to: positions attended to (T = F here)
  N  attention heads                       H  size of a head
  E  hidden size, N * H                    I  intermediate size
  V  words in the vocabulary
Inside the encoder a batch is one matrix [B*F, E]: its dense layers are then plain matrix
products, and the gradient of a kernel is one as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bert_tf.config import BertConfig
from bert_tf.dropout import Dropout, dropout_seed
from bert_tf.encoder import Encoder
from bert_tf.layers import Block, Dense, LayerNorm, initializer

__all__ = ["BertModel", "checkpoint_name", "dropout_seed"]


class Embeddings(Block):
    """Word + segment + position, normalized: ids [B, F] -> [B*F, E] (Devlin et al., figure 2)."""

    def __init__(
        self, config: BertConfig, use_one_hot_embeddings=False, name="embeddings", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.config = config
        self.use_one_hot_embeddings = use_one_hot_embeddings
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def build(self, input_shape=None):
        config = self.config
        self.word_embeddings = self._table(
            "word_embeddings", config.vocab_size, self.variable_dtype
        )
        self.token_type_embeddings = self._table("token_type_embeddings", config.type_vocab_size)
        self.position_embeddings = self._table(
            "position_embeddings", config.max_position_embeddings
        )
        if config.task_type_vocab_size:  # ERNIE 3.0's
            self.task_type_embeddings = self._table(
                "task_type_embeddings", config.task_type_vocab_size
            )
        super().build()

    def _table(self, name: str, rows: int, dtype="float32"):
        # Looked up as it is and summed in float32 under every precision policy: casting V rows to
        # look up a few would cost more than the lookup.
        return self.add_weight(
            shape=(rows, self.config.hidden_size),
            initializer=initializer(self.config.initializer_range),
            name=name,
            dtype=dtype,
            autocast=False,
        )

    def call(self, input_ids, segment_ids, position_ids=None, training=False):
        length = input_ids.shape[1]
        too_long = length is not None and length > self.config.max_position_embeddings
        if too_long and position_ids is None:
            raise ValueError(
                f"sequences of {length} tokens exceed this model's "
                f"{self.config.max_position_embeddings} positions; truncate them"
            )
        words = self._words(tf.convert_to_tensor(self.word_embeddings), input_ids)
        words = tf.cast(words, tf.float32)
        segments = tf.matmul(
            tf.one_hot(segment_ids, self.config.type_vocab_size), self.token_type_embeddings
        )
        table = tf.convert_to_tensor(self.position_embeddings)
        if position_ids is None:
            positions = table[: tf.shape(input_ids)[1]]  # [F, E]
        else:
            # Reshaped, the gradient is dense, as it is without position_ids: the optimizer clips
            # by the norm of a matrix, not of a row for each token.
            table = tf.reshape(table, table.shape)
            positions = tf.gather(table, position_ids)  # [B, F, E]
        if self.config.task_type_vocab_size:
            positions += self.task_type_embeddings[:1]  # of task 0, as ERNIE is fine-tuned
        x = tf.reshape(words + segments + positions, [-1, self.config.hidden_size])
        return self.dropout(self.layer_norm(x), training=training)  # [B*F, E]

    def _words(self, table, input_ids):
        if self.use_one_hot_embeddings:
            return tf.matmul(
                tf.one_hot(input_ids, self.config.vocab_size, dtype=table.dtype), table
            )
        # Its gradient keeps a row for each token: Google's optimizer clips by the norm of those.
        return tf.gather(table, input_ids)


class Pooler(Block):
    """A dense layer with tanh on the first token: [B, F, E] -> [B, E]."""

    def __init__(self, config: BertConfig, name="pooler", **kwargs):
        super().__init__(name=name, **kwargs)
        size = config.hidden_size
        self.dense = Dense(size, size, config.initializer_range, "tanh")

    def call(self, x):
        # Not x[:, 0], which a batch of no rows and no columns does not have.
        return self.dense(tf.reshape(x[:, :1], [tf.shape(x)[0], x.shape[-1]]))


@keras.saving.register_keras_serializable("bert_tf")
class BertModel(Block):
    """BERT as a Keras layer whose variables bear Google's names (google-research/bert, BertModel).

    `bert = BertModel(config)` and then `bert({"input_ids": ..., "input_mask": ...,
    "segment_ids": ...}, training=False)`, all integers [B, F]. The mask (1 real, 0 padding) and
    the segments may be left out: ones, zeros. Where several texts share a row, `position_ids`
    [B, F] count from 0 in each, and `input_mask` is [B, F, T]: what each position sees. Hugging
    Face's `attention_mask` and `token_type_ids` are taken for the mask and the segments. Returns a
    dict:

      sequence_output   [B, F, E]  of the last layer
      pooled_output     [B, E]     of the first token, unless `add_pooler=False`
      encoder_outputs   list of one [B, F, E] for each layer
      embedding_output  [B, F, E]

    `use_one_hot_embeddings` looks the words up by a matrix product, as Google's does for TPUs.
    They have the policy's compute dtype. `build()` makes the variables without any input. The
    getters keep the outputs of the latest eager call in memory, all layers', until the next call.

    Raises:
      TypeError: the arguments are those of Google's constructor, which also called the model.
      ValueError: ids that are not integers, sequences longer than the positions, or an input with
        an unknown name.
      tf.errors.InvalidArgumentError: an id that is not in the vocabulary, on a CPU; compiled by
        XLA the nearest id is taken instead, so check ids where they are made. Check segments
        there too: one of `type_vocab_size` or more (any pair, where that is 1) is no error, but
        adds nothing to the sum.
    """

    def __new__(cls, *args, **kwargs):
        # Google's is BertModel(config, is_training, input_ids, input_mask, token_type_ids, ...).
        theirs = {"is_training", "input_ids", "input_mask", "token_type_ids", "scope"}
        are_flags = all(isinstance(flag, bool | np.bool_) for flag in args[1:3])
        if kwargs.keys() & theirs or len(args) > 4 or not are_flags:
            raise TypeError(
                "BertModel(config) makes the layer alone; call it afterwards: "
                f"bert({_INPUTS}, training=is_training). Google's scope is called name"
            )
        return super().__new__(cls, *args, **kwargs)

    def __init__(
        self,
        config: BertConfig,
        add_pooler: bool = True,
        use_one_hot_embeddings: bool = False,
        name="bert",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.config = config
        self.embeddings = Embeddings(config, use_one_hot_embeddings)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if add_pooler else None
        self._set_latest({})

    def __call__(self, inputs=None, *args, **kwargs):
        inputs = googles_names(inputs, _NAMES)
        outputs = super().__call__(inputs, *args, **kwargs)
        self._set_latest(outputs)
        return outputs

    def call(self, inputs, training=False):
        input_ids, input_mask, segment_ids = _model_inputs(inputs)
        position_ids = inputs.get("position_ids")

        def unflatten(x):  # [B*F, E] -> [B, F, E]
            return tf.reshape(x, [*_shape(input_ids), self.config.hidden_size])

        x = self.embeddings(input_ids, segment_ids, position_ids, training=training)
        layers = self.encoder(x, input_mask, training=training)
        outputs = {
            "sequence_output": unflatten(layers[-1]),
            "encoder_outputs": [unflatten(layer) for layer in layers],
            "embedding_output": unflatten(x),
        }
        if self.pooler is not None:
            outputs["pooled_output"] = self.pooler(outputs["sequence_output"])
        return outputs

    def freeze(self, num_layers: int) -> None:
        """Keeps the embeddings and the first layers as they are: they get no gradient.

        Raises:
          ValueError: there are fewer layers.
        """
        if num_layers > len(self.encoder.stack):
            raise ValueError(
                f"--freeze_layers={num_layers}: this model has {len(self.encoder.stack)} layers"
            )
        for part in (self.embeddings, *self.encoder.stack[:num_layers]):
            part.trainable = False

    def get_pooled_output(self):
        """[B, E], of the latest call, as the next three."""
        return self._latest_output("pooled_output")

    def get_sequence_output(self):
        """[B, F, E]."""
        return self._latest_output("sequence_output")

    def get_all_encoder_layers(self):
        """A list of one [B, F, E] for each layer."""
        return self._latest_output("encoder_outputs")

    def get_embedding_output(self):
        """[B, F, E], after LayerNorm and dropout."""
        return self._latest_output("embedding_output")

    def get_embedding_table(self):
        """The word embeddings, a variable [V, E]."""
        return self.embeddings.word_embeddings

    def _set_latest(self, outputs):
        # Past Keras's attribute tracking: these are tensors, no part of the layer's state.
        self.__dict__["_latest"] = outputs

    def _latest_output(self, name):
        if name not in self._latest:
            why = "it has no pooler" if self._latest else "it was not called yet"
            raise ValueError(f"{self.name} has no {name}: {why}")
        return self._latest[name]

    def get_config(self):
        return {
            **super().get_config(),
            "config": self.config.to_dict(),
            "add_pooler": self.pooler is not None,
            "use_one_hot_embeddings": self.embeddings.use_one_hot_embeddings,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": BertConfig.from_dict(config["config"])})


_NAMES = ("input_ids", "input_mask", "segment_ids", "position_ids")
_INPUTS = '{"input_ids": [B, F], "input_mask": [B, F], "segment_ids": [B, F]}'
_CALL = f"BertModel is called with a dict: {_INPUTS}; the last two may be left out"
_SYNONYMS = {"attention_mask": "input_mask", "token_type_ids": "segment_ids"}  # Hugging Face's


def googles_names(inputs: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return a model's inputs under Google's names, which `known` lists; checks that they are all.

    Raises:
      ValueError: they are no dict, or one of them is unknown or there twice.
    """
    if not isinstance(inputs, dict):
        raise ValueError(_CALL)
    named = {}
    for name, value in inputs.items():
        ours = _SYNONYMS.get(name, name)
        if ours not in known:
            raise ValueError(f"the input {name!r} is not known; use {', '.join(known)}")
        if ours in named:
            raise ValueError(f"{ours} and Hugging Face's name for it are both given; give one")
        named[ours] = value
    return named


def _model_inputs(inputs):
    """input_ids, input_mask and segment_ids, each [B, F], from the dict a caller gave."""
    if inputs.get("input_ids") is None:
        raise ValueError(_CALL)
    for name, ids in inputs.items():
        if ids is not None and not tf.as_dtype(ids.dtype).is_integer:
            raise ValueError(f"{name} is {ids.dtype}; integers are expected")
    input_ids = tf.convert_to_tensor(inputs["input_ids"])
    mask, segments = inputs.get("input_mask"), inputs.get("segment_ids")
    mask = tf.ones_like(input_ids) if mask is None else mask
    segments = tf.zeros_like(input_ids) if segments is None else segments
    return input_ids, mask, segments


def _shape(x):
    """The static shape where it is known, else the dynamic one: [B, F]."""
    return x.shape if x.shape.is_fully_defined() else tf.unstack(tf.shape(x))


_ENCODER_PATH = re.compile(r"(?:^|/)((?:embeddings|encoder/layer_\d+|pooler)/.*)$")
_HEAD_PATH = re.compile(r"(?:^|/)((?:cls|crf)/.*)$|(?:^|/)classifier/(output_(?:weights|bias))$")


def checkpoint_name(variable) -> str:
    """Google's name of a variable of our models: its path, free of what the user's model adds.

    `bert/encoder/layer_0/attention/self/query/kernel`, `cls/squad/output_weights`; those of
    `heads.classifier` and `heads.tagger` have no scope: `output_weights`, `output_bias`; of a CRF
    `crf/transitions`. Variables of other layers keep their path.
    """
    if match := _ENCODER_PATH.search(variable.path):
        return f"bert/{match[1]}"
    if match := _HEAD_PATH.search(variable.path):
        return match[1] or match[2]
    return variable.path
