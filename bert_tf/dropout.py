"""Dropout with eight random bits an element, reproducible from one seed a step."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

_LEVELS = 256  # what eight random bits can tell apart


class _Seeds:
    """Hands out a new seed for each dropout call, in the order of the calls."""

    def __init__(self, seed: tf.Tensor, position: int = 0):
        self.seed = tf.convert_to_tensor(seed, tf.int32)
        self.position = position

    def next(self) -> tf.Tensor:
        self.position += 1
        return tf.random.experimental.stateless_fold_in(self.seed, self.position - 1)


_seeds: contextvars.ContextVar[_Seeds | None] = contextvars.ContextVar("seeds", default=None)


@contextlib.contextmanager
def dropout_seed(seed: tf.Tensor) -> Iterator[None]:
    """Inside, every `Dropout` draws its bits from `seed` (int32 [2]) and its place in the order.

    The same seed then gives the same masks, whatever ran before: a training step needs no state
    to be repeated. Enter it inside the replica function (each replica is a thread of its own)
    with a seed that differs by step and replica. Outside, the bits follow `tf.random.set_seed`.
    """
    token = _seeds.set(_Seeds(seed))
    try:
        yield
    finally:
        _seeds.reset(token)


def repeatable(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which draws the same seeds every time: those of a call of it here and now."""
    seeds = _seeds.get()
    if seeds is None:
        return function
    first = seeds.position

    def repeat(*arguments: Any) -> Any:
        own = _Seeds(seeds.seed, first)
        token = _seeds.set(own)
        try:
            return function(*arguments)
        finally:
            _seeds.reset(token)
            seeds.position = max(seeds.position, own.position)

    return repeat


def _next_seed() -> tf.Tensor:
    seeds = _seeds.get()
    if seeds is not None:
        return seeds.next()
    return tf.random.uniform([2], tf.int32.min, tf.int32.max, tf.int32)


def random_bytes(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Uniform uint8 of the given shape: four from each 32-bit draw."""
    size = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.int32)
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], shape)


def dropout(x: tf.Tensor, rate: float) -> tf.Tensor:
    """Zeroes a share of `x` and scales the rest so that the expectation stays the same.

    The share is `rate` rounded to a multiple of 1/256, and the scaling is exact for that
    share (as far as the dtype of `x` can express it).
    """
    threshold = min(max(round(rate * _LEVELS), 1), _LEVELS - 1)
    keep = random_bytes(tf.shape(x), _next_seed()) >= tf.constant(threshold, tf.uint8)
    scale = tf.constant(_LEVELS / (_LEVELS - threshold), x.dtype)
    return _masked(x, keep, scale)


@tf.custom_gradient
def _masked(x, keep, scale):
    """`x * scale` where `keep`, else 0; one byte an element is kept for the gradient."""

    def mask(x):
        return x * scale * tf.cast(keep, x.dtype)

    return mask(x), lambda dy: (mask(dy), None, None)


@keras.saving.register_keras_serializable("bert_tf")
class Dropout(keras.layers.Layer):
    """`dropout` when `training`, nothing otherwise or at rate 0. Has no state."""

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.built = True

    def call(self, x, training=False):
        return dropout(x, self.rate) if training and self.rate else x

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
