"""One vector for a sequence: sequence_output [B, F, E] and input_mask [B, F] -> [B, E].

`mean_max` alone gives [B, 2E].
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def cls_pooling(sequence_output: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """The first token's vector."""
    del input_mask  # the first token is always real
    return sequence_output[:, 0]


def mean_pooling(sequence_output: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """The mean over the real tokens. A row without any gives zeros."""
    mask = tf.cast(input_mask, sequence_output.dtype)[:, :, tf.newaxis]  # [B, F, 1]
    return tf.math.divide_no_nan(tf.reduce_sum(sequence_output * mask, 1), tf.reduce_sum(mask, 1))


def max_pooling(sequence_output: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """The largest value of each feature over the real tokens."""
    real = tf.cast(input_mask, tf.bool)[:, :, tf.newaxis]  # [B, F, 1]
    return tf.reduce_max(tf.where(real, sequence_output, sequence_output.dtype.min), 1)


def mean_max_pooling(sequence_output: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """Mean and max, one after the other: [B, 2E]."""
    pooled = [f(sequence_output, input_mask) for f in (mean_pooling, max_pooling)]
    return tf.concat(pooled, -1)


def last_pooling(sequence_output: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """The last real token's vector: that of [SEP]. A row without any gives its first position."""
    last = tf.maximum(tf.reduce_sum(tf.cast(input_mask, tf.int32), 1) - 1, 0)
    return tf.gather(sequence_output, last, batch_dims=1)


POOLINGS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "cls": cls_pooling,
    "mean": mean_pooling,
    "max": max_pooling,
    "mean_max": mean_max_pooling,
    "last": last_pooling,
}
