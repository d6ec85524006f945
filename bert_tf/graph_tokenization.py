"""The tokenizer as graph operations: for tf.data and SavedModels.

`GraphTokenizer` gives the ids of `tokenization.FullTokenizer` for every string. It is made from
the rules and the pinned table of `text_rules`: what TensorFlow and TF.Text know about Unicode
themselves follows other versions, and other rules, than Google's tokenizer, so none of it is used.

Shape letter: B batch.
"""

from collections.abc import Callable, Iterable
from functools import cache
from os import PathLike

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from bert_tf import normalizer_buffer, text_rules
from bert_tf.tokenization import MAX_WORD_CHARACTERS, FullTokenizer

_MAX_CHARACTER_BYTES = 4
# A control character, so the rules delete it from every text: it spells words that no vocabulary
# holds, and stands for the pieces that no word can match.
NO_WORD = "\x01"


class GraphTokenizer(tf.Module):
    """Strings to the ids of their pieces, with no Python inside.

    Args:
      vocab_file: one piece a line, as for `FullTokenizer`; its content becomes part of the graph.
      do_lower_case: lower-case the text and drop its accents.

    Raises: ValueError if the vocabulary lacks a special token, like `FullTokenizer`.
    """

    def __init__(self, vocab_file: str | PathLike[str], do_lower_case: bool = True):
        super().__init__()
        vocab = FullTokenizer(vocab_file, do_lower_case).vocab
        self._do_lower_case = do_lower_case
        self._replace_characters = replacer(_replacements_buffer(do_lower_case))
        self._decompose = replacer(_decompositions_buffer()) if do_lower_case else None
        self._wordpiece = wordpiece_tokenizer(vocab)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Texts [B], UTF-8 (malformed bytes are ignored) -> ids, int32 ragged [B, (pieces)]."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        if self._do_lower_case:
            rare = tf.strings.regex_full_match(texts, _NEEDS_CONTEXT)
            texts = tf.cond(
                tf.reduce_any(rare), lambda: self._apply_context(texts, rare), lambda: texts
            )
        texts = tf.strings.regex_replace(self._replace_characters(texts), _TOO_LONG, NO_WORD)
        words = tf.strings.split(texts)  # [B, (words)]
        pieces = self._wordpiece.tokenize(words.values)  # [(words), (pieces)]
        splits = tf.gather(pieces.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(pieces.values, splits, validate=False)

    def _apply_context(self, texts: tf.Tensor, rare: tf.Tensor) -> tf.Tensor:
        """The rules that look at a character's neighbours, for those of texts [B] that need them.

        They come before lower-casing: which letter a sigma becomes, and the order of marks.
        """
        chosen = tf.strings.regex_replace(tf.boolean_mask(texts, rare), _DELETED, "")
        chosen = tf.strings.regex_replace(chosen, *FINAL_SIGMA)
        chosen = _order_marks(self._decompose(chosen))
        return tf.tensor_scatter_nd_update(texts, tf.where(rare), chosen)


def _order_marks(texts: tf.Tensor) -> tf.Tensor:
    """Canonical order of decomposed texts [B]: combining marks in a row sort by their class."""
    characters = tf.strings.unicode_decode(texts, "UTF-8")  # [B, (characters)]
    codes = characters.flat_values
    codes = tf.gather(codes, canonical_order(codes, characters.value_rowids()))
    return tf.strings.unicode_encode(characters.with_flat_values(codes), "UTF-8")


def canonical_order(codes: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """Indices [N] that put decomposed code points [N] of the texts [N], ascending, in order."""
    marks, classes = _combining_classes()
    place = tf.minimum(tf.searchsorted(marks, codes), len(marks) - 1)
    combining_class = tf.where(tf.gather(marks, place) == codes, tf.gather(classes, place), 0)
    # A starter has class 0, begins a run, and stays in front of the marks behind it.
    starters = tf.cast(tf.cumsum(tf.cast(combining_class == 0, tf.int32)), tf.int64)
    run = starters + texts
    return tf.argsort(run * 256 + tf.cast(combining_class, tf.int64), stable=True)


def wordpiece_tokenizer(vocab: dict[str, int]) -> tf_text.FastWordpieceTokenizer:
    """Words to the ids of their pieces; `NO_WORD` and words without pieces to that of [UNK]."""
    return tf_text.FastWordpieceTokenizer(
        _matchable_pieces(vocab),
        max_bytes_per_word=MAX_WORD_CHARACTERS * _MAX_CHARACTER_BYTES,
        token_out_type=tf.int32,
        unknown_token="[UNK]",
        no_pretokenization=True,
    )


def _matchable_pieces(vocab: dict[str, int]) -> list[str]:
    """The pieces by id, with placeholders for ids that no word can give.

    Such are the earlier lines of duplicates (Google's code keeps the last one), "" and "##", which
    lines of blanks in the Chinese vocabulary come to, and pieces with a character that the rules
    delete. TF.Text refuses some of them.
    """
    pieces = [f"{NO_WORD}{i}" for i in range(max(vocab.values()) + 1)]
    for piece, i in vocab.items():
        if piece not in ("", "##") and text_rules.DELETED.isdisjoint(map(ord, piece)):
            pieces[i] = piece
    return pieces


def replacer(buffer: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """Texts [B] -> texts [B], characters replaced as the map of `normalizer_buffer.build` says."""
    return tf_text.FastBertNormalizer(model_buffer=tf.constant(buffer)).normalize


@cache
def _replacements_buffer(do_lower_case: bool) -> np.ndarray:
    return normalizer_buffer.build(replacements(do_lower_case))


@cache
def replacements(do_lower_case: bool) -> dict[int, str]:
    """`text_rules.replacement` of every code point that does not stay as it is."""
    every = (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    changed = ((c, text_rules.replacement(c, do_lower_case)) for c in every)
    return {c: text for c, text in changed if text != chr(c)}


@cache
def _decompositions_buffer() -> np.ndarray:
    # Hangul syllables decompose too, but to starters, which have no order to restore.
    return normalizer_buffer.build(
        {c: "".join(map(chr, parts)) for c, parts in text_rules.DECOMPOSITION.items()}
    )


@cache
def _combining_classes() -> tuple[np.ndarray, np.ndarray]:
    """Code points of the combining marks, int32 [M] ascending, and their classes, int32 [M]."""
    table = sorted(text_rules.COMBINING_CLASS.items())
    return tuple(np.array(table, np.int32).T)


def character_ranges(code_points: Iterable[int]) -> str:
    """The inside of a regular expression's [...] that matches these characters."""
    ranges: list[list[int]] = []
    for code_point in sorted(code_points):
        if ranges and code_point == ranges[-1][1] + 1:
            ranges[-1][1] = code_point
        else:
            ranges.append([code_point, code_point])
    return "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges)


_SIGMA = chr(text_rules.CAPITAL_SIGMA)
_CASED = character_ranges(text_rules.CASED)
_IGNORABLE = character_ranges(text_rules.CASE_IGNORABLE)
_NEEDS_CONTEXT = f"(?s).*[{_SIGMA}{character_ranges(text_rules.REORDERING_MARKS)}].*"
_DELETED = f"[{character_ranges(text_rules.DELETED)}]"
# The pattern and what to write: the sigma has a cased letter before it and none behind it.
FINAL_SIGMA = (
    f"([{_CASED}][{_IGNORABLE}]*){_SIGMA}([{_IGNORABLE}]*(?:[^{_CASED}{_IGNORABLE}]|$))",
    rf"\1{chr(text_rules.FINAL_SIGMA)}\2",
)
_TOO_LONG = f"[^ ]{{{MAX_WORD_CHARACTERS + 1},}}"
