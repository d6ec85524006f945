"""A linear-chain conditional random field over the tags of a sentence (Lafferty et al. 2001).

The score of tags y_1 ... y_n is the sum of their logits, of `transitions[y_t, y_t+1]` between
neighbours, of `start_transitions[y_1]` and of `end_transitions[y_n]`; their probability is its
softmax over all sequences of n tags.

What counts is masked: positions with mask 0 (padding, [CLS], [SEP], pieces inside of words) are no
part of the sequence, so that the words beside them are neighbours. They may be anywhere, and how
many there are changes nothing. Shapes: B batch, F positions, L labels, n_b masked positions of a
row, moved to the front in order. A row without any has the log-likelihood 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from bert_tf.layers import Block

NAMES = ("transitions", "start_transitions", "end_transitions")

Scores = Mapping[str, tf.Tensor]  # NAMES -> [L, L] from and to, [L], [L]


@keras.saving.register_keras_serializable("bert_tf")
class CRF(Block):
    """The variables of a CRF, in float32: {} of `NAMES`, beside the `logits` it was called with.

    They begin as zeros, with which every tag is independent of the others.
    """

    def __init__(self, num_labels: int, name="crf", **kwargs):
        # Also a policy of bfloat16 must not round the logits.
        super().__init__(name=name, autocast=False, **kwargs)
        self.num_labels = num_labels

    def build(self, input_shape=None):
        for name in NAMES:
            shape = (self.num_labels,) * (2 if name == "transitions" else 1)
            weight = self.add_weight(
                shape=shape, initializer="zeros", name=name, dtype="float32", autocast=False
            )
            setattr(self, name, weight)
        super().build()

    def call(self, logits):
        weights = {name: tf.convert_to_tensor(getattr(self, name)) for name in NAMES}
        return {"logits": logits, **weights}

    def get_config(self):
        return {**super().get_config(), "num_labels": self.num_labels}


def log_likelihood(
    logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, scores: Scores
) -> tf.Tensor:
    """The logarithm of the probability of the labels: float32 [B].

    Args:
      logits: [B, F, L].
      labels: int [B, F]; any legal value where the mask is 0.
      mask: int [B, F].
    """
    order, lengths = _to_front(mask)
    logits = tf.gather(tf.cast(logits, tf.float32), order, batch_dims=1)
    labels = tf.gather(labels, order, batch_dims=1)
    result = _score(logits, labels, lengths, scores) - _log_partition(logits, lengths, scores)
    return tf.where(lengths > 0, result, 0.0)


def _to_front(mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The positions of each row [B, F], masked ones first and in order, and how many are masked."""
    size = tf.shape(mask)[1]
    keys = tf.range(size) + tf.where(tf.cast(mask, tf.bool), 0, size)
    return tf.argsort(keys, axis=1), tf.math.count_nonzero(mask, axis=1, dtype=tf.int32)


def _score(logits: tf.Tensor, labels: tf.Tensor, lengths: tf.Tensor, scores: Scores) -> tf.Tensor:
    """The score of the labels: [B]."""
    size = tf.shape(labels)[1]
    used = tf.sequence_mask(lengths, size, tf.float32)  # [B, F]
    emitted = tf.gather(logits, labels, batch_dims=2) * used
    pairs = tf.stack([labels[:, :-1], labels[:, 1:]], axis=-1)  # [B, F-1, 2]
    moved = tf.gather_nd(scores["transitions"], pairs) * used[:, 1:]
    last = tf.gather(labels, tf.maximum(lengths - 1, 0), axis=1, batch_dims=1)
    return (
        tf.reduce_sum(emitted, 1)
        + tf.reduce_sum(moved, 1)
        + tf.gather(scores["start_transitions"], labels[:, 0])
        + tf.gather(scores["end_transitions"], last)
    )


def _log_partition(logits: tf.Tensor, lengths: tf.Tensor, scores: Scores) -> tf.Tensor:
    """The logarithm of the sum of exp(score) over all sequences, by the forward algorithm: [B]."""

    def step(alpha: tf.Tensor, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        position, emitted = inputs
        following = tf.reduce_logsumexp(alpha[:, :, tf.newaxis] + scores["transitions"], axis=1)
        return tf.where((position < lengths)[:, tf.newaxis], following + emitted, alpha)

    alpha = tf.foldl(step, _rest(logits), scores["start_transitions"] + logits[:, 0])  # [B, L]
    return tf.reduce_logsumexp(alpha + scores["end_transitions"], axis=1)


def _rest(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Positions 1 ... F-1 and their logits [F-1, B, L], for loops over the positions."""
    return tf.range(1, tf.shape(logits)[1]), tf.transpose(logits[:, 1:], [1, 0, 2])


def viterbi(logits: tf.Tensor, mask: tf.Tensor, scores: Scores) -> tf.Tensor:
    """The most probable labels: int32 [B, F], 0 where the mask is 0.

    Of equally probable ones, the smaller label is taken from the end on.

    Args:
      logits: [B, F, L].
      mask: int [B, F].
    """
    order, lengths = _to_front(mask)
    logits = tf.gather(tf.cast(logits, tf.float32), order, batch_dims=1)
    logits = tf.transpose(logits, [1, 0, 2])  # [F, B, L]
    size, same = tf.shape(logits)[0], tf.range(tf.shape(logits)[2])

    def forward(position, best, origins):
        paths = best[:, :, tf.newaxis] + scores["transitions"]  # [B, L, L]
        is_used = (position < lengths)[:, tf.newaxis]
        best = tf.where(is_used, tf.reduce_max(paths, axis=1) + logits[position], best)
        origin = tf.where(is_used, tf.argmax(paths, axis=1, output_type=tf.int32), same)
        return position + 1, best, _with_row(origins, position, origin)

    def backward(position, labels):
        label = tf.gather(origins[position], labels[position], axis=1, batch_dims=1)
        return position - 1, _with_row(labels, position - 1, label)

    # Loops over a tensor that is there from the start, and not tf.scan: LiteRT, which knows no
    # lists of tensors, takes them for rows of any length, and so does XLA.
    first = scores["start_transitions"] + tf.reduce_sum(logits[:1], axis=0)  # or there is none
    start = tf.constant(1), first, tf.zeros_like(logits, tf.int32)
    _, best, origins = tf.while_loop(lambda position, *_: position < size, forward, start)
    last = tf.argmax(best + scores["end_transitions"], axis=1, output_type=tf.int32)  # [B]
    labels = _with_row(tf.zeros_like(logits[:, :, 0], tf.int32), size - 1, last)  # [F, B]
    _, labels = tf.while_loop(lambda position, _: position > 0, backward, (size - 1, labels))
    # Position p of the row is the sequence's element number (masked positions up to p) - 1.
    number = tf.maximum(tf.cumsum(tf.cast(mask, tf.int32), axis=1) - 1, 0)
    labels = tf.gather(tf.transpose(labels), number, batch_dims=1)  # [B, F]
    return labels * tf.cast(mask, tf.int32)


def _with_row(rows: tf.Tensor, position: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """The rows [F, ...] with the one at this position replaced."""
    here = tf.range(tf.shape(rows)[0]) == position
    return tf.where(tf.reshape(here, [-1] + [1] * row.shape.rank), row, rows)
