"""Google's features at the edge of a SavedModel: as tensors, and as serialized tf.Examples.

B batch, F from-length (as long as the longest row; up to the model's positions).
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from bert_tf.export.servable import Arrays
from bert_tf.modeling import checkpoint_name

FEATURES = ("input_ids", "input_mask", "segment_ids")
Tensors = dict[str, tf.Tensor]


def inference_copy(
    model: keras.Model, build: Callable[[], keras.Model], what: str, precision: str = "float32"
) -> keras.Model:
    """The same model and weights, computing in `precision` whatever `model` was trained in.

    Its variables are plain ones also when `model`'s belong to a tf.distribute strategy.

    Args:
      model: the trained one.
      build: makes another of its kind.
      what: that kind, for the message.
      precision: "float32", or "bfloat16", in which then all weights but LayerNorm's are kept.

    Raises: ValueError naming the weights if `model` is not of that kind.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        copy = build()
    finally:
        keras.config.set_dtype_policy(policy)
    trained = {checkpoint_name(weight): weight for weight in model.weights}
    wanted = {(checkpoint_name(weight), tuple(weight.shape)) for weight in copy.weights}
    found = {(name, tuple(weight.shape)) for name, weight in trained.items()}
    if wanted != found:
        names = ", ".join(sorted({name for name, _ in wanted ^ found}))
        raise ValueError(f"the model to export is not {what}; weights that differ: {names}")
    for weight in copy.weights:
        weight.assign(tf.cast(trained[checkpoint_name(weight)].value, weight.dtype))
    return copy


class FeaturesModule(tf.Module):
    """A Keras model from features: the functions `features` and `examples`.

    `features` takes FEATURES, each int32 [B, F]; `examples` takes serialized tf.Examples, string
    [B], with features of these names. Both return what `answers` makes of the model's outputs.
    """

    def __init__(self, model: keras.Model, answers: Callable[[Tensors], Tensors]):
        super().__init__()
        self.weights = [weight.value for weight in model.weights]

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32, name) for name in FEATURES],
        )
        def features(input_ids, input_mask, segment_ids):
            inputs = dict(zip(FEATURES, (input_ids, input_mask, segment_ids), strict=True))
            return answers(model(inputs, training=False))

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "examples")]
        )
        def examples(examples):
            return features(**parse_examples(examples))

        self.features = features
        self.examples = examples


def parse_examples(serialized: tf.Tensor) -> Tensors:
    """Serialized tf.Examples [B] -> FEATURES, int32 [B, F], padded to the longest row.

    The rows of one example must be of one length, which may be another one for each example.
    """
    rows = ragged_features(serialized)
    message = f"each example needs {', '.join(FEATURES)}, of one length and not empty"
    good = [rows["input_ids"].row_lengths() > 0, same_lengths(rows)]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(good), [message])]):
        return {name: ids.to_tensor() for name, ids in rows.items()}


def ragged_features(serialized: tf.Tensor) -> dict[str, tf.RaggedTensor]:
    """Serialized tf.Examples [B] -> FEATURES, int32 ragged [B, (F)]; a missing one is empty."""
    kind = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    found = tf.io.parse_example(serialized, dict.fromkeys(FEATURES, kind))
    return {name: tf.cast(ids, tf.int32) for name, ids in found.items()}


def same_lengths(rows: dict[str, tf.RaggedTensor]) -> tf.Tensor:
    """Whether the features of an example are equally long, bool [B]."""
    first, *others = (rows[name].row_lengths() for name in FEATURES)
    return tf.reduce_all([tf.equal(first, other) for other in others], axis=0)


def serialize_examples(features: Arrays) -> np.ndarray:
    """FEATURES, int [B, F] -> serialized tf.Examples, bytes [B], as Google's records hold them."""
    count = len(features["input_ids"])
    rows = [{name: features[name][i].tolist() for name in FEATURES} for i in range(count)]
    return np.array([serialize_example(row) for row in rows], object)


def serialize_example(row: dict[str, list[int] | list[bytes]]) -> bytes:
    """One tf.Example."""
    example = tf.train.Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        target = feature.bytes_list if isinstance(values[0], bytes) else feature.int64_list
        target.value.extend(values)
    return example.SerializeToString(deterministic=True)


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> Arrays:
    """Rows of (input_ids, segment_ids) -> FEATURES, int32 [B, F]."""
    shape = len(rows), max(len(ids) for ids, _ in rows)
    features = {name: np.zeros(shape, np.int32) for name in FEATURES}
    for i, (ids, segments) in enumerate(rows):
        features["input_ids"][i, : len(ids)] = ids
        features["input_mask"][i, : len(ids)] = 1
        features["segment_ids"][i, : len(ids)] = segments
    return features
