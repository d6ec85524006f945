"""The spans of a passage that may be the answer, by score: on arrays of all windows at once.

The candidates of `write_predictions` in google-research/bert's run_squad.py, in its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bert_tf.data.squad_windows import Windows

NONE = -1  # as a piece: no answer

_CHUNK = 32  # candidates looked at, at a time; few more are needed than --n_best_size


class Candidate(NamedTuple):
    """First and last piece of the passage, both `NONE` for no answer, and their logits."""

    first_piece: int
    last_piece: int
    start_logit: float
    end_logit: float


def null(windows: Windows, question: int, start: np.ndarray, end: np.ndarray) -> Candidate:
    """No answer, with the logits of the window in which it has the lowest score.

    Args:
      start, end: the logits of all windows, [W, F].
    """
    numbers = windows.of_question(question)
    if not numbers:  # a passage without pieces
        return Candidate(NONE, NONE, 0.0, 0.0)
    logits = np.stack([start[numbers, 0], end[numbers, 0]]).astype(np.float64)  # [2, windows]
    lowest = logits[:, logits.sum(axis=0).argmin()]
    return Candidate(NONE, NONE, *lowest.tolist())


def ranked(
    windows: Windows,
    questions: range,
    start: np.ndarray,
    end: np.ndarray,
    n_best_size: int,
    max_answer_length: int,
    nulls: list[Candidate],
) -> Iterator[Iterator[Candidate]]:
    """For each of the questions its candidates, best first.

    Candidates start and end at one of the `n_best_size` greatest logits of the whole row, in the
    passage, the start where its window is the one of maximal context; they have at most
    `max_answer_length` pieces. Of equal scores the order is by window, rank of the start, rank of
    the end. `nulls` has for each question what stands for no answer, the last of equals, or is
    empty.

    Args:
      start, end: the logits of all windows, [W, F].

    Raises: ValueError if a candidate's score is not finite.
    """
    rows = slice(windows.of_question(questions[0]).start, windows.of_question(questions[-1]).stop)
    start, end = start[rows], end[rows]
    starts, ends = _greatest(start, n_best_size), _greatest(end, n_best_size)  # [W, n]
    may_start, may_end, shift, question = _allowed(windows, questions, start.shape[1])
    steps = ends[:, None, :] - starts[:, :, None]  # [W, n, n], pieces in the span less one
    valid = (steps >= 0) & (steps < max_answer_length)
    valid &= np.take_along_axis(may_start, starts, 1)[:, :, None]
    valid &= np.take_along_axis(may_end, ends, 1)[:, None, :]
    row, nth_start, nth_end = np.nonzero(valid)
    first, last = starts[row, nth_start], ends[row, nth_end]
    logits = start[row, first].astype(np.float64), end[row, last].astype(np.float64)
    columns = [first + shift[row], last + shift[row], *logits]
    question = question[row]
    if nulls:
        columns = [np.append(*pair) for pair in zip(columns, zip(*nulls, strict=True), strict=True)]
        question = np.append(question, questions)
    scores = columns[2] + columns[3]
    if not np.isfinite(scores).all():
        raise ValueError("the scores of answers are not finite: the model gives NaN or infinity")
    order = np.lexsort((-scores, question))  # stable
    limits = np.searchsorted(question[order], [*questions, questions.stop]).tolist()
    columns = [column[order] for column in columns]
    return (_candidates(columns, *pair) for pair in zip(limits[:-1], limits[1:], strict=True))


def _greatest(logits: np.ndarray, number: int) -> np.ndarray:
    """int64 [W, number]: the positions of the greatest logits, the first of equals first."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :number]


def _allowed(
    windows: Windows, questions: range, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the rows' answers may start and end, bool [W, length].

    Also, int64 [W], what to add to a position for the number of the piece, and the question.
    """
    count = windows.of_question(questions[-1]).stop - windows.of_question(questions[0]).start
    may_start, may_end = np.zeros((2, count, length), bool)
    shift, numbers = np.zeros((2, count), np.int64)
    row = 0
    for question in questions:
        offset = windows.offset(question)
        contexts = windows.max_context(question)
        for (first_piece, pieces), context in zip(windows.bounds(question), contexts, strict=True):
            may_start[row, offset : offset + pieces] = context
            may_end[row, offset : offset + pieces] = True
            shift[row], numbers[row] = first_piece - offset, question
            row += 1
    return may_start, may_end, shift, numbers


def _candidates(columns: list[np.ndarray], lower: int, upper: int) -> Iterator[Candidate]:
    for at in range(lower, upper, _CHUNK):
        chunk = slice(at, min(at + _CHUNK, upper))
        yield from map(Candidate, *(column[chunk].tolist() for column in columns))
