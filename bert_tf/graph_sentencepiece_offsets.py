"""SentencePiece pieces with the spans of text that they came from, as graph operations.

`offset_tokenizer` makes what suits a tokenizer: the ids, starts and ends of
`Tokenizer.tokenize_with_offsets`, for every string.

Shape letters: B batch, N characters of all texts together, P pieces of all texts together.
"""

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from bert_tf import text_rules
from bert_tf.base_tokenizer import Tokenizer
from bert_tf.graph_offsets import (
    TEXTS,
    Characters,
    OffsetTokenizer,
    Table,
    edges,
    is_inside,
    skip,
    spell,
    text_of,
    well_formed,
)
from bert_tf.graph_tokenization import FINAL_SIGMA
from bert_tf.graph_tokenizers import folds
from bert_tf.sentencepiece_tokenization import SentencePieceTokenizer

_BLANK = ord(" ")

Offsets = tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]  # ids, starts, ends


def offset_tokenizer(tokenizer: Tokenizer) -> "OffsetTokenizer | SentencePieceOffsetTokenizer":
    """A tf.Module whose `tokenize_with_offsets` gives ids and spans, with no Python inside.

    Raises: ValueError for a tokenizer with `keep_special_tokens`.
    """
    check_offsets(tokenizer)
    if isinstance(tokenizer, SentencePieceTokenizer):
        return SentencePieceOffsetTokenizer(tokenizer)
    return OffsetTokenizer(tokenizer.vocab_file, tokenizer.do_lower_case)


def check_offsets(tokenizer: Tokenizer) -> None:
    """Raises ValueError unless there is an `offset_tokenizer`."""
    if tokenizer.keep_special_tokens:
        raise ValueError(
            "a model with --keep_special_tokens cannot be exported for this task: its graph would "
            "have to tell the characters of pieces among special tokens; leave --export_dir out"
        )


class SentencePieceOffsetTokenizer(tf.Module):
    """`SentencePieceTokenizer.tokenize_with_offsets` as that of `OffsetTokenizer`.

    The model is in the graph.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer):
        super().__init__()
        self.tokenize_with_offsets = tf.function(
            self._tokenize_with_offsets, autograph=False, input_signature=TEXTS
        )
        self._do_lower_case = tokenizer.do_lower_case
        self._model = tf_text.SentencepieceTokenizer(tokenizer.serialized_model(), tf.int32)
        self._is_blank_piece = np.zeros(tokenizer.num_tokens, bool)
        self._is_blank_piece[list(tokenizer.blank_pieces)] = True
        self._whitespace = edges(text_rules.WHITESPACE)
        if self._do_lower_case:
            self._decompositions, self._folds = map(Table, map(folds, (False, True)))
            self._vanishing = edges(c for c, text in folds(do_lower_case=True).items() if not text)

    def _tokenize_with_offsets(self, texts: tf.Tensor) -> Offsets:
        given = tf.strings.unicode_decode(well_formed(texts), "UTF-8")  # [B, (characters)]
        characters = Characters(given.values, tf.range(tf.size(given, tf.int64)))
        if self._do_lower_case:
            characters = self._fold(characters, given)
        read = spell(characters, given)
        ids, begins, behinds = self._model.tokenize_with_offsets(read)  # in bytes of their texts
        text = ids.value_rowids()
        places = _Places(characters, read)
        start, end = (places(text, place.values) for place in (begins, behinds))
        is_empty = tf.gather(self._is_blank_piece, ids.values) & (start == end)
        start, end = self._without_blanks(ids.values, start, end, characters, places.limits(text))
        starts, ends = self._in_given(start, end, is_empty, text, characters.sources, given)
        begin = tf.gather(given.row_starts(), text)
        starts, ends = (tf.cast(place - begin, tf.int32) for place in (starts, ends))
        return ids, ids.with_values(starts), ids.with_values(ends)

    def _fold(self, characters: Characters, given: tf.RaggedTensor) -> Characters:
        """`text_rules.folded`; blanks are joined when all that gives one has given it."""

        def replace(table: Table, characters: Characters) -> Characters:
            codes = characters.codes
            same = tf.RaggedTensor.from_tensor(codes[:, tf.newaxis])
            return characters.rewrite(table.look_up(codes, same))

        characters = replace(self._decompositions, characters)
        texts = tf.strings.regex_replace(spell(characters, given), *FINAL_SIGMA)
        codes = tf.strings.unicode_decode(texts, "UTF-8").values
        characters = replace(self._folds, Characters(codes, characters.sources))
        # Of blanks in a row the first one stays, and none at the edges of a text.
        is_blank, text = characters.codes == _BLANK, text_of(characters, given)
        follows = tf.concat([[False], text[1:] == text[:-1]], axis=0)[: tf.size(text)]
        after_blank = tf.concat([[True], is_blank[:-1]], axis=0)[: tf.size(text)]
        characters = characters.take(tf.where(~is_blank | (follows & ~after_blank))[:, 0])
        is_blank, text = characters.codes == _BLANK, text_of(characters, given)
        is_last = tf.concat([text[1:] != text[:-1], [True]], axis=0)[: tf.size(text)]
        return characters.take(tf.where(~(is_blank & is_last))[:, 0])

    def _without_blanks(
        self,
        ids: tf.Tensor,
        start: tf.Tensor,
        end: tf.Tensor,
        characters: Characters,
        limit: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Spans [P] in the text that the model read, as `sentencepiece_tokenization._span`.

        `limit` [P] is where the text of the piece ends.
        """
        others = tf.where(~is_inside(self._whitespace, characters.codes))[:, 0]
        ends = tf.concat([[0], others + 1], axis=0)
        first = tf.gather(tf.concat([others, [tf.int64.max]], 0), tf.searchsorted(others, start))
        behind = tf.gather(ends, tf.searchsorted(others, end))
        has_others = first < end
        plain = tf.gather(self._is_blank_piece, ids)
        stripped = has_others & ~plain
        start, end = tf.where(stripped, first, start), tf.where(stripped, behind, end)
        start = tf.where(plain, start, tf.minimum(start, limit - 1))
        return start, tf.where(plain, end, tf.maximum(end, start + 1))

    def _in_given(
        self,
        start: tf.Tensor,
        end: tf.Tensor,
        is_empty: tf.Tensor,
        text: tf.Tensor,
        sources: tf.Tensor,
        given: tf.RaggedTensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same spans [P] in the texts as they were given."""
        sources = tf.concat([sources, [tf.size(given, tf.int64)]], axis=0)
        limit = tf.gather(given.row_limits(), text)
        starts = tf.minimum(tf.gather(sources, start), limit)
        ends = tf.gather(sources, tf.maximum(end - 1, 0)) + 1
        if self._do_lower_case:
            ends = skip(ends, is_inside(self._vanishing, given.values), given)
        return starts, tf.where(is_empty, starts, ends)


class _Places:
    """Bytes of texts [B] -> places among the characters of all texts."""

    def __init__(self, characters: Characters, texts: tf.Tensor):
        codes = characters.codes
        sizes = 1 + sum(tf.cast(codes >= first, tf.int64) for first in (0x80, 0x800, 0x10000))
        self._bytes = tf.cumsum(sizes, exclusive=True)  # where each character begins
        self._limits = tf.cumsum(tf.strings.length(texts, unit="BYTE"))

    def __call__(self, text: tf.Tensor, byte: tf.Tensor) -> tf.Tensor:
        """Of a byte of a text, or the one behind its last: int64 [P]."""
        limits = tf.cast(tf.concat([[0], self._limits], axis=0), tf.int64)
        byte = tf.gather(limits, text) + tf.cast(byte, tf.int64)
        return tf.searchsorted(self._bytes, byte, out_type=tf.int64)

    def limits(self, text: tf.Tensor) -> tf.Tensor:
        """Behind the last character of each text: int64 [P]."""
        limits = tf.cast(self._limits, tf.int64)
        return tf.searchsorted(self._bytes, tf.gather(limits, text), out_type=tf.int64)
