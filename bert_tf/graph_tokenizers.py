"""Any tokenizer as graph operations: `graph_tokenizer` makes them, so that callers need not ask.

Shape letter: B batch.
"""

from collections.abc import Mapping
from functools import cache
from typing import Protocol

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from bert_tf import normalizer_buffer, text_rules
from bert_tf.base_tokenizer import Tokenizer, special_tokens_pattern
from bert_tf.graph_tokenization import FINAL_SIGMA, GraphTokenizer, character_ranges, replacer
from bert_tf.sentencepiece_tokenization import SentencePieceTokenizer

_TEXTS = tf.TensorSpec([None], tf.string, "texts")
# A byte that is in no UTF-8 text.
_EDGE = b"\xff"
_HAS_SIGMA = f"(?s).*[{character_ranges(text_rules.SIGMAS)}].*"


class GraphModule(Protocol):
    """A tf.Module: texts [B], UTF-8 -> ids, int32 ragged [B, (pieces)]."""

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor: ...


def graph_tokenizer(tokenizer: Tokenizer) -> GraphModule:
    """A tf.Module that gives the ids of `tokenizer.encode` for every text, with no Python inside.

    Texts [B], UTF-8 (malformed bytes are ignored) -> ids, int32 ragged [B, (pieces)].
    """
    module: GraphModule
    if isinstance(tokenizer, SentencePieceTokenizer):
        module = GraphSentencePieceTokenizer(tokenizer)
    else:
        module = GraphTokenizer(tokenizer.vocab_file, tokenizer.do_lower_case)
    if tokenizer.keep_special_tokens:
        return _WithSpecialTokens(module, tokenizer.special_tokens)
    return module


class GraphSentencePieceTokenizer(tf.Module):
    """`SentencePieceTokenizer` without its `keep_special_tokens`; the model is in the graph."""

    def __init__(self, tokenizer: SentencePieceTokenizer):
        super().__init__()
        self._do_lower_case = tokenizer.do_lower_case
        if self._do_lower_case:
            self._decompose = replacer(_folds_buffer(do_lower_case=False))
            self._fold = replacer(_folds_buffer(do_lower_case=True))
        self._model = tf_text.SentencepieceTokenizer(tokenizer.serialized_model(), tf.int32)

    @tf.function(input_signature=[_TEXTS])
    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Texts [B], UTF-8 (malformed bytes are ignored) -> ids, int32 ragged [B, (pieces)]."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        if self._do_lower_case:
            texts = self._folded(texts)
        return self._model.tokenize(texts)

    def _folded(self, texts: tf.Tensor) -> tf.Tensor:
        """`text_rules.folded` of texts [B]."""
        greek = tf.strings.regex_full_match(texts, _HAS_SIGMA)

        def with_final_sigmas() -> tf.Tensor:
            chosen = self._decompose(tf.boolean_mask(texts, greek))
            chosen = tf.strings.regex_replace(chosen, *FINAL_SIGMA)
            return tf.tensor_scatter_nd_update(texts, tf.where(greek), chosen)

        texts = tf.cond(tf.reduce_any(greek), with_final_sigmas, lambda: texts)
        return tf.strings.strip(tf.strings.regex_replace(self._fold(texts), " +", " "))


@cache
def folds(do_lower_case: bool) -> dict[int, str]:
    """`text_rules.fold` of every code point that does not stay as it is."""
    every = ((c, text_rules.fold(c, do_lower_case)) for c in text_rules.FOLDED)
    return {c: text for c, text in every if text != chr(c)}


@cache
def _folds_buffer(do_lower_case: bool) -> np.ndarray:
    return normalizer_buffer.build(folds(do_lower_case))


class _WithSpecialTokens(tf.Module):
    """Another tokenizer, but the names of some tokens in a text are these tokens."""

    def __init__(self, tokenizer: GraphModule, special_tokens: Mapping[str, int]):
        super().__init__()
        self._tokenizer = tokenizer
        self._pattern = f"({special_tokens_pattern(special_tokens)})"
        names, ids = list(special_tokens), np.array(list(special_tokens.values()), np.int32)
        entries = tf.lookup.KeyValueTensorInitializer(names, ids)
        self._ids = tf.lookup.StaticHashTable(entries, default_value=-1)

    @tf.function(input_signature=[_TEXTS])
    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Texts [B], UTF-8 (malformed bytes are ignored) -> ids, int32 ragged [B, (pieces)]."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        marked = tf.strings.regex_replace(texts, self._pattern, _EDGE + rb"\1" + _EDGE)
        # A text, a token, a text ...: each odd part is a token.
        parts = tf.strings.split(marked, _EDGE)  # [B, (parts)]
        is_token = tf.ragged.range(parts.row_lengths()).values % 2 == 1
        between = self._tokenizer(tf.where(is_token, "", parts.values))  # [(parts), (pieces)]
        ids = self._ids.lookup(tf.boolean_mask(parts.values, is_token))
        tokens = tf.RaggedTensor.from_row_lengths(ids, tf.cast(is_token, tf.int64), validate=False)
        pieces = tf.concat([between, tokens], axis=1)
        splits = tf.gather(pieces.row_splits, parts.row_splits)
        return tf.RaggedTensor.from_row_splits(pieces.values, splits, validate=False)
