"""A long text as windows that overlap, and in which of them each piece is seen best.

`doc_spans` and `_check_is_max_context` of google-research/bert's run_squad.py.
"""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=1 << 14)
def window_bounds(num_pieces: int, room: int, doc_stride: int) -> tuple[tuple[int, int], ...]:
    """First piece and length of each window; `room` is the greatest length.

    Windows begin `doc_stride` pieces apart, `room` at most: every piece is in one or more.
    """
    bounds = []
    start = 0
    while start < num_pieces:
        length = min(num_pieces - start, room)
        bounds.append((start, length))
        if start + length == num_pieces:
            break
        start += min(length, doc_stride)
    return tuple(bounds)


@functools.lru_cache(maxsize=1 << 14)
def max_context(num_pieces: int, room: int, doc_stride: int) -> tuple[np.ndarray, ...]:
    """For each window bool [length]: whether no other window shows the piece in more context.

    Context is the smaller number of pieces to the left or right, plus a hundredth of the window's
    length; of equals the first window counts. So each piece is True in one window.
    """
    bounds = window_bounds(num_pieces, room, doc_stride)
    best_score = np.full(num_pieces, -np.inf)
    best_window = np.zeros(num_pieces, np.int64)
    for number, (start, length) in enumerate(bounds):
        left = np.arange(length)
        score = np.minimum(left, left[::-1]) + 0.01 * length
        pieces = slice(start, start + length)
        better = score > best_score[pieces]
        best_score[pieces] = np.maximum(best_score[pieces], score)
        best_window[pieces][better] = number
    return tuple(best_window[a : a + n] == number for number, (a, n) in enumerate(bounds))
