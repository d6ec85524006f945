"""Several short texts in one row: less padding, the same texts. Without TensorFlow.

n texts, R rows, F positions, M masked words and K texts in a row.
"""

from __future__ import annotations

import numpy as np

from bert_tf.batching import Arrays

_OF_POSITIONS = ("input_ids", "segment_ids")


def one_text_a_row(batch: Arrays) -> Arrays:
    """Rows for pre-training [n, ...] in the form of `pack`, as they are."""
    count, length = batch["input_ids"].shape
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (count, length))
    return {**batch, "position_ids": positions, "cls_positions": np.zeros((count, 1), np.int32)}


def pack(batch: Arrays) -> Arrays:
    """Rows for pre-training [n, ...] -> the same texts in as few rows as they fit into.

    The longest texts find a place first, each in the first row that has room (first fit
    decreasing). What a text sees, its positions and what is asked of it stay the same, so that
    the losses do.

    Args:
      batch: `input_ids`, `input_mask`, `segment_ids` [n, F], `masked_lm_positions`,
        `masked_lm_ids`, `masked_lm_weights` [n, m], `next_sentence_labels` [n, 1].

    Returns:
      The same names: [R, F], [R, M] and [R, K]. `input_mask` numbers the texts of a row from 1;
      `position_ids` [R, F] start at 0 in each; `cls_positions` [R, K] is where each starts.
    """
    lengths = np.count_nonzero(batch["input_mask"], axis=1)
    rows = first_fit(lengths, batch["input_ids"].shape[1])
    masked = [np.flatnonzero(weights) for weights in batch["masked_lm_weights"]]
    words = max(1, *(sum(len(masked[i]) for i in row) for row in rows))
    packed = _zeros(batch, len(rows), words, max(map(len, rows)))
    for row, texts in enumerate(rows):
        start = word = 0
        for number, i in enumerate(texts):
            place = slice(start, start + lengths[i])
            for name in _OF_POSITIONS:
                packed[name][row, place] = batch[name][i, : lengths[i]]
            packed["input_mask"][row, place] = number + 1
            packed["position_ids"][row, place] = np.arange(lengths[i])
            packed["cls_positions"][row, number] = start
            packed["next_sentence_labels"][row, number] = batch["next_sentence_labels"][i, 0]
            asked = slice(word, word + len(masked[i]))
            packed["masked_lm_positions"][row, asked] = (
                batch["masked_lm_positions"][i, masked[i]] + start
            )
            for name in ("masked_lm_ids", "masked_lm_weights"):
                packed[name][row, asked] = batch[name][i, masked[i]]
            start, word = place.stop, asked.stop
    return packed


def first_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Numbers of the texts in each row, so that no row's lengths exceed `capacity` together."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in np.argsort(-lengths, kind="stable"):
        row = next((row for row, free in enumerate(room) if free >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(int(i))
        room[row] -= int(lengths[i])
    return rows


def _zeros(batch: Arrays, rows: int, words: int, texts: int) -> Arrays:
    length = int(batch["input_ids"].shape[1])
    widths = dict.fromkeys((*_OF_POSITIONS, "input_mask", "position_ids"), length)
    widths |= dict.fromkeys(("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"), words)
    widths |= dict.fromkeys(("cls_positions", "next_sentence_labels"), texts)
    return {
        name: np.zeros((rows, width), np.float32 if name == "masked_lm_weights" else np.int32)
        for name, width in widths.items()
    }
