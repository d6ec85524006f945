"""Words of texts, and the entities that labels of words say, as graph operations.

Shape letters: B texts, P pieces and W words of all texts together, R rows (windows of the texts),
F from-length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tf.graph_offsets import OffsetTokenizer, cut
from bert_tf.graph_tokenizers import graph_tokenizer
from bert_tf.graph_windows import pack_text_windows
from bert_tf.tokenization import FullTokenizer, Tokenizer

Tensors = dict[str, tf.Tensor]
Spans = tuple[tf.RaggedTensor, tf.RaggedTensor]  # first characters, characters behind


class Rows(NamedTuple):
    """What the model gets, and where in its answers those of the words are."""

    features: Tensors  # input_ids, input_mask, segment_ids, label_mask: int32 [R, F]
    words: tf.Tensor  # row and position of each word where it has most context, int64 [W, 2]


class GraphWords(tf.Module):
    """Texts to words, and these to rows, as `entity_spans.word_spans` and `window_rows` do it."""

    def __init__(self, tokenizer: Tokenizer, max_seq_length: int, doc_stride: int):
        super().__init__()
        self._pieces = graph_tokenizer(tokenizer)
        self._continues = np.zeros(tokenizer.num_tokens, bool)
        if isinstance(tokenizer, FullTokenizer):
            self._offsets = OffsetTokenizer(tokenizer.vocab_file, tokenizer.do_lower_case)
            inside = [i for token, i in tokenizer.vocab.items() if token.startswith("##")]
            self._continues[inside] = True
        else:
            self._offsets = OffsetTokenizer(None, do_lower_case=False)  # the words themselves
        self._unk_id = tokenizer.unk_token_id
        self._row = {
            "cls_id": tokenizer.cls_token_id,
            "sep_id": tokenizer.sep_token_id,
            "max_seq_length": max_seq_length,
            "doc_stride": doc_stride,
        }

    def spans(self, texts: tf.Tensor) -> Spans:
        """Where the words of texts [B] are, by characters: int32 ragged [B, (words)]."""
        ids, starts, ends = self._offsets.tokenize_with_offsets(texts)
        text = ids.value_rowids()
        # With every text behind the one before it, no piece overlaps those of other texts.
        size = tf.reduce_max(tf.concat([ends.values, [0]], axis=0))
        base = tf.cast(text, tf.int32) * size
        before = tf.concat([[0], running_max(ends.values + base)[:-1]], axis=0)
        before = before[: tf.size(base)]
        continues = tf.gather(tf.constant(self._continues), ids.values)
        begins = tf.cast(~continues & (starts.values + base >= before), tf.int32)
        word = tf.cumsum(begins) - 1
        counts = tf.math.unsorted_segment_sum(begins, text, ids.nrows())
        firsts, behinds = (
            tf.math.segment_min(starts.values, word),
            tf.math.segment_max(ends.values, word),
        )
        rows = tf.RaggedTensor.from_row_lengths(firsts, tf.cast(counts, tf.int64), validate=False)
        return rows, rows.with_values(behinds)

    def rows(self, texts: tf.Tensor, spans: Spans) -> Rows:
        """The windows of texts [B] with words at these spans; a text without words has one too."""
        words = cut(texts, *spans)
        pieces = self._or_unk(self._pieces(words.values))  # [W, (pieces)]
        splits = tf.gather(pieces.row_splits, words.row_splits)
        whole = tf.RaggedTensor.from_row_splits(pieces.values, splits, validate=False)
        text = words.value_rowids()
        first = pieces.row_starts() - tf.gather(whole.row_starts(), text)  # within their texts
        whole = self._or_unk(whole)
        first += tf.gather(whole.row_starts(), text)

        windows = pack_text_windows(whole, **self._row)
        begin = tf.gather(whole.row_starts(), windows.examples) + tf.cast(windows.starts, tf.int64)
        places = tf.ragged.range(begin, begin + tf.cast(windows.lengths, tf.int64))
        # The piece, counted from 1, at each position of the rows; 0 at [CLS], [SEP] and padding.
        edge = tf.zeros_like(begin)[:, tf.newaxis]
        piece = tf.concat([edge, places + 1, edge], axis=1).to_tensor()
        is_first = tf.scatter_nd(
            first[:, tf.newaxis] + 1, tf.ones_like(first), [tf.size(whole.values, tf.int64) + 1]
        )
        label_mask = tf.gather(is_first, piece)
        best = tf.where(windows.is_max_context & (label_mask > 0))  # [W, 2], a place for each word
        best = tf.gather(best, tf.argsort(tf.gather_nd(piece, best)))
        features = {
            "input_ids": windows.input_ids,
            "input_mask": windows.input_mask,
            "segment_ids": windows.segment_ids,
            "label_mask": tf.cast(label_mask, tf.int32),
        }
        return Rows(features, best)

    def _or_unk(self, pieces: tf.RaggedTensor) -> tf.RaggedTensor:
        """[UNK] where there is no piece."""
        lengths = tf.cast(pieces.row_lengths() == 0, tf.int64)
        values = tf.fill([tf.reduce_sum(lengths)], self._unk_id)
        unknown = tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
        return tf.concat([pieces, unknown], axis=1)


def running_max(values: tf.Tensor) -> tf.Tensor:
    """The greatest of each value and those before it: [N], by doubling the reach of each."""

    def step(reach: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return 2 * reach, tf.maximum(best, tf.concat([best[:reach], best[:-reach]], axis=0))

    _, best = tf.while_loop(
        lambda reach, best: reach < tf.size(best), step, (tf.constant(1), values)
    )
    return best


class GraphEntities:
    """Labels of words -> entities, as `entity_metrics.entities` reads labels in IOB2.

    Without a scheme every word is an entity of its label.
    """

    def __init__(self, labels: Sequence[str], has_entities: bool):
        parts = [label.partition("-") if has_entities else ("B", "", label) for label in labels]
        self._names = sorted({kind for _, _, kind in parts})
        self._is_outside = np.array([prefix == "O" for prefix, _, _ in parts])
        self._is_inside = np.array([prefix == "I" for prefix, _, _ in parts])
        self._kinds = np.array([self._names.index(kind) for _, _, kind in parts], np.int32)

    def __call__(
        self, label_ids: tf.Tensor, spans: Spans
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Label ids [W] of words at these spans -> types, first characters, characters behind.

        All three are ragged [B, (entities)]: string, int32, int32.
        """
        starts, ends = spans
        text = starts.value_rowids()
        used = ~tf.gather(tf.constant(self._is_outside), label_ids)
        kinds = tf.where(used, tf.gather(tf.constant(self._kinds), label_ids), -1)
        count = tf.size(kinds)
        same_text = tf.concat([[False], text[1:] == text[:-1]], axis=0)[:count]
        before = tf.concat([[-1], kinds[:-1]], axis=0)[:count]
        inside = tf.gather(tf.constant(self._is_inside), label_ids)
        begins = used & ~(inside & same_text & (kinds == before))
        entity = tf.boolean_mask(tf.cumsum(tf.cast(begins, tf.int32)) - 1, used)
        behinds = tf.math.segment_max(tf.boolean_mask(ends.values, used), entity)
        firsts = tf.boolean_mask(starts.values, begins)
        names = tf.gather(tf.constant(self._names), tf.boolean_mask(kinds, begins))
        rows = tf.RaggedTensor.from_value_rowids(
            firsts, tf.boolean_mask(text, begins), starts.nrows(), validate=False
        )
        return rows.with_values(names), rows, rows.with_values(behinds)
