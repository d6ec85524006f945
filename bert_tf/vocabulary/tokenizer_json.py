"""Hugging Face's `tokenizer.json`, where it describes BERT's own tokenizer."""

from collections.abc import Iterable
from os import PathLike, fspath
from typing import Any

from bert_tf import filesystem

ENDING = ".json"
_PARTS = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}


def normalizer(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the settings of the normalizer (`lowercase`, ...); none if the file has none.

    Raises: ValueError, naming the file, if it is no JSON object.
    """
    found = filesystem.read_json(path, dict).get("normalizer")
    return found if isinstance(found, dict) else {}


def tokens(path: str | PathLike[str]) -> list[str]:
    """Read the tokens in the order of their ids; "" for an id that no token has.

    Tokens that were added later are among them, mostly behind the vocabulary's own.

    Raises: ValueError, naming the file, unless it describes BERT's own tokenizer.
    """
    found: dict[str, Any] = filesystem.read_json(path, dict)
    kinds = [_kind(found.get(name)) for name in _PARTS]
    if kinds != list(_PARTS.values()):
        raise ValueError(
            f"{fspath(path)}: found {_listed(kinds)}; expected BERT's own tokenizer, "
            f"{_listed(_PARTS.values())}; put the model's vocab.txt beside it"
        )
    model = found["model"]
    vocab, prefix = model.get("vocab"), model.get("continuing_subword_prefix", "##")
    if not isinstance(vocab, dict) or prefix != "##":
        raise ValueError(
            f"{fspath(path)} has no vocab whose pieces inside of words begin with '##'; put the "
            "model's vocab.txt beside it"
        )
    ids: dict[str, Any] = dict(vocab)
    added = found.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            ids.setdefault(token["content"], token.get("id"))
    most = 2 * len(ids)  # with more gaps the file would be smaller than what it makes us hold
    lines = [""] * most
    for token, number in ids.items():
        if type(number) is not int or not 0 <= number < most:
            raise ValueError(f"{fspath(path)}: {token!r:.40} has no id from 0 to {most - 1}")
        lines[number] = token
    return lines[: max(ids.values(), default=-1) + 1]


def _kind(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str):
        return f"{kind:.40}"
    # Old files do not say what their model is; no other kind has this key.
    return "WordPiece" if isinstance(part, dict) and "max_input_chars_per_word" in part else "none"


def _listed(kinds: Iterable[str]) -> str:
    return ", ".join(f"{part} {kind}" for kind, part in zip(kinds, _PARTS, strict=True))
