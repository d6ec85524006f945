"""Raw text at the edge of a SavedModel."""

import tensorflow as tf

from bert_tf.export.servable import Model
from bert_tf.graph_tokenization import GraphTokenizer
from bert_tf.tokenization import FullTokenizer


def graph_tokenizer(tokenizer: FullTokenizer) -> tf.Module:
    """Texts [B] -> the ids that `tokenizer.encode` gives, int32 ragged [B, (pieces)]."""
    return GraphTokenizer(tokenizer.vocab_file, tokenizer.do_lower_case)


class TextModule(tf.Module):
    """What every text model holds: the features model, the tokenizer, its vocabulary as an asset.

    A task adds its functions as attributes.
    """

    def __init__(self, features: Model, tokenizer: FullTokenizer):
        super().__init__()
        self.model = features.module
        self.tokenizer = graph_tokenizer(tokenizer)
        self.vocabulary = tf.saved_model.Asset(tokenizer.vocab_file)


def shown(*texts: str | None) -> str:
    """A sample for messages, shortened."""
    return " + ".join(repr(t if len(t) <= 60 else t[:57] + "...") for t in texts if t is not None)
