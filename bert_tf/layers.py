"""The pieces BERT is made of: lookup, dense layer, LayerNorm and activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

# The gradients of GELU and LayerNorm are written out, because TensorFlow's own take two to three
# times as many passes over memory. GELU's slope is computed beside its value, while both share
# what they need, and is all that a training step keeps; where nothing is trained the graph drops
# it, and what remains is the pattern that TensorFlow fuses into the matrix product before it.
# Both work in float32: in bfloat16 `1 + tanh` would lose most digits of a negative x.


@tf.custom_gradient
def gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU in the tanh form, `0.5x(1 + tanh(sqrt(2/pi)(x + 0.044715x^3)))`: Google's "gelu"."""
    dtype, x = x.dtype, tf.cast(x, tf.float32)
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    square = tf.square(x)
    tanh = tf.tanh(scale * (x + cubic * (x * square)))
    half, share = 0.5 * x, 1 + tanh
    inner_slope = half * (scale + 3 * scale * cubic * square)
    slope = tf.cast(0.5 * share + tf.raw_ops.TanhGrad(y=tanh, dy=inner_slope), dtype)
    return tf.cast(half * share, dtype), lambda dy: dy * slope


@tf.custom_gradient
def gelu_erf(x: tf.Tensor) -> tf.Tensor:
    """GELU in the exact form, `0.5x(1 + erf(x / sqrt(2)))`: Hugging Face's "gelu"."""
    dtype, x = x.dtype, tf.cast(x, tf.float32)
    half, share = 0.5 * x, 1 + tf.math.erf(x * math.sqrt(0.5))
    slope = 0.5 * share + x * (math.sqrt(0.5 / math.pi) * tf.exp(-half * x))
    slope = tf.cast(slope, dtype)
    return tf.cast(half * share, dtype), lambda dy: dy * slope


@tf.custom_gradient
def linear(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`x @ kernel + bias`: [rows, in] -> [rows, out]."""

    def grad(dy):
        if kernel.shape[1] > kernel.shape[0] and kernel.dtype == tf.float32:
            # With a wide kernel transposed on the fly oneDNN takes a quarter longer than with a
            # transposed copy. The third axis keeps TensorFlow's graph optimizer from folding the
            # copy back into the product.
            dx = tf.matmul(dy, tf.transpose(kernel[tf.newaxis], [0, 2, 1])[0])
        else:
            dx = tf.matmul(dy, kernel, transpose_b=True)
        return dx, tf.matmul(x, dy, transpose_a=True), tf.reduce_sum(dy, 0)

    return tf.nn.bias_add(tf.matmul(x, kernel), bias), grad


def layer_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta` of each row of x [rows, E]."""

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        centered = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
        inverse = tf.math.rsqrt(variance + epsilon)  # [rows, 1]
        normal = centered * inverse

        def grad(dy):
            dy_normal = dy * normal
            weights = (gamma / tf.cast(tf.size(gamma), gamma.dtype))[:, tf.newaxis]  # [E, 1]
            mean, slope = tf.matmul(dy, weights), tf.matmul(dy_normal, weights)  # [rows, 1]
            dx = inverse * (dy * gamma - mean - normal * slope)
            return dx, tf.reduce_sum(dy_normal, 0), tf.reduce_sum(dy, 0)

        return normal * gamma + beta, grad

    return normalize(x, gamma, beta)


_ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": gelu,
    "gelu_erf": gelu_erf,
    "linear": lambda x: x,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "tanh": tf.tanh,
}


def get_activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function behind a `BertConfig.hidden_act`."""
    return _ACTIVATIONS[name]


def initializer(stddev: float) -> keras.initializers.Initializer:
    """Google's `create_initializer`: a normal distribution cut at two standard deviations."""
    return keras.initializers.TruncatedNormal(stddev=stddev)


class Block(keras.layers.Layer):
    """A layer whose sizes are all known when it is made, so that `build` needs no shape.

    The layers it is made of follow its precision policy.
    """

    def build(self, input_shape=None):
        for layer in self._flatten_layers(include_self=False, recursive=False):
            layer.dtype_policy = self.dtype_policy
            layer.build(None)
        self.built = True


class Dense(Block):
    """`activation(x @ kernel + bias)`: [rows, in] -> [rows, out]."""

    def __init__(self, inputs, units, stddev, activation="linear", name="dense", **kwargs):
        super().__init__(name=name, **kwargs)
        self.shape = (inputs, units)
        self.kernel_initializer = initializer(stddev)
        self.activation = get_activation(activation)

    def build(self, input_shape=None):
        self.kernel = self.add_weight(
            shape=self.shape, initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=self.shape[1:], initializer="zeros", name="bias")
        super().build()

    def call(self, x):
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        return self.activation(linear(x, kernel, bias))


class LayerNorm(Block):
    """Normalizes each row of [rows, E] by its mean and variance, in float32 always."""

    def __init__(self, size, epsilon, name="LayerNorm", **kwargs):
        super().__init__(name=name, **kwargs)
        self.size = size
        self.epsilon = epsilon

    def build(self, input_shape=None):
        shape, options = (self.size,), {"autocast": False, "dtype": "float32"}
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta", **options)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma", **options)
        super().build()

    def call(self, x):
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        y = layer_norm(tf.cast(x, tf.float32), gamma, beta, self.epsilon)
        return tf.cast(y, self.compute_dtype)
