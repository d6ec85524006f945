"""A classifier as SavedModel signatures: from features, and from raw strings.

B batch, F from-length (as long as the longest row; up to the model's positions), L labels.
"""

import keras
import tensorflow as tf

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.graph_tokenization import pack_pairs
from bert_tf.graph_tokenizers import graph_tokenizer
from bert_tf.modeling import checkpoint_name
from bert_tf.tokenization import Tokenizer

FEATURES = ("input_ids", "input_mask", "segment_ids")


def float32_copy(model: keras.Model, config: BertConfig, num_labels: int) -> keras.Model:
    """The same classifier and weights, computing in float32 whatever `model` was trained in.

    Its variables are plain ones also when `model`'s belong to a tf.distribute strategy.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = heads.classifier(config, num_labels)
    finally:
        keras.config.set_dtype_policy(policy)
    trained = {checkpoint_name(weight): weight for weight in model.weights}
    wanted = {(checkpoint_name(weight), tuple(weight.shape)) for weight in copy.weights}
    found = {(name, tuple(weight.shape)) for name, weight in trained.items()}
    if wanted != found:
        names = ", ".join(sorted({name for name, _ in wanted ^ found}))
        raise ValueError(
            f"the model to export is not a classifier of this config with {num_labels} outputs; "
            f"weights that differ: {names}"
        )
    for weight in copy.weights:
        weight.assign(trained[checkpoint_name(weight)].value)
    return copy


def features_module(model: keras.Model, label_list: list[str], regression: bool) -> tf.Module:
    """`features`: FEATURES, each int32 [B, F] -> the outputs of `_answers`."""
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([None, None], tf.int32, name) for name in FEATURES],
    )
    def features(input_ids, input_mask, segment_ids):
        inputs = dict(zip(FEATURES, (input_ids, input_mask, segment_ids), strict=True))
        return _answers(model(inputs, training=False)["logits"], label_list, regression)

    module.features = features
    return module


def _answers(logits: tf.Tensor, label_list: list[str], regression: bool) -> dict[str, tf.Tensor]:
    """[B, L] -> scores [B] float32; or label_ids [B] int32, labels [B], probabilities [B, L]."""
    if regression:
        return {"scores": tf.squeeze(logits, axis=-1)}
    label_ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return {
        "label_ids": label_ids,
        "labels": tf.gather(tf.constant(label_list), label_ids),
        "probabilities": tf.nn.softmax(logits),
    }


def text_module(features: tf.Module, tokenizer: Tokenizer, max_seq_length: int) -> tf.Module:
    """Raw UTF-8 strings in, the answers of `features` out; holds the vocabulary as an asset.

    `text_pair` (text_a [B], text_b [B]; an empty text_b makes a single sentence) and
    `single_sentence` (text_a [B]) are the signatures; `tokenize` (text_a, text_b) gives the
    features themselves, padded to the longest row.
    """
    module = tf.Module()
    module.model = features
    module.tokenizer = graph_tokenizer(tokenizer)
    module.vocabulary = tf.saved_model.Asset(tokenizer.vocab_file)
    text_a, text_b = (tf.TensorSpec([None], tf.string, name) for name in ("text_a", "text_b"))

    @tf.function(autograph=False, input_signature=[text_a, text_b])
    def tokenize(text_a, text_b):
        packed = pack_pairs(
            module.tokenizer(text_a),
            module.tokenizer(text_b),
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            max_seq_length,
        )
        return dict(zip(FEATURES, packed, strict=True))

    @tf.function(autograph=False, input_signature=[text_a, text_b])
    def text_pair(text_a, text_b):
        return features.features(**tokenize(text_a, text_b))

    @tf.function(autograph=False, input_signature=[text_a])
    def single_sentence(text_a):
        return text_pair(text_a, tf.zeros_like(text_a))

    module.tokenize = tokenize
    module.text_pair = text_pair
    module.single_sentence = single_sentence
    return module
