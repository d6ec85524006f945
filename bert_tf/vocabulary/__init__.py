"""Vocabularies: files of one token a line, and the way between tokens and ids."""

import functools
import re
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import TypeVar

from absl import logging

from bert_tf import filesystem
from bert_tf.vocabulary import tokenizer_json

Key = TypeVar("Key")
Value = TypeVar("Value")

_MAX_BYTES = 256 << 20  # of a file; the largest vocabularies have 20 MB
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class UnknownTokenError(ValueError, KeyError):
    """A token or id that the vocabulary does not hold; also a KeyError, as in Google's code."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


def load_vocab(vocab_file: str | PathLike[str]) -> dict[str, int]:
    """Reads a vocabulary, one token a line (UTF-8), into token -> line number from 0.

    Lines end at "\\n" alone: the Chinese vocabulary holds U+2028, where `str.splitlines` would
    break. Whitespace around a token is no part of it; of a repeated token the last line counts.
    An empty line is a token, but not at the end of the file; a byte order mark is none.
    ERNIE's lines are `token<TAB>id`, with the ids 0, 1, ...: there the token ends at the tab.
    Of Hugging Face's `tokenizer.json` the vocabulary is read.

    Raises: ValueError if the file is not UTF-8, OSError if it cannot be read; both name it.
    """
    return {token.strip(): index for index, token in enumerate(tokens_by_id(vocab_file))}


def tokens_by_id(vocab_file: str | PathLike[str]) -> list[str]:
    """Return the token of each id, repeated ones too, with the whitespace around it.

    Raises: as `load_vocab`.
    """
    return _lines(vocab_file)[0]


def plain_contents(vocab_file: str | PathLike[str]) -> bytes:
    """The file as every other program reads a vocabulary: tokens alone, one a line.

    Raises: as `load_vocab`.
    """
    lines, is_plain = _lines(vocab_file)
    if is_plain:
        return filesystem.read_bytes(vocab_file)
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(vocab_file: str | PathLike[str]) -> tuple[list[str], bool]:
    """The lines without their ids, and whether they are all that is in the file."""
    if fspath(vocab_file).endswith(tokenizer_json.ENDING):
        return tokenizer_json.tokens(vocab_file), False
    try:
        text = filesystem.read_bytes(vocab_file, _MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{fspath(vocab_file)} is not UTF-8 text ({error}); expected a vocabulary, "
            "one token a line"
        ) from None
    lines = text.removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        del lines[-1]
    parts = [line.rstrip("\r").rpartition("\t") for line in lines]
    if len(parts) > 1 and all(x[1:] == ("\t", str(index)) for index, x in enumerate(parts)):
        return [token for token, _, _ in parts], False
    count = len(lines)
    while lines and not lines[-1].rstrip("\r"):
        del lines[-1]
    return lines, len(lines) == count and not text.startswith("\ufeff")


def validate_vocab_size(
    vocab_file: str | PathLike[str],
    num_tokens: int,
    vocab_size: int,
    config_file: str = "the config",
) -> None:
    """Raises ValueError if the vocabulary has more tokens than the model has embeddings.

    Fewer are usual, as with embeddings padded to a multiple of 8; this is logged once.
    """
    found = f"{fspath(vocab_file)} has {num_tokens} tokens, but {config_file} has vocab_size="
    if num_tokens > vocab_size:
        raise ValueError(f"{found}{vocab_size}; use the vocabulary that the model was trained with")
    if num_tokens < vocab_size:
        _warn_once(
            f"{found}{vocab_size}: rows of the embeddings from {num_tokens} on are not used. "
            f"Unless the model was padded by {vocab_size - num_tokens} rows, this vocabulary "
            "belongs to another model"
        )


@functools.cache
def _warn_once(message: str) -> None:
    logging.warning("%s", message)


def convert_by_vocab(vocab: Mapping[Key, Value], items: Iterable[Key]) -> list[Value]:
    """Looks up each item; raises `UnknownTokenError` for one that `vocab` does not hold."""
    try:
        return [vocab[item] for item in items]
    except KeyError as error:
        raise UnknownTokenError(
            f"{error.args[0]!r} is not in the vocabulary of {len(vocab)} entries; "
            "use the vocabulary and casing that the tokens were made with"
        ) from None


def convert_tokens_to_ids(vocab: Mapping[str, int], tokens: Iterable[str]) -> list[int]:
    """The id of each token; raises `UnknownTokenError` (see `convert_by_vocab`)."""
    return convert_by_vocab(vocab, tokens)


def convert_ids_to_tokens(inv_vocab: Mapping[int, str], ids: Iterable[int]) -> list[str]:
    """The token of each id; raises `UnknownTokenError` (see `convert_by_vocab`)."""
    return convert_by_vocab(inv_vocab, ids)


_LOWER_CASED_MODELS = (
    "uncased_L-24_H-1024_A-16",
    "uncased_L-12_H-768_A-12",
    "multilingual_L-12_H-768_A-12",
    "chinese_L-12_H-768_A-12",
)
_CASED_MODELS = (
    "cased_L-12_H-768_A-12",
    "cased_L-24_H-1024_A-16",
    "multi_cased_L-12_H-768_A-12",
)


def validate_case_matches_checkpoint(do_lower_case: bool, init_checkpoint: str | None) -> None:
    """Raises ValueError if one of Google's releases, known by its folder, has the other casing."""
    found = re.match("^.*?([A-Za-z0-9_-]+)/bert_model.ckpt", init_checkpoint or "")
    wrong_models = _CASED_MODELS if do_lower_case else _LOWER_CASED_MODELS
    if not found or found.group(1) not in wrong_models:
        return
    raise ValueError(
        f"You passed in `--do_lower_case={do_lower_case}` with "
        f"`--init_checkpoint={init_checkpoint}`. However, `{found.group(1)}` seems to be "
        f"{'a cased' if do_lower_case else 'an uncased'} model, so you should pass in "
        f"`--do_lower_case={not do_lower_case}` so that the fine-tuning matches how the model was "
        "pre-trained. If this error is wrong, please just comment out this check."
    )
