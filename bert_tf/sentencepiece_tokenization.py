"""Text to the pieces of a SentencePiece model, as ALBERT and its kin are tokenized.

The model itself (its normalization, BPE or unigram) is the `sentencepiece` library's. Here are its
file, read with care, what ALBERT does to a text before the model sees it, and spans in characters.
"""

import re
from collections.abc import Iterator
from os import PathLike
from typing import Any

import sentencepiece
from google.protobuf import empty_pb2, message, unknown_fields

from bert_tf import filesystem, text_rules
from bert_tf.base_tokenizer import Piece, Tokenizer
from bert_tf.wordpiece import character_class

# Released models have 0.2 to 20 MB. Reading a bad one may take 40 times its size in memory.
MAX_MODEL_BYTES = 1 << 26
# What the special tokens are called, the first that a model has: in ALBERT's, XLNet's, RoBERTa's.
_CLS_NAMES = ("[CLS]", "<cls>", "<s>")
_SEP_NAMES = ("[SEP]", "<sep>", "</s>")
_PAD_NAMES = ("<pad>", "[PAD]")
_MASK_NAMES = ("[MASK]", "<mask>")
_BLANK_SIGN = "\u2581"  # stands for a blank in pieces
# The fields of a model file without which it is none: pieces, trainer_spec, normalizer_spec.
_MODEL_FIELDS = {1, 2, 3}
_SURROGATES = re.compile("[\ud800-\udfff]")
# Lower-casing looks at the neighbours of what decomposes to a capital sigma.
_CONTEXTUAL = re.compile(f"[{character_class(text_rules.SIGMAS)}]")


class SentencePieceTokenizer(Tokenizer):
    """Text to SentencePiece tokens and ids.

    With `do_lower_case` a text is what `text_rules.folded` makes of it before the model reads it,
    as in google-research/albert (`preprocess_text`); without, the model reads it as it is. A
    character that UTF-8 cannot hold (a lone surrogate) is read as U+FFFD.

    Args:
      spm_model_file: what `spm_train` of sentencepiece writes, `spiece.model` in ALBERT's releases.
      do_lower_case: lower-case the text and drop its accents.
      keep_special_tokens: "[MASK]" and the like in a text are tokens; see `Tokenizer`.

    Raises: ValueError, naming the file, if it is no such model, truncated, too large, or has no
      token for padding, [CLS] or [SEP].
    """

    tokenization = "sentencepiece"
    file_argument = "spm_model_file"

    def __init__(
        self,
        spm_model_file: str | PathLike[str],
        do_lower_case: bool = True,
        keep_special_tokens: bool = False,
    ):
        super().__init__(spm_model_file, do_lower_case, keep_special_tokens)
        self._model, pieces = _load(self.vocab_file)
        self.num_tokens = len(pieces)
        self.inv_vocab = dict(enumerate(pieces))
        self.vocab = {token: index for index, token in self.inv_vocab.items()}
        self.unk_token_id = self._model.unk_id()
        self.pad_token_id = self._required("padding", _PAD_NAMES)
        self.cls_token_id = self._required("[CLS]", _CLS_NAMES)
        self.sep_token_id = self._required("[SEP]", _SEP_NAMES)
        self.mask_token_id = self._first(_MASK_NAMES)
        self._set_special_tokens()
        self._replacements = _Folded()
        # The ids of the pieces that are nothing but blanks.
        self.blank_pieces = {
            i for i, piece in self.inv_vocab.items() if not piece.strip(_BLANK_SIGN)
        }

    def _first(self, names: tuple[str, ...]) -> int | None:
        return next((self.vocab[name] for name in names if name in self.vocab), None)

    def _required(self, use: str, names: tuple[str, ...]) -> int:
        if (token_id := self._first(names)) is not None:
            return token_id
        raise ValueError(
            f"{self.vocab_file} has no token for {use}: none of its {self.num_tokens} pieces is "
            f"{' or '.join(names)}; use the model that belongs to the checkpoint, or train one "
            "with spm_train --pad_id=0 --unk_id=1 --bos_id=-1 --eos_id=-1 "
            "--control_symbols=[CLS],[SEP],[MASK]"
        )

    def serialized_model(self) -> bytes:
        """The model, as its file holds it."""
        return self._model.serialized_model_proto()

    def _encode(self, text: str) -> list[int]:
        return self._model.encode_as_ids(self._prepared(text))

    def _prepared(self, text: str) -> str:
        """What the model reads."""
        text = _SURROGATES.sub("\ufffd", text)
        if not self.do_lower_case:
            return text
        if _CONTEXTUAL.search(text):
            return text_rules.spell(text_rules.folded(text))
        folded = text.lower() if text.isascii() else text.translate(self._replacements)
        return " ".join(folded.split())

    def _locate(self, text: str) -> Iterator[Piece]:
        text = _SURROGATES.sub("\ufffd", text)
        read, sources = text, list(range(len(text)))
        if self.do_lower_case:
            characters = text_rules.folded(text)
            read, sources = text_rules.spell(characters), [source for _, source in characters]
        sources.append(len(text))
        for piece in self._model.encode_as_immutable_proto(read).pieces:
            start, end = _span(read, piece, piece.id in self.blank_pieces)
            if start == end:
                yield Piece(self.inv_vocab[piece.id], sources[start], sources[start])
                continue
            end = sources[end - 1] + 1
            while self.do_lower_case and end < len(text) and not text_rules.fold(ord(text[end])):
                end += 1
            yield Piece(self.inv_vocab[piece.id], sources[start], end)


class _Folded(dict[int, str]):
    """`text_rules.fold` as a table for `str.translate` that fills as it is used."""

    def __missing__(self, code_point: int) -> str:
        text = self[code_point] = text_rules.fold(code_point)
        return text


def _span(text: str, piece: Any, is_blank: bool) -> tuple[int, int]:
    """Where a piece stands in the text that the model read, without the blanks around it.

    A piece that is blank spans blanks; one that the model puts before a text spans nothing.
    Of a character that the model makes several pieces of (bytes, say), each spans the whole.
    """
    start, end = piece.begin, piece.end
    if is_blank:
        return start, end
    if stripped := text[start:end].strip():
        start += text[start:end].index(stripped)
        end = start + len(stripped)
    start = min(start, len(text) - 1)
    return start, max(end, start + 1)


def single_pieces(spm_model_file: str) -> set[str]:
    """The characters that are pieces of a model by themselves, in or at the beginning of a word.

    Raises: ValueError, naming the file, if it is no such model.
    """
    letters = (piece.removeprefix(_BLANK_SIGN) for piece in _load(spm_model_file)[1])
    return {letter for letter in letters if len(letter) == 1}


def _load(path: str) -> tuple[sentencepiece.SentencePieceProcessor, list[str]]:
    """The model in a file, and its pieces by id."""
    size = filesystem.regular_size(path)
    if size > MAX_MODEL_BYTES:
        raise ValueError(
            f"{path} has {size} bytes, more than any SentencePiece model (the limit is "
            f"{MAX_MODEL_BYTES}); give the .model file that belongs to the checkpoint"
        )
    data = filesystem.read_bytes(path)
    try:
        # The library itself accepts a file that ends between two pieces.
        fields = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(data))
        if missing := _MODEL_FIELDS - {field.field_number for field in fields}:
            raise RuntimeError(f"it lacks the parts numbered {sorted(missing)}")
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
        return model, [model.id_to_piece(index) for index in range(len(model))]
    except (message.DecodeError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a SentencePiece model, or not a whole one ({error}); fetch the .model "
            "file that belongs to the checkpoint again"
        ) from None
