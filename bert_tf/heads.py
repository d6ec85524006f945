"""Models for tasks: BERT with a classifier, a span, a tagger or the pre-training heads on top.

Each function returns a functional `keras.Model` that takes a dict of int32 `input_ids`,
`input_mask` and `segment_ids` [B, F] and returns a dict of float32 logits. Its encoder is
`model.bert`. Shape letters are those of `modeling.py`; L is the number of labels and M the number
of masked positions.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from bert_tf.config import BertConfig
from bert_tf.crf import CRF, NAMES
from bert_tf.dropout import Dropout
from bert_tf.layers import Block, Dense, LayerNorm, initializer
from bert_tf.modeling import BertModel, googles_names

_FLOAT32 = {"dtype": "float32", "autocast": False}  # a variable's, under every precision policy


@keras.saving.register_keras_serializable("bert_tf")
class TaskModel(keras.Model):
    """A functional model that knows its encoder, and whose inputs go by their names.

    Hugging Face's names are taken as by `BertModel`; an unknown one raises ValueError. (A plain
    functional model with a name too many takes all of them in another order, with a warning.)
    """

    def __call__(self, inputs, *args, **kwargs):
        if isinstance(inputs, dict):
            inputs = googles_names(inputs, self.input)
        return super().__call__(inputs, *args, **kwargs)

    def predict(self, *args, **kwargs):
        """As Keras's; a CRF's own scores, which are of no row, are there once."""
        outputs = super().predict(*args, **kwargs)
        labels = outputs["logits"].shape[-1] if "logits" in outputs else 0
        return {name: x[:labels] if name in NAMES else x for name, x in outputs.items()}

    @property
    def bert(self) -> BertModel:
        return next(x for x in self._flatten_layers() if isinstance(x, BertModel))


@keras.saving.register_keras_serializable("bert_tf")
class Logits(Block):
    """`x @ output_weights^T + output_bias` in float32: [..., E] -> [..., L], Google's layout."""

    def __init__(self, num_labels: int, size: int, stddev: float = 0.02, **kwargs):
        super().__init__(**kwargs)
        self.num_labels, self.size, self.stddev = num_labels, size, stddev

    def build(self, input_shape=None):
        self.output_weights = self.add_weight(
            shape=(self.num_labels, self.size),
            initializer=initializer(self.stddev),
            name="output_weights",
            **_FLOAT32,
        )
        self.output_bias = self.add_weight(
            shape=(self.num_labels,), initializer="zeros", name="output_bias", **_FLOAT32
        )
        super().build()

    def call(self, x):
        weights = tf.convert_to_tensor(self.output_weights)
        return tf.matmul(tf.cast(x, tf.float32), weights, transpose_b=True) + self.output_bias

    def get_config(self):
        sizes = {"num_labels": self.num_labels, "size": self.size, "stddev": self.stddev}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable("bert_tf")
class SpanHead(Block):
    """Start and end scores of every position: [B, F, E] -> two [B, F] (run_squad.py)."""

    def __init__(self, size: int, name="cls", **kwargs):
        super().__init__(name=name, **kwargs)
        self.size = size
        self.squad = Logits(2, size, name="squad")

    def call(self, sequence_output):
        start_logits, end_logits = tf.unstack(self.squad(sequence_output), axis=-1)
        return {"start_logits": start_logits, "end_logits": end_logits}

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class MaskedLanguageModel(Block):
    """Scores of all words at [B, M] positions (run_pretraining.py, get_masked_lm_output)."""

    def __init__(self, config: BertConfig, name="predictions", **kwargs):
        super().__init__(name=name, **kwargs)
        self.vocab_size = config.vocab_size
        self.transform = Transform(config)

    def build(self, input_shape=None):
        self.output_bias = self.add_weight(
            shape=(self.vocab_size,), initializer="zeros", name="output_bias", **_FLOAT32
        )
        super().build()

    def call(self, sequence_output, positions, embedding_table):
        x = tf.gather(sequence_output, positions, batch_dims=1)  # [B, M, E]
        x = self.transform(tf.reshape(x, [-1, x.shape[-1]]))  # [B*M, E]
        table = tf.cast(tf.convert_to_tensor(embedding_table), x.dtype)
        logits = tf.cast(tf.matmul(x, table, transpose_b=True), tf.float32)  # [B*M, V]
        masks = tf.unstack(tf.shape(positions))
        return tf.reshape(logits + self.output_bias, [*masks, self.vocab_size])


class Transform(Block):
    """The layer before the vocabulary: [B*M, E] -> [B*M, E]."""

    def __init__(self, config: BertConfig, name="transform", **kwargs):
        super().__init__(name=name, **kwargs)
        size = config.hidden_size
        self.dense = Dense(size, size, config.initializer_range, config.hidden_act)
        self.layer_norm = LayerNorm(size, config.layer_norm_eps)

    def call(self, x):
        return self.layer_norm(self.dense(x))


class PretrainingHeads(Block):
    """Masked words and next sentence."""

    def __init__(self, config: BertConfig, next_sentence: bool = True, name="cls", **kwargs):
        super().__init__(name=name, **kwargs)
        self.predictions = MaskedLanguageModel(config)
        if next_sentence:
            self.seq_relationship = Logits(
                2, config.hidden_size, config.initializer_range, name="seq_relationship"
            )


@keras.saving.register_keras_serializable("bert_tf")
class Pretraining(Block):
    """BERT with its pre-training heads, in one layer because they share the word embeddings."""

    def __init__(self, config: BertConfig, next_sentence=True, name="pretraining", **kwargs):
        super().__init__(name=name, **kwargs)
        self.config, self.next_sentence = config, next_sentence
        self.bert = BertModel(config, add_pooler=next_sentence)
        self.cls = PretrainingHeads(config, next_sentence)

    def call(self, inputs, training=False):
        inputs = dict(inputs)
        starts = inputs.pop("cls_positions", None)
        if starts is not None:
            inputs["input_mask"] = _of_own_text(inputs["input_mask"])
        positions = inputs.pop("masked_lm_positions")
        outputs = self.bert(inputs, training=training)
        sequence = outputs["sequence_output"]
        table = self.bert.get_embedding_table()
        words = self.cls.predictions(sequence, positions, table)
        logits = {"masked_lm_logits": words}
        if self.next_sentence:
            logits["next_sentence_logits"] = self._next_sentence(outputs, starts)
        return logits

    def _next_sentence(self, outputs, starts):
        if starts is None:
            return self.cls.seq_relationship(outputs["pooled_output"])
        first = tf.gather(outputs["sequence_output"], starts, batch_dims=1)  # [B, K, E]
        pooled = self.bert.pooler(tf.reshape(first, [-1, 1, self.config.hidden_size]))
        logits = self.cls.seq_relationship(pooled)  # [B*K, 2]
        return tf.reshape(logits, [-1, tf.shape(starts)[1], 2])

    def get_config(self):
        config = {"config": self.config.to_dict(), "next_sentence": self.next_sentence}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": BertConfig.from_dict(config["config"])})


def _of_own_text(input_mask):
    """Numbers of the text that a position is of [B, F], 0 padding -> what each one sees [B, F, T].

    Padding sees nothing.
    """
    same = input_mask[:, :, tf.newaxis] == input_mask[:, tf.newaxis, :]
    return tf.cast(same & (input_mask > 0)[:, tf.newaxis, :], tf.int32)


def classifier(config: BertConfig, num_labels: int, dropout_rate: float = 0.1) -> TaskModel:
    """Scores of a sequence: {"logits": [B, L]} (run_classifier.py, create_model).

    A regression has one label. As in Google's code the dropout before the scores is 0.1 whatever
    the config says, and `output_weights`, `output_bias` have no scope in a checkpoint.
    """
    inputs = _inputs()
    pooled = BertModel(config)(inputs)["pooled_output"]
    pooled = Dropout(dropout_rate, name="dropout")(pooled)
    logits = Logits(num_labels, config.hidden_size, name="classifier")(pooled)
    return TaskModel(inputs, {"logits": logits})


def scores(logits: tf.Tensor, problem_type: str) -> tf.Tensor:
    """Logits [B, L] -> probabilities float32 [B, L]; a regression's number as it is."""
    logits = tf.cast(logits, tf.float32)
    if problem_type == "regression":
        return logits
    return tf.sigmoid(logits) if problem_type == "multilabel" else tf.nn.softmax(logits, axis=-1)


def span(config: BertConfig) -> TaskModel:
    """Scores of answer bounds: {"start_logits": [B, F], "end_logits": [B, F]} (run_squad.py)."""
    inputs = _inputs()
    sequence = BertModel(config, add_pooler=False)(inputs)["sequence_output"]
    return TaskModel(inputs, SpanHead(config.hidden_size)(sequence))


def tagger(
    config: BertConfig, num_labels: int, use_crf: bool = False, dropout_rate: float = 0.1
) -> TaskModel:
    """Scores of every position: {"logits": [B, F, L]}, and those of the CRF by `crf.NAMES`.

    As the classifier's, `output_weights` and `output_bias` have no scope in a checkpoint; those of
    Hugging Face's `BertForTokenClassification` are the same.
    """
    inputs = _inputs()
    sequence = BertModel(config, add_pooler=False)(inputs)["sequence_output"]
    sequence = Dropout(dropout_rate, name="dropout")(sequence)
    logits = Logits(num_labels, config.hidden_size, name="classifier")(sequence)
    return TaskModel(inputs, CRF(num_labels)(logits) if use_crf else {"logits": logits})


def pretraining(config: BertConfig, next_sentence: bool = True, packed: bool = False) -> TaskModel:
    """Scores for pre-training (run_pretraining.py); takes `masked_lm_positions` [B, M] as well.

    {"masked_lm_logits": [B, M, V], "next_sentence_logits": [B, 2]}.

    Args:
      next_sentence: without it there are neither the second scores nor a pooler.
      packed: rows hold up to K texts each, as `data.row_packing` makes them: `input_mask` numbers
        them from 1, `position_ids` [B, F] start at 0 in each, and the second scores [B, K, 2] are
        those of `cls_positions` [B, K].
    """
    more = ("position_ids", "cls_positions") if packed else ()
    inputs = _inputs("masked_lm_positions", *more)
    return TaskModel(inputs, Pretraining(config, next_sentence)(inputs))


def _inputs(*more: str) -> dict[str, keras.KerasTensor]:
    names = ("input_ids", "input_mask", "segment_ids", *more)
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}
