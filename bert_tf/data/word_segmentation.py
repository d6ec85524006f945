"""Words of a text without blanks, found by a library, over the pieces of a tokenizer.

A new segmenter is one function text -> words, and its entry in `SEGMENTERS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from bert_tf.tokenization import Tokenizer


def _jieba() -> Callable[[str], Iterable[str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about jieba's code, which is of 2020
            import jieba
    except ImportError as error:
        raise ValueError(
            "--word_segmenter=jieba needs jieba, which is not installed: pip install "
            "bert_tf[chinese]"
        ) from error
    jieba.setLogLevel("WARNING")
    return jieba.cut


SEGMENTERS: dict[str, Callable[[], Callable[[str], Iterable[str]]]] = {"jieba": _jieba}


def create_segmenter(name: str, tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Text -> the ids of its pieces, plus `num_tokens` for those that continue a word.

    A piece continues a word if it starts inside one of the segmenter's (Cui et al., 2021: whole
    word masking for Chinese).

    Raises: ValueError if the segmenter's package is not installed.
    """
    cut, continued = SEGMENTERS[name](), tokenizer.num_tokens

    def encode(text: str) -> list[int]:
        starts, position = set(), 0
        for word in cut(text):
            starts.add(position)
            position += len(word)
        ids, places, _ = tokenizer.encode_with_offsets(text)
        return [
            token if place in starts else token + continued
            for token, place in zip(ids, places, strict=True)
        ]

    return encode
