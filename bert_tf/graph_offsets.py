"""Pieces with the spans of text that they came from, as graph operations: for SavedModels.

`OffsetTokenizer` gives what `FullTokenizer.tokenize_with_offsets` gives, for every string. The
ids alone are `graph_tokenization.GraphTokenizer`'s work, and sooner done: it rewrites strings.
Here every character is carried through the rules of `text_rules` together with its source, the
place of the character that it came from.

Shape letters: B batch, N characters of all texts together.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from os import PathLike
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tf import text_rules
from bert_tf.graph_tokenization import (
    FINAL_SIGMA,
    NO_WORD,
    canonical_order,
    replacements,
    wordpiece_tokenizer,
)
from bert_tf.tokenization import MAX_WORD_CHARACTERS, FullTokenizer

TEXTS = [tf.TensorSpec([None], tf.string, "texts")]
_BLANK = ord(" ")


class Characters(NamedTuple):
    """Characters of all texts, one behind the other."""

    codes: tf.Tensor  # code points, int32 [N]
    sources: tf.Tensor  # places among the characters as they were given, int64 [N]

    def take(self, index: tf.Tensor) -> "Characters":
        return Characters(tf.gather(self.codes, index), tf.gather(self.sources, index))

    def rewrite(self, parts: tf.RaggedTensor) -> "Characters":
        """Parts, int32 ragged [N, (parts)], in place of the characters."""
        sources = tf.gather(self.sources, parts.value_rowids())
        return Characters(parts.values, sources)


class OffsetTokenizer(tf.Module):
    """Strings to the ids of their pieces and the spans of these, with no Python inside.

    `tokenize_with_offsets` takes texts [B], UTF-8 (malformed bytes are ignored), and returns the
    ids, starts and ends of their pieces, each int32 ragged [B, (pieces)]. A piece came from the
    characters `start` to `end - 1` of its text, counted without malformed bytes; `cut` cuts them
    out.

    Args:
      vocab_file: as of `GraphTokenizer`. None knows no word, so that each is one piece: the spans
        are those of the words.
      do_lower_case: as of `GraphTokenizer`.

    Raises: ValueError if the vocabulary lacks a special token, like `FullTokenizer`.
    """

    def __init__(self, vocab_file: str | PathLike[str] | None, do_lower_case: bool = True):
        super().__init__()
        # Not a decorated method, whose tf.function would hold this module weakly.
        self.tokenize_with_offsets = tf.function(
            self._tokenize_with_offsets, autograph=False, input_signature=TEXTS
        )
        vocab = {"[UNK]": 0}
        if vocab_file is not None:
            vocab = FullTokenizer(vocab_file, do_lower_case).vocab
        self._do_lower_case = do_lower_case
        self._unk_token_id = vocab["[UNK]"]
        self._wordpiece = wordpiece_tokenizer(vocab)
        changed = replacements(do_lower_case)
        cjk = {c: f" {chr(c)} " for c in chain(*text_rules.CJK_BLOCKS)}
        self._replacements = Table({c: s for c, s in changed.items() if s != cjk.get(c)})
        self._cjk = edges(cjk)
        self._deleted, self._accents = map(edges, (text_rules.DELETED, text_rules.ACCENTS))
        self._decompositions = Table(
            {c: "".join(map(chr, parts)) for c, parts in text_rules.DECOMPOSITION.items()}
        )

    def _tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        given = tf.strings.unicode_decode(well_formed(texts), "UTF-8")  # [B, (characters)]
        characters = Characters(given.values, tf.range(tf.size(given, tf.int64)))
        if self._do_lower_case:
            characters = self._apply_context(characters, given)
        characters = self._replace(characters)
        words = tf.strings.split(spell(characters, given))  # [B, (words)]
        pieces, lengths = self._match(words.values)
        places = tf.boolean_mask(characters.sources, characters.codes != _BLANK)
        places = tf.RaggedTensor.from_row_lengths(places, lengths, validate=False)
        starts, ends = tf.reduce_min(places, axis=1), tf.reduce_max(places, axis=1) + 1
        splits = tf.gather(pieces.row_splits, words.row_splits)
        ids = tf.RaggedTensor.from_row_splits(pieces.values, splits, validate=False)
        if self._do_lower_case:
            ends = self._skip_accents(ends, given)
        begin = tf.gather(given.row_starts(), ids.value_rowids())
        starts, ends = (tf.cast(place - begin, tf.int32) for place in (starts, ends))
        return ids, ids.with_values(starts), ids.with_values(ends)

    def _apply_context(self, characters: Characters, given: tf.RaggedTensor) -> Characters:
        """The rules that look at a character's neighbours: final sigmas, the order of marks."""
        deleted = is_inside(self._deleted, characters.codes)
        characters = characters.take(tf.where(~deleted)[:, 0])
        texts = tf.strings.regex_replace(spell(characters, given), *FINAL_SIGMA)
        codes = tf.strings.unicode_decode(texts, "UTF-8").values
        parts = self._decompositions.look_up(codes, tf.RaggedTensor.from_tensor(codes[:, None]))
        characters = characters.rewrite(parts)
        order = canonical_order(characters.codes, text_of(characters, given))
        return characters.take(order)

    def _replace(self, characters: Characters) -> Characters:
        """The other rules: afterwards there are blanks around words, and no others."""
        codes = characters.codes
        blank = tf.fill(tf.shape(codes), _BLANK)
        is_cjk = is_inside(self._cjk, codes)
        alone = tf.stack([is_cjk, tf.fill(tf.shape(codes), True), is_cjk], axis=1)
        unnamed = tf.ragged.boolean_mask(tf.stack([blank, codes, blank], axis=1), alone)
        return characters.rewrite(self._replacements.look_up(codes, unnamed))

    def _match(self, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Words [W] -> ids, int32 ragged [W, (pieces)], and the pieces' lengths in characters."""
        lengths = tf.strings.length(words, unit="UTF8_CHAR")
        matchable = tf.where(lengths > MAX_WORD_CHARACTERS, NO_WORD, words)
        ids, starts, ends = self._wordpiece.tokenize_with_offsets(matchable)  # in bytes
        starts, sizes = starts.values, ends.values - starts.values
        word = ids.value_rowids()
        spelt = tf.strings.substr(tf.gather(words, word), starts, sizes)
        own_lengths = tf.strings.length(spelt, unit="UTF8_CHAR")
        is_unknown = ids.values == self._unk_token_id
        return ids, tf.where(is_unknown, tf.gather(lengths, word), own_lengths)

    def _skip_accents(self, ends: tf.Tensor, given: tf.RaggedTensor) -> tf.Tensor:
        """Ends of pieces, moved behind the accents there, which lower-casing drops."""
        return skip(ends, is_inside(self._accents, given.values), given)


def skip(places: tf.Tensor, skipped: tf.Tensor, given: tf.RaggedTensor) -> tf.Tensor:
    """Places among all characters of `given` [B, (characters)], each moved on over what is skipped.

    That is to the first character that is not, or the end of its text. `skipped` is bool [N].
    """
    others = tf.where(~skipped)[:, 0]
    stops = tf.sort(tf.concat([others, given.row_limits()], axis=0))
    return tf.gather(stops, tf.searchsorted(stops, places))


def cut(
    texts: tf.Tensor, starts: tf.Tensor | tf.RaggedTensor, ends: tf.Tensor | tf.RaggedTensor
) -> tf.Tensor | tf.RaggedTensor:
    """The characters `start` to `end - 1` of texts [B], as `tokenize_with_offsets` counts them.

    `starts` and `ends` are int32 [B], or ragged [B, (spans)], and so are the strings. A span must
    lie within its text: TensorFlow refuses a start behind the last character of a text.
    """
    if isinstance(starts, tf.RaggedTensor):
        texts = tf.gather(texts, starts.value_rowids())
        return starts.with_values(cut(texts, starts.values, ends.values))
    return tf.strings.substr(well_formed(texts), starts, ends - starts, unit="UTF8_CHAR")


def well_formed(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")


def text_of(characters: Characters, given: tf.RaggedTensor) -> tf.Tensor:
    """The rows of `given` that the characters came from, int64 [N]."""
    return tf.gather(given.value_rowids(), characters.sources)


def spell(characters: Characters, given: tf.RaggedTensor) -> tf.Tensor:
    """The texts [B] of the characters; those of one text must lie together."""
    rows = tf.RaggedTensor.from_value_rowids(
        characters.codes, text_of(characters, given), given.nrows(), validate=False
    )
    return tf.strings.unicode_encode(rows, "UTF-8")


class Table:
    """A map of code points to texts."""

    def __init__(self, replacements: Mapping[int, str]):
        self._keys = np.array(sorted(replacements), np.int32)
        parts = [[ord(char) for char in replacements[key]] for key in self._keys.tolist()]
        self._values = np.array([*chain.from_iterable(parts)], np.int32)
        self._lengths = np.array([*map(len, parts)], np.int64)

    def look_up(self, codes: tf.Tensor, unnamed: tf.RaggedTensor) -> tf.RaggedTensor:
        """Code points of the texts for codes [N], int32 ragged [N, (parts)].

        A code point that the table does not name gets its row of `unnamed`, of the same shape.
        """
        keys, size = tf.constant(self._keys), len(self._keys)
        rows = tf.RaggedTensor.from_row_lengths(self._values, self._lengths, validate=False)
        place = tf.minimum(tf.searchsorted(keys, codes), size - 1)
        is_named = tf.gather(keys, place) == codes
        place = tf.where(is_named, place, size + tf.range(tf.size(codes)))
        return tf.gather(tf.concat([rows, unnamed], axis=0), place)


def edges(code_points: Iterable[int]) -> np.ndarray:
    """Where a set of code points begins and where it stops, in turn: int32, ascending."""
    member = np.zeros(0x110001, np.int8)
    member[list(code_points)] = 1
    return np.flatnonzero(np.diff(member, prepend=0)).astype(np.int32)


def is_inside(edges: np.ndarray, codes: tf.Tensor) -> tf.Tensor:
    """Which of the code points [N] the set with these edges holds, bool [N]."""
    return tf.searchsorted(edges, codes, side="right") % 2 == 1
