"""The stack of BERT's layers: self-attention and feed-forward networks, on a batch as one matrix.

Shape letters are those of `modeling.py`.
"""

from __future__ import annotations

import math

import tensorflow as tf

from bert_tf.config import BertConfig
from bert_tf.dropout import Dropout, repeatable
from bert_tf.layers import Block, Dense, LayerNorm


class SelfAttention(Block):
    """Every position looks at every position: [B*F, E] -> [B*F, E] (Vaswani et al., 3.2)."""

    def __init__(self, config: BertConfig, name="self", **kwargs):
        super().__init__(name=name, **kwargs)
        self.config = config
        size, stddev = config.hidden_size, config.initializer_range
        self.query = Dense(size, size, stddev, name="query")
        self.key = Dense(size, size, stddev, name="key")
        self.value = Dense(size, size, stddev, name="value")
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def call(self, x, mask, training=False):
        heads = self.config.num_attention_heads
        head_size = self.config.hidden_size // heads

        def split(x):  # [B*F, E] -> [B, N, F, H]
            x = tf.reshape(x, [tf.shape(mask)[0], -1, heads, head_size])
            return tf.transpose(x, [0, 2, 1, 3])

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = tf.matmul(q, k, transpose_b=True) * (1 / math.sqrt(head_size)) + mask
        probs = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), x.dtype)  # [B, N, F, T]
        context = tf.matmul(self.dropout(probs, training=training), v)  # [B, N, F, H]
        return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), tf.shape(x))  # [B*F, E]


class ResidualOutput(Block):
    """`LayerNorm(residual + dropout(dense(x)))`: the end of both halves of a layer."""

    def __init__(self, config: BertConfig, inputs: int, name="output", **kwargs):
        super().__init__(name=name, **kwargs)
        self.dense = Dense(inputs, config.hidden_size, config.initializer_range)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def call(self, x, residual, training=False):
        return self.layer_norm(residual + self.dropout(self.dense(x), training=training))


class Attention(Block):
    """The first half of a layer: [B*F, E] -> [B*F, E]."""

    def __init__(self, config: BertConfig, name="attention", **kwargs):
        super().__init__(name=name, **kwargs)
        self.self_attention = SelfAttention(config)
        self.residual_output = ResidualOutput(config, config.hidden_size)

    def call(self, x, mask, training=False):
        context = self.self_attention(x, mask, training=training)
        return self.residual_output(context, x, training=training)


class Intermediate(Block):
    """The wide layer of the second half: [B*F, E] -> [B*F, I]."""

    def __init__(self, config: BertConfig, name="intermediate", **kwargs):
        super().__init__(name=name, **kwargs)
        self.dense = Dense(
            config.hidden_size,
            config.intermediate_size,
            config.initializer_range,
            config.hidden_act,
        )

    def call(self, x):
        return self.dense(x)


class EncoderLayer(Block):
    """Attention, then a feed-forward network: [B*F, E] -> [B*F, E]."""

    def __init__(self, config: BertConfig, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.residual_output = ResidualOutput(config, config.intermediate_size)

    def call(self, x, mask, training=False):
        x = self.attention(x, mask, training=training)
        return self.residual_output(self.intermediate(x), x, training=training)


class Encoder(Block):
    """The stack: [B*F, E] and input_mask [B, F] -> the output of each layer, each [B*F, E].

    A mask [B, F, T] says for each position which ones it sees. With `recompute` the activations
    of a layer are not kept for its gradient, but computed once more (Chen et al., 2016).
    """

    def __init__(self, config: BertConfig, name="encoder", **kwargs):
        super().__init__(name=name, **kwargs)
        self.recompute = False
        self.stack = [
            EncoderLayer(config, name=f"layer_{i}") for i in range(config.num_hidden_layers)
        ]

    def call(self, x, input_mask, training=False):
        # A masked position keeps a finite score, as in Google's: rows of padding stay numbers.
        mask = (1 - tf.cast(input_mask, x.dtype)) * -10000
        if len(mask.shape) == 2:
            mask = tf.expand_dims(mask, 1)
        mask = tf.expand_dims(mask, 1)  # [B, 1, 1 or F, T]
        outputs = []
        for layer in self.stack:
            if self.recompute and training:
                x = _recomputed(layer, x, mask)
            else:
                x = layer(x, mask, training=training)
            outputs.append(x)
        return outputs


def _recomputed(layer: EncoderLayer, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The layer in training; for its gradient it is computed again, with the same dropout."""
    compute = tf.recompute_grad(repeatable(lambda x, mask: layer(x, mask, training=True)))
    return compute(x, mask)
