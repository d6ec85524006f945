"""The two steps of BERT's tokenizer: text to words, and words to pieces of a vocabulary."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeVar

from bert_tf import text_rules

Value = TypeVar("Value")

MAX_WORD_CHARACTERS = 200


def convert_to_unicode(text: str | bytes) -> str:
    """`text` as a string; bytes are read as UTF-8, malformed sequences left out."""
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):
        return text.decode("utf-8", "ignore")
    raise ValueError(f"Unsupported string type: {type(text)}; expected str or bytes")


printable_text = convert_to_unicode


def whitespace_tokenize(text: str) -> list[str]:
    """The parts of `text` between whitespace."""
    return text.split()


def character_class(code_points: Iterable[int]) -> str:
    return "".join(re.escape(chr(code_point)) for code_point in code_points)


class _Replacements(dict[int, str]):
    """`text_rules.replacement` as a table for `str.translate` that fills as it is used."""

    def __init__(self, do_lower_case: bool):
        super().__init__()
        self._do_lower_case = do_lower_case

    def __missing__(self, code_point: int) -> str:
        text = self[code_point] = text_rules.replacement(code_point, self._do_lower_case)
        return text


class BasicTokenizer:
    """Splits text into words and punctuation marks: `BasicTokenizer` of google-research/bert."""

    # Whitespace to `str.split`, but removed before that by the rules.
    _stray = re.compile(f"[{character_class(text_rules.WHITESPACE & text_rules.DELETED)}]")
    # Lower-casing and canonical order look at the neighbours of these.
    _contextual = re.compile(
        f"[{character_class({text_rules.CAPITAL_SIGMA, *text_rules.REORDERING_MARKS})}]"
    )

    def __init__(self, do_lower_case: bool = True):
        self.do_lower_case = do_lower_case
        self._replacements = _Replacements(do_lower_case)

    def tokenize(self, text: str | bytes) -> list[str]:
        """The words of `text`, lower-cased and without accents if `do_lower_case`."""
        return list(chain.from_iterable(map(self.words, self.chunks(convert_to_unicode(text)))))

    def chunks(self, text: str) -> list[str]:
        """The parts of `text` between whitespace, otherwise as they are."""
        return self._stray.sub("", text).split()

    def words(self, chunk: str) -> list[str]:
        """The words of one of the `chunks`."""
        if self.is_contextual(chunk):
            return list(map(text_rules.spell, text_rules.words(chunk, self.do_lower_case)))
        return chunk.translate(self._replacements).split()

    def is_contextual(self, chunk: str) -> bool:
        """Whether the chunk is more than the sum of its characters."""
        return self.do_lower_case and self._contextual.search(chunk) is not None


class Matcher(Generic[Value]):
    """Greedy longest match of words against the pieces of a vocabulary."""

    def __init__(self, pieces: Mapping[str, Value], unknown: Value, max_characters: int):
        self._initial = pieces
        self._continuing = {t[2:]: value for t, value in pieces.items() if t.startswith("##")}
        self._longest = max(map(len, pieces), default=0)
        self._unknown = (unknown,)
        self._max_characters = max_characters

    def match(self, word: str) -> Sequence[Value]:
        """The values of the word's pieces, or the unknown value if it cannot be made of pieces."""
        length = len(word)
        if length > self._max_characters:
            return self._unknown
        pieces, start = self._initial, 0
        if word in pieces:
            return (pieces[word],)
        found: list[Value] = []
        while start < length:
            end = start + self._longest
            if end > length:  # not min(): this is the innermost loop but one
                end = length
            while (piece := word[start:end]) not in pieces:
                end -= 1
                if end <= start:
                    return self._unknown
            found.append(pieces[piece])
            pieces, start = self._continuing, end
        return found


class WordpieceTokenizer:
    """Splits words into pieces: `WordpieceTokenizer` of google-research/bert."""

    def __init__(
        self,
        vocab: Collection[str],
        unk_token: str = "[UNK]",
        max_input_chars_per_word: int = MAX_WORD_CHARACTERS,
    ):
        self.vocab = vocab
        self.unk_token = unk_token
        self.max_input_chars_per_word = max_input_chars_per_word
        tokens = {token: token for token in vocab}
        self._matcher = Matcher(tokens, unk_token, max_input_chars_per_word)

    def tokenize(self, text: str | bytes) -> list[str]:
        """The pieces of words separated by whitespace, as `BasicTokenizer` makes them.

        A word that cannot be made of pieces, or is longer than `max_input_chars_per_word`
        characters, becomes one `unk_token`. "unaffable" -> ["un", "##aff", "##able"].
        """
        words = whitespace_tokenize(convert_to_unicode(text))
        return list(chain.from_iterable(map(self._matcher.match, words)))
