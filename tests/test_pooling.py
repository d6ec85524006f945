"""One vector a sequence, padding ignored."""

import numpy as np
import pytest
import tensorflow as tf

from bert_tf.pooling import POOLINGS

X = np.array([[[1, -4], [3, -2], [90, 90]], [[-5, -6], [90, 90], [90, 90]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 0, 0]], np.int32)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cls", [[1, -4], [-5, -6]]),
        ("mean", [[2, -3], [-5, -6]]),
        ("max", [[3, -2], [-5, -6]]),
        ("mean_max", [[2, -3, 3, -2], [-5, -6, -5, -6]]),
        ("last", [[3, -2], [-5, -6]]),
    ],
)
def test_poolings(name, expected, dtype):
    pooled = POOLINGS[name](tf.constant(X, dtype), tf.constant(MASK))
    assert pooled.dtype == dtype
    np.testing.assert_array_equal(tf.cast(pooled, tf.float32), expected)


def test_mean_of_nothing_is_zero():
    pooled = POOLINGS["mean"](tf.constant(X), tf.zeros([2, 3], tf.int32))
    np.testing.assert_array_equal(pooled, np.zeros([2, 2]))


def test_the_last_of_nothing_is_the_first_position():
    pooled = POOLINGS["last"](tf.constant(X), tf.zeros([2, 3], tf.int32))
    np.testing.assert_array_equal(pooled, X[:, 0])
