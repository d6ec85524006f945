"""Words into a released checkpoint's vocabulary, and pieces out of it.

`python -m bert_tf.vocabulary extend` and `prune`. Both write a checkpoint of Google's format with
its config and vocabulary; of the weights the word embeddings [V, E] and the bias of the masked
words' scores [V] change their rows, and all others are kept to the bit.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bert_tf import checkpoints
from bert_tf.checkpoints.names import is_optimizer_state
from bert_tf.config import BertConfig
from bert_tf.tokenization import FullTokenizer, Tokenizer
from bert_tf.vocabulary import SPECIAL_TOKENS, tokens_by_id

ROWS = ("bert/embeddings/word_embeddings", "cls/predictions/output_bias")
_UNUSED_START = "[unused"

Rows = list[list[int]]  # of each new token: the old ones whose mean it is


@dataclasses.dataclass(frozen=True)
class Extended:
    """What became of the words.

    Attributes:
      pieces: new token -> the pieces that it was cut into before.
      known: words that the vocabulary had.
      replaced: how many stand in the place of an [unusedN]; the others are at the end.
    """

    pieces: Mapping[str, list[str]]
    known: Sequence[str]
    replaced: int


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What was left out.

    Attributes:
      kept, dropped: numbers of tokens; with those dropped, rows that had none.
      changed: occurrences of words in the corpus that are cut in another way now.
    """

    kept: int
    dropped: int
    changed: int


def extend(checkpoint: str, words: Iterable[str], output_dir: str) -> Extended:
    """Gives each word a token of its own, first in the place of [unusedN], then at the end.

    Its embedding, and its bias, is the mean of those of the pieces that it was cut into. All texts
    without these words (and without longer ones that begin with one) give what they gave before.

    Args:
      words: as they stand in a text; each must be one word for the tokenizer.

    Raises: ValueError for a word that is none, or a checkpoint that cannot be read.
    """
    config, tokenizer = _wordpiece(checkpoint)
    tokens = _tokens(tokenizer)
    unused = [i for i, token in enumerate(tokens) if token.startswith(_UNUSED_START)]
    rows: Rows = [[i] for i in range(len(tokens))]
    made: dict[str, list[str]] = {}
    known: list[str] = []
    replaced = 0
    for given in words:
        word = _word(tokenizer, given)
        if word in tokenizer.vocab or word in made:
            known.append(word)
            continue
        ids = tokenizer.encode(word)
        made[word] = tokenizer.convert_ids_to_tokens(ids)
        if replaced < len(unused):
            tokens[unused[replaced]], rows[unused[replaced]] = word, ids
            replaced += 1
        else:
            tokens.append(word)
            rows.append(ids)
    rows += [[i] for i in range(len(rows), config.vocab_size)]  # what the model has to spare
    _rewrite(checkpoint, output_dir, config, tokenizer, tokens, rows)
    return Extended(made, known, replaced)


def prune(checkpoint: str, words: Mapping[str, int], output_dir: str, min_count: int = 1) -> Pruned:
    """Leaves out pieces that occur in the words less than `min_count` times.

    Special tokens and single characters stay, so that no word becomes unknown that was not. With
    a `min_count` of 1 every one of the words is cut as before and gives what it gave before.

    Args:
      words: word -> how often it occurs in the corpus (`vocabulary_learning.count_words`).

    Raises: ValueError for a checkpoint that cannot be read.
    """
    config, tokenizer = _wordpiece(checkpoint)
    tokens = _tokens(tokenizer)
    match = tokenizer.wordpiece_tokenizer.tokenize
    counts: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for piece in match(word):
            counts[piece] += count
    # Of a token on several lines the last counts; the others can go.
    kept = [
        i
        for i, token in enumerate(tokens)
        if tokenizer.vocab[token] == i and (counts[token] >= min_count or _stays(token))
    ]
    left = [tokens[i] for i in kept]
    gone = {piece for piece in counts if 0 < counts[piece] < min_count and not _stays(piece)}
    changed = sum(n for word, n in words.items() if gone.intersection(match(word)))
    _rewrite(checkpoint, output_dir, config, tokenizer, left, [[i] for i in kept])
    return Pruned(len(left), config.vocab_size - len(left), changed)


def _stays(token: str) -> bool:
    special = token in (*SPECIAL_TOKENS, "[MASK]")
    return special or len(token.removeprefix("##")) == 1


def _wordpiece(checkpoint: str) -> tuple[BertConfig, FullTokenizer]:
    config, tokenizer = checkpoints.architecture(checkpoint)
    if not isinstance(tokenizer, FullTokenizer):
        raise ValueError(
            f"{checkpoint} has a SentencePiece model; its pieces have scores, and what it says of "
            "one would change others: only WordPiece vocabularies are edited"
        )
    return config, tokenizer


def _tokens(tokenizer: Tokenizer) -> list[str]:
    return [token.strip() for token in tokens_by_id(tokenizer.vocab_file)]


def _word(tokenizer: FullTokenizer, given: str) -> str:
    found = tokenizer.basic_tokenizer.tokenize(given)
    if len(found) != 1:
        raise ValueError(
            f"{given!r} is {len(found)} words for this tokenizer ({' '.join(found)!r}), and a "
            "token is never more than one; give them one by one"
        )
    return found[0]


def _rewrite(
    checkpoint: str,
    output_dir: str,
    config: BertConfig,
    tokenizer: Tokenizer,
    tokens: Sequence[str],
    rows: Rows,
) -> None:
    """Writes the checkpoint with these tokens; each row is the mean of old ones."""
    tensors = {
        name: value
        for name, value in checkpoints.read(checkpoint).items()
        if not is_optimizer_state(name)
    }
    for name in ROWS:
        if name in tensors:
            tensors[name] = _means(tensors[name], rows)
    with tempfile.TemporaryDirectory() as folder:
        vocab_file = os.path.join(folder, "vocab.txt")
        Path(vocab_file).write_text("".join(f"{token}\n" for token in tokens), "utf-8", newline="")
        checkpoints.save(
            tensors,
            os.path.join(output_dir, "bert_model.ckpt"),
            "google",
            config=dataclasses.replace(config, vocab_size=len(rows)),
            **{**tokenizer.settings, "vocab_file": vocab_file},
        )


def _means(table: np.ndarray, rows: Rows) -> np.ndarray:
    """Rows that stay are copied to the bit."""
    made = table[[ids[0] for ids in rows]]
    for i, ids in enumerate(rows):
        if len(ids) > 1:
            made[i] = table[ids].astype(np.float64).mean(axis=0)
    return made
