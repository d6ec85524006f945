"""What all tokenizers share, whatever a piece is: the interface, and special tokens in a text."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from typing import Any, ClassVar, NamedTuple, TypeVar

from bert_tf.vocabulary import UnknownTokenError, convert_by_vocab, validate_vocab_size
from bert_tf.wordpiece import convert_to_unicode

Key = TypeVar("Key")
Value = TypeVar("Value")

_UNUSED = re.compile(r"\[unused[0-9]+\]")


class Piece(NamedTuple):
    """A token and the span of the text, in characters, that it came from."""

    token: str
    start: int
    end: int


class Tokenizer(ABC):
    """Text to tokens and ids.

    A token's name in a text ("[MASK]") is text like any other, as in Google's code, unless
    `keep_special_tokens`: then it is that token, wherever it stands, written exactly so. What
    stands around it is tokenized as texts of their own. This goes for [PAD], [UNK], [CLS], [SEP],
    [MASK] (whatever the vocabulary calls them) and [unusedN], where the vocabulary has them.

    Attributes:
      tokenization: the name of the kind, as the flag --tokenization takes it.
      file_argument: what `create_tokenizer` and the flags call its file.
      vocab_file: the path it was made from.
      do_lower_case: whether text is lower-cased and loses its accents.
      keep_special_tokens: as above.
      vocab: token -> id.
      inv_vocab: id -> token.
      num_tokens: the entries of the file; `vocab_size` of the model is as many, or more.
      unk_token_id, cls_token_id, sep_token_id: ids of the special tokens.
      pad_token_id, mask_token_id: those of [PAD] and [MASK], or None if the vocabulary has none.
      special_tokens: the tokens that `keep_special_tokens` lets through, and their ids.
    """

    tokenization: ClassVar[str]
    file_argument: ClassVar[str]
    vocab: dict[str, int]
    inv_vocab: dict[int, str]
    num_tokens: int
    pad_token_id: int | None
    unk_token_id: int
    cls_token_id: int
    sep_token_id: int
    mask_token_id: int | None

    def __init__(
        self, vocab_file: str | PathLike[str], do_lower_case: bool, keep_special_tokens: bool
    ):
        self.vocab_file = fspath(vocab_file)
        self.do_lower_case = do_lower_case
        self.keep_special_tokens = keep_special_tokens

    def _set_special_tokens(self) -> None:
        """Notes which tokens are special: those that have an attribute, and the unused ones."""
        ids = {self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id}
        self.special_tokens = {
            token: token_id
            for token, token_id in self.vocab.items()
            if token_id in ids or token_id == self.mask_token_id or _UNUSED.fullmatch(token)
        }
        pattern = f"({special_tokens_pattern(self.special_tokens)})"
        self._split = re.compile(pattern).split if self.keep_special_tokens else None

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this tokenizer again, given to `create_tokenizer` or `checkpoints.save`."""
        return {
            self.file_argument: self.vocab_file,
            "do_lower_case": self.do_lower_case,
            "keep_special_tokens": self.keep_special_tokens,
        }

    def check_model(self, vocab_size: int, config_file: str = "the config") -> None:
        """Raise ValueError unless a model with so many embeddings can read this tokenizer's rows.

        Args:
          config_file: what says `vocab_size`, for the message.
        """
        self.check_padding()
        validate_vocab_size(self.vocab_file, self.num_tokens, vocab_size, config_file)

    def check_padding(self) -> None:
        """Raise ValueError if there is no [PAD], which rows are filled up with."""
        if self.pad_token_id is None:
            raise ValueError(
                f"{self.vocab_file} lacks [PAD], which rows are filled up with; use the vocab.txt "
                "that belongs to the checkpoint"
            )

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""

    @abstractmethod
    def _locate(self, text: str) -> Iterator[Piece]:
        """The pieces of a text without special tokens."""

    def encode(self, text: str | bytes) -> list[int]:
        """The ids of the pieces of `text`, without [CLS] and [SEP] around them."""
        text = convert_to_unicode(text)
        if self._split is None:
            return self._encode(text)
        ids: list[int] = []
        for number, part in enumerate(self._split(text)):
            ids += [self.special_tokens[part]] if number % 2 else self._encode(part)
        return ids

    def encode_batch(self, texts: Iterable[str | bytes]) -> list[list[int]]:
        """`encode` of every text."""
        return list(map(self.encode, texts))

    def tokenize(self, text: str | bytes) -> list[str]:
        """The pieces of `text`."""
        return list(map(self.inv_vocab.__getitem__, self.encode(text)))

    def tokenize_with_offsets(self, text: str | bytes) -> list[Piece]:
        """The pieces of `text`, each with the span of characters that it came from.

        A span reaches from the first to the last character that is in the piece, and on over the
        accents directly behind, which lower-casing drops. For bytes the spans count the characters
        of the decoded text.
        """
        text = convert_to_unicode(text)
        if self._split is None:
            return list(self._locate(text))
        pieces: list[Piece] = []
        start = 0
        for number, part in enumerate(self._split(text)):
            found = [Piece(part, 0, len(part))] if number % 2 else self._locate(part)
            pieces += [Piece(token, start + a, start + b) for token, a, b in found]
            start += len(part)
        return pieces

    def encode_with_offsets(self, text: str | bytes) -> tuple[list[int], list[int], list[int]]:
        """The same as columns, for many texts: the ids of the pieces, their starts and ends."""
        pieces = self.tokenize_with_offsets(text)
        ids = self.convert_tokens_to_ids([piece.token for piece in pieces])
        return ids, [piece.start for piece in pieces], [piece.end for piece in pieces]

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """The id of each token; raises `UnknownTokenError` for one that is not in the file."""
        return self._convert(self.vocab, tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id; raises `UnknownTokenError` for an id beyond the file."""
        return self._convert(self.inv_vocab, ids)

    def _convert(self, vocab: Mapping[Key, Value], items: Iterable[Key]) -> list[Value]:
        try:
            return convert_by_vocab(vocab, items)
        except UnknownTokenError as error:
            raise UnknownTokenError(f"{self.vocab_file}: {error}") from None


def special_tokens_pattern(tokens: Iterable[str]) -> str:
    """A regular expression, for `re` and for RE2, that matches any of the tokens."""
    return "|".join(map(re.escape, tokens))
