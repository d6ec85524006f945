"""Raw text at the edge of a SavedModel."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable

import tensorflow as tf

from bert_tf import filesystem
from bert_tf.export.features import FEATURES, Tensors, ragged_features, same_lengths
from bert_tf.export.servable import Model
from bert_tf.graph_tokenizers import graph_tokenizer
from bert_tf.tokenization import Tokenizer
from bert_tf.vocabulary import plain_contents


class TextModule(tf.Module):
    """What every text model holds: the features model, the tokenizer, its vocabulary as an asset.

    A task adds its functions as attributes.

    Args:
      graph: the graph form of `tokenizer`; by default the one that gives ids alone.
    """

    def __init__(self, features: Model, tokenizer: Tokenizer, graph: tf.Module | None = None):
        super().__init__()
        self.model = features.module
        self.tokenizer = graph or graph_tokenizer(tokenizer)
        self.vocabulary = vocabulary_asset(tokenizer)


def vocabulary_asset(tokenizer: Tokenizer) -> tf.saved_model.Asset:
    """Return the tokenizer's file; where a vocabulary is not plain lines, these as `vocab.txt`."""
    file = tokenizer.vocab_file
    if tokenizer.file_argument != "vocab_file":
        return tf.saved_model.Asset(file)
    contents = plain_contents(file)
    if contents == filesystem.read_bytes(file):
        return tf.saved_model.Asset(file)
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "vocab.txt")
    filesystem.write_bytes(path, contents)
    asset = tf.saved_model.Asset(path)
    weakref.finalize(asset, shutil.rmtree, folder, ignore_errors=True)  # it is copied on saving
    return asset


def parse_text_examples(
    serialized: tf.Tensor, names: tuple[str, ...], tokenize: Callable[..., Tensors]
) -> Tensors:
    """Serialized tf.Examples [B], each with text or with Google's features -> FEATURES [B, F].

    Args:
      serialized: string [B].
      names: features with one string each; the first is there where an example has text.
      tokenize: strings [B] under these names, "" where there is none -> FEATURES, int32 [B, F].
    """
    given = ragged_features(serialized)
    kind = tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64)
    texts = tf.io.parse_example(serialized, dict.fromkeys(names, kind))
    counts = [texts[name].row_lengths() for name in names]
    has_text = tf.equal(counts[0], 1)
    good = [
        tf.not_equal(has_text, given["input_ids"].row_lengths() > 0),
        same_lengths(given),
        *(count <= tf.cast(has_text, tf.int64) for count in counts),
    ]
    message = (
        f"each example needs either {names[0]} (one text) or {', '.join(FEATURES)}, of one length "
        "and not empty"
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(good), [message])]):
        made = tokenize(**{name: tf.strings.reduce_join(x, axis=1) for name, x in texts.items()})
    length = tf.reduce_sum(made["input_mask"], axis=1) * tf.cast(has_text, tf.int32)
    rows = {}
    for name in FEATURES:
        ids = tf.RaggedTensor.from_tensor(made[name], tf.cast(length, tf.int64))
        rows[name] = tf.concat([given[name], ids], axis=1).to_tensor()
    return rows


def shown(*texts: str | None) -> str:
    """A sample for messages, shortened."""
    return " + ".join(repr(t if len(t) <= 60 else t[:57] + "...") for t in texts if t is not None)
