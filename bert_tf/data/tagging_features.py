"""Sentences -> rows of the model, and the model's outputs -> a label for every word.

A word bears its label on its first piece; the others have `label_mask` 0, in the loss and in the
metric. A word that the tokenizer makes nothing of (as a zero-width character) becomes [UNK], so
every word has a piece and a prediction. A sentence that is too long becomes several windows that
overlap; each word's prediction is that of the window which shows it in most context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bert_tf.data.tagging import TaggingExample
from bert_tf.data.windows import max_context, window_bounds

Row = dict[str, list[int]]


class Tokenizer(Protocol):
    """What building features asks of a tokenizer."""

    cls_token_id: int
    sep_token_id: int
    unk_token_id: int

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Window:
    """Where the predictions of a row are, kept beside it.

    Attributes:
      example: the number of its sentence.
      positions: int [n], positions in the row of the first pieces of words that no other window
        shows in more context.
      words: int [n], the numbers of these words in the sentence.
      learnt: whether the model has the labels of all words that it shows, else it has no loss.
    """

    example: int
    positions: np.ndarray
    words: np.ndarray
    learnt: bool = True


def window_rows(
    examples: Iterable[TaggingExample],
    tokenizer: Tokenizer,
    label_ids: Mapping[str, int],
    max_seq_length: int,
    doc_stride: int,
) -> Iterator[tuple[Row, Window]]:
    """The rows of all sentences, in order, each with its window; each has a first piece.

    Args:
      label_ids: the id of each label; words without a label, or with another one, have label 0.
      max_seq_length: every row is zero-padded to this length, [CLS] and [SEP] included.
      doc_stride: pieces from the beginning of a window to that of the next, or fewer: windows
        leave no gap.

    Returns: rows as `records.tagging_spec` has them, `max_seq_length` ints for each name.
    Raises: ValueError if a window has no room or `doc_stride` is not positive.
    """
    if max_seq_length < 3:
        raise ValueError(f"--max_seq_length={max_seq_length} has no room for a word; use 3 or more")
    if doc_stride < 1:
        raise ValueError(f"--doc_stride={doc_stride} must be 1 or more")
    room = max_seq_length - 2
    for number, example in enumerate(examples):
        pieces, first = _pieces(example.words, tokenizer)
        labels, learnt = np.zeros(len(first), int), np.ones(len(first), bool)
        if example.labels is not None:
            labels = np.array([label_ids.get(label, 0) for label in example.labels])
            learnt = np.array([label in label_ids for label in example.labels])
        bounds = window_bounds(len(pieces), room, doc_stride)
        best = max_context(len(pieces), room, doc_stride)
        for (start, length), is_best in zip(bounds, best, strict=True):
            words = np.flatnonzero((first >= start) & (first < start + length))
            if not len(words):  # all of it is inside of one very long word
                continue
            positions = first[words] - start  # behind [CLS]
            ids = [tokenizer.cls_token_id, *pieces[start : start + length], tokenizer.sep_token_id]
            kept = is_best[positions]
            yield (
                _row(ids, positions + 1, labels[words], max_seq_length),
                Window(number, positions[kept] + 1, words[kept], bool(learnt[words].all())),
            )


def _pieces(words: Sequence[str], tokenizer: Tokenizer) -> tuple[list[int], np.ndarray]:
    """The ids of all pieces, and the index among them of each word's first: int [words]."""
    pieces: list[int] = []
    first = []
    for word in words:
        first.append(len(pieces))
        pieces += tokenizer.encode(word) or [tokenizer.unk_token_id]
    return pieces, np.array(first)


def _row(
    input_ids: list[int], positions: np.ndarray, labels: np.ndarray, max_seq_length: int
) -> Row:
    row = np.zeros((5, max_seq_length), int)
    row[0, : len(input_ids)] = input_ids
    row[1, : len(input_ids)] = 1
    row[3, positions] = labels
    row[4, positions] = 1
    names = ("input_ids", "input_mask", "segment_ids", "label_ids", "label_mask")
    return dict(zip(names, row.tolist(), strict=True))


def stitch(
    examples: Sequence[TaggingExample],
    windows: Iterable[Window],
    outputs: Iterable[np.ndarray],
    labels: Sequence[str],
) -> list[list[str]]:
    """The label of every word of every sentence.

    Args:
      windows: those of the rows.
      outputs: for each row, int [F or fewer]: the id predicted at each position.
      labels: in the order of their ids.
    """
    predicted = [[""] * len(example.words) for example in examples]
    for window, ids in zip(windows, outputs, strict=True):
        for word, position in zip(window.words, window.positions, strict=True):
            predicted[window.example][word] = labels[ids[position]]
    return predicted
