"""Text to WordPiece ids, as `tokenization.py` of google-research/bert, many times as fast.

The rules are those of `text_rules`, whose `words` is the specification. The engine here gets its
speed from doing a thing once: a text is split on whitespace into chunks, and what a chunk becomes
is remembered. A new chunk is cut at the characters that stand alone (each is a look-up); the runs
between them are replaced character by character and matched greedily against the vocabulary.
Chunks whose characters depend on their neighbours go through the specification itself.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from os import PathLike
from typing import TypeVar

from bert_tf import text_rules
from bert_tf.base_tokenizer import Piece, Tokenizer
from bert_tf.vocabulary import (
    SPECIAL_TOKENS,
    UnknownTokenError,
    convert_by_vocab,
    convert_ids_to_tokens,
    convert_tokens_to_ids,
    load_vocab,
    validate_case_matches_checkpoint,
    validate_vocab_size,
)
from bert_tf.wordpiece import (
    MAX_WORD_CHARACTERS,
    BasicTokenizer,
    Matcher,
    WordpieceTokenizer,
    character_class,
    convert_to_unicode,
    printable_text,
    whitespace_tokenize,
)

__all__ = [
    "BasicTokenizer",
    "FullTokenizer",
    "Piece",
    "Tokenizer",
    "UnknownTokenError",
    "WordpieceTokenizer",
    "convert_by_vocab",
    "convert_ids_to_tokens",
    "convert_to_unicode",
    "convert_tokens_to_ids",
    "create_tokenizer",
    "load_vocab",
    "printable_text",
    "validate_case_matches_checkpoint",
    "validate_vocab_size",
    "whitespace_tokenize",
]

Value = TypeVar("Value")
# What bounds the memory of an engine: how many chunks it remembers, and how long ones.
_REMEMBERED_CHUNKS = 1 << 17
_REMEMBERED_CHARACTERS = 32

# What the rules split on blanks; `str.split` would also split on characters that they delete.
_CHUNK = re.compile(f"[^{character_class(text_rules.BLANKS)}]+")

# Characters that stand alone, as the inside of a regular expression's class. Rare ones are left
# out: a shorter class is a faster one, and a chunk may be cut too seldom.
_STANDALONE = character_class(code for code in text_rules.PUNCTUATION if code <= 0xFFFF) + "".join(
    f"{chr(block[0])}-{chr(block[-1])}" for block in text_rules.CJK_BLOCKS
)


class _Memory(dict[str, Value]):
    """What chunks become, by `_work_out`, kept within bounds of number and length."""

    def __missing__(self, chunk: str) -> Value:
        value = self._work_out(chunk)
        if len(chunk) <= _REMEMBERED_CHARACTERS:
            if len(self) >= _REMEMBERED_CHUNKS:
                self.clear()
            self[chunk] = value
        return value

    def _work_out(self, chunk: str) -> Value:
        raise NotImplementedError


class _ChunkIds(_Memory[Sequence[int]]):
    """The ids of a chunk."""

    # In ASCII: runs of letters, digits and what is deleted, or one mark.
    _ascii_parts = re.compile(r"[0-9A-Za-z\x00-\x1f\x7f]+|[^0-9A-Za-z\x00-\x1f\x7f]")
    _runs = re.compile(f"([^{_STANDALONE}]+)")

    def __init__(self, basic: BasicTokenizer, matcher: Matcher[int]):
        super().__init__()
        self._basic = basic
        self._do_lower_case = basic.do_lower_case
        self._match = matcher.match
        self._standalone_id = _StandaloneIds(basic, matcher).__getitem__

    def _work_out(self, chunk: str) -> Sequence[int]:
        if not chunk.isascii():
            return self._work_out_beyond_ascii(chunk)
        if chunk.isalnum():
            return self._match(chunk.lower() if self._do_lower_case else chunk)
        parts = self._ascii_parts.findall(chunk)
        if len(parts) == 1:
            return self._match_words(chunk)
        ids: list[int] = []
        for part in parts:
            ids += self[part]
        return ids

    def _work_out_beyond_ascii(self, chunk: str) -> Sequence[int]:
        parts = self._runs.split(chunk)  # standalone characters, a run, standalone characters ...
        runs = parts[1::2]
        if runs == [chunk] or self._basic.is_contextual("".join(runs)):
            return self._match_words(chunk)
        ids: list[int] = []
        is_run = False
        for part in parts:
            if is_run:
                ids += self[part]
            elif part:
                ids += map(self._standalone_id, part)
            is_run = not is_run
        return ids

    def _match_words(self, chunk: str) -> Sequence[int]:
        return list(chain.from_iterable(map(self._match, self._basic.words(chunk))))


class _StandaloneIds(dict[str, int]):
    """The id of a character that is a word by itself."""

    def __init__(self, basic: BasicTokenizer, matcher: Matcher[int]):
        super().__init__()
        self._words = basic.words
        self._match = matcher.match

    def __missing__(self, char: str) -> int:
        (word,) = self._words(char)
        (self[char],) = self._match(word)
        return self[char]


class _ChunkPieces(_Memory[Sequence[Piece]]):
    """The pieces of a chunk, located from its beginning."""

    _parts = re.compile(f"[{_STANDALONE}]|[^{_STANDALONE}]+")
    # Accents belong to the piece before them, when they are dropped.
    _lower_case_parts = re.compile(
        f"[{_STANDALONE}][{character_class(text_rules.ACCENTS)}]*|[^{_STANDALONE}]+"
    )

    def __init__(self, basic: BasicTokenizer, wordpiece: WordpieceTokenizer):
        super().__init__()
        self._basic = basic
        self._wordpiece = wordpiece
        self._cut = (self._lower_case_parts if basic.do_lower_case else self._parts).findall

    def _work_out(self, chunk: str) -> Sequence[Piece]:
        if chunk.isascii() and chunk.isalnum():  # one word, character by character
            word = chunk.lower() if self._basic.do_lower_case else chunk
            return list(self._locate(word))
        parts = self._cut(chunk)
        if len(parts) == 1 or self._basic.is_contextual(chunk):
            return self._locate_all(chunk)
        pieces: list[Piece] = []
        start = 0
        for part in parts:
            pieces += [Piece(token, start + a, start + b) for token, a, b in self[part]]
            start += len(part)
        return pieces

    def _locate_all(self, chunk: str) -> Sequence[Piece]:
        lower = self._basic.do_lower_case
        pieces: list[Piece] = []
        for word in text_rules.words(chunk, lower):
            for token, start, end in self._locate(text_rules.spell(word)):
                sources = [source for _, source in word[start:end]]
                pieces.append(Piece(token, min(sources), max(sources) + 1))
        if not lower:
            return pieces
        return [piece._replace(end=_skip_accents(chunk, piece.end)) for piece in pieces]

    def _locate(self, word: str) -> Iterator[Piece]:
        """The pieces of a word, with spans of its own characters."""
        start = 0
        for token in self._wordpiece.tokenize(word):
            if token == self._wordpiece.unk_token:
                length = len(word)
            else:
                length = len(token) - (len("##") if start else 0)
            yield Piece(token, start, start + length)
            start += length


def _skip_accents(chunk: str, position: int) -> int:
    while position < len(chunk) and ord(chunk[position]) in text_rules.ACCENTS:
        position += 1
    return position


class FullTokenizer(Tokenizer):
    """Text to WordPiece tokens and ids: `FullTokenizer` of google-research/bert.

    `Tokenizer` lists its attributes. Of a token on several lines of the vocabulary the last counts.
    An [UNK] spans its whole word.

    Args:
      vocab_file: one token a line, or a `tokenizer.json`; see `load_vocab`.
      do_lower_case: lower-case the text and drop its accents.
      keep_special_tokens: "[MASK]" and the like in a text are tokens; see `Tokenizer`.

    Raises: ValueError if the vocabulary lacks [UNK], [CLS] or [SEP].
    """

    tokenization = "wordpiece"
    file_argument = "vocab_file"

    def __init__(
        self,
        vocab_file: str | PathLike[str],
        do_lower_case: bool = True,
        keep_special_tokens: bool = False,
    ):
        super().__init__(vocab_file, do_lower_case, keep_special_tokens)
        self.vocab = load_vocab(vocab_file)
        self._check_special_tokens()
        self.inv_vocab = {index: token for token, index in self.vocab.items()}
        self.num_tokens = max(self.inv_vocab) + 1
        self.unk_token_id, self.cls_token_id, self.sep_token_id = (
            self.vocab[token] for token in SPECIAL_TOKENS[1:]
        )
        self.pad_token_id, self.mask_token_id = map(self.vocab.get, ("[PAD]", "[MASK]"))
        self._set_special_tokens()
        self.basic_tokenizer = BasicTokenizer(do_lower_case)
        self.wordpiece_tokenizer = WordpieceTokenizer(self.vocab)
        matcher = Matcher(self.vocab, self.unk_token_id, MAX_WORD_CHARACTERS)
        self._ids = _ChunkIds(self.basic_tokenizer, matcher)
        self._pieces = _ChunkPieces(self.basic_tokenizer, self.wordpiece_tokenizer)

    def _check_special_tokens(self) -> None:
        missing = [token for token in SPECIAL_TOKENS if token not in self.vocab]
        if missing in ([], ["[PAD]"]):  # Google's tokenizer never asks for [PAD]; rows do
            return
        remedy = "use the vocab.txt that belongs to the checkpoint"
        if any("\t" in token for token in self.vocab):
            remedy = "its lines are `token<TAB>id`; keep the first column, in the order of the ids"
        raise ValueError(
            f"{self.vocab_file} lacks {', '.join(missing)}; expected a BERT vocabulary, one token "
            f"a line: {remedy}"
        )

    def _encode(self, text: str) -> list[int]:
        chunks = self.basic_tokenizer.chunks(text)
        return list(chain.from_iterable(map(self._ids.__getitem__, chunks)))

    def _locate(self, text: str) -> Iterator[Piece]:
        for found in _CHUNK.finditer(text):
            start = found.start()
            for token, a, b in self._pieces[found.group()]:
                yield Piece(token, start + a, start + b)

    def encode_with_offsets(self, text: str | bytes) -> tuple[list[int], list[int], list[int]]:
        if self.keep_special_tokens:
            return super().encode_with_offsets(text)
        vocab, pieces = self.vocab, self._pieces
        ids: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        for found in _CHUNK.finditer(convert_to_unicode(text)):
            start = found.start()
            for token, a, b in pieces[found.group()]:
                ids.append(vocab[token])
                starts.append(start + a)
                ends.append(start + b)
        return ids, starts, ends


def create_tokenizer(
    *,
    vocab_file: str | PathLike[str] | None = None,
    spm_model_file: str | PathLike[str] | None = None,
    do_lower_case: bool = True,
    keep_special_tokens: bool = False,
) -> Tokenizer:
    """The tokenizer of a vocabulary (WordPiece) or of a SentencePiece model.

    Args:
      vocab_file, spm_model_file: one of the two.
      do_lower_case, keep_special_tokens: as `FullTokenizer` and `SentencePieceTokenizer`.

    Raises: ValueError as these, or if not exactly one file is given.
    """
    if vocab_file is not None and spm_model_file is None:
        return FullTokenizer(vocab_file, do_lower_case, keep_special_tokens)
    if spm_model_file is not None and vocab_file is None:
        # Here, because few need the library.
        from bert_tf.sentencepiece_tokenization import SentencePieceTokenizer

        return SentencePieceTokenizer(spm_model_file, do_lower_case, keep_special_tokens)
    raise ValueError(
        f"vocab_file={vocab_file} and spm_model_file={spm_model_file}: give one of the two"
    )
