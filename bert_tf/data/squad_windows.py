"""Questions and their passages -> rows of the model: `[CLS] question [SEP] window [SEP]`.

The rows are those of `convert_examples_to_features` in google-research/bert's run_squad.py. A
passage that is too long becomes several windows that overlap. Google's program tokenizes a passage
anew for each of its questions and keeps a Python object for every piece; here it is tokenized once
and the windows of all questions are slices of it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from absl import logging

from bert_tf.data import squad_google
from bert_tf.data.squad_files import Answer, Passage, Question
from bert_tf.data.windows import max_context, window_bounds

FIRST_UNIQUE_ID = 1000000000


class Tokenizer(Protocol):
    """What cutting windows asks of a tokenizer."""

    cls_token_id: int
    sep_token_id: int
    do_lower_case: bool

    def encode(self, text: str) -> list[int]: ...
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[int], list[int]]: ...
    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]: ...


@dataclass(frozen=True)
class WindowSettings:
    """Google's flags of these names, with its defaults.

    `google_exact` labels answers as Google's program does (see `squad_google.label`).
    """

    max_seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64
    google_exact: bool = False

    def __post_init__(self) -> None:
        if self.max_seq_length <= self.max_query_length + 3:
            raise ValueError(
                f"--max_seq_length={self.max_seq_length} must be greater than "
                f"--max_query_length={self.max_query_length} + 3, to have room for the passage"
            )
        for name in ("doc_stride", "max_query_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}={getattr(self, name)} must be 1 or more")


class PassagePieces:
    """The pieces of a passage.

    Attributes:
      ids: T token ids.
      starts, ends: int32 [T], the characters that each piece came from; both never fall.
    """

    def __init__(self, text: str, tokenizer: Tokenizer):
        self.text = text
        self.ids, starts, ends = tokenizer.encode_with_offsets(text)
        # Accents in unusual order can make a piece begin before the one in front of it.
        self.starts = np.minimum.accumulate(np.array(starts, np.int32)[::-1])[::-1]
        self.ends = np.maximum.accumulate(np.array(ends, np.int32))

    @functools.cached_property
    def words(self) -> squad_google.Words:
        """The words of the text by Google's rule, and of which word each piece is."""
        return squad_google.Words(self.text, self.starts)

    def covering(self, answer: Answer) -> tuple[int, int] | None:
        """The first and last piece with characters of the answer; None if no piece has any."""
        first = int(np.searchsorted(self.ends, answer.start, side="right"))
        last = int(np.searchsorted(self.starts, answer.end, side="left")) - 1
        return (first, last) if first <= last else None


@dataclass(frozen=True)
class Windows:
    """The rows of all questions, those of one question side by side. W windows of Q questions.

    Attributes:
      queries: ids of each question, cut to `max_query_length`.
      passages: the pieces of each question's passage.
      ends: int64 [Q], the number of windows up to and with those of each question.
      positions: int32 [W, 2], first and last position of the answer in the row, 0 and 0 where it
        is not wholly in the window or there is none; None if not made for training.
      impossible: whether each question has no answer; None if not made for training.
    """

    questions: Sequence[Question]
    settings: WindowSettings
    tokenizer: Tokenizer
    queries: Sequence[list[int]]
    passages: Sequence[PassagePieces]
    ends: np.ndarray
    positions: np.ndarray | None = None
    impossible: Sequence[bool] | None = None

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def of_question(self, question: int) -> range:
        """The numbers of a question's windows."""
        return range(int(self.ends[question - 1]) if question else 0, int(self.ends[question]))

    def offset(self, question: int) -> int:
        """The position in the rows where the passage begins."""
        return len(self.queries[question]) + 2

    def bounds(self, question: int) -> tuple[tuple[int, int], ...]:
        """First piece of the passage and length of each window of a question."""
        return window_bounds(*self._shape(question))

    def max_context(self, question: int) -> tuple[np.ndarray, ...]:
        """See `max_context`; one array for each window of the question."""
        return max_context(*self._shape(question))

    def _shape(self, question: int) -> tuple[int, int, int]:
        room = self.settings.max_seq_length - len(self.queries[question]) - 3
        return len(self.passages[question].ids), room, self.settings.doc_stride

    def rows(self) -> Iterator[dict[str, list[int]]]:
        """The features of each window by Google's names, padded to `max_seq_length`."""
        number = 0
        for question in range(len(self.questions)):
            for start, length in self.bounds(question):
                features = {"unique_ids": [FIRST_UNIQUE_ID + number]}
                features |= self._packed(question, start, length)
                if self.positions is not None and self.impossible is not None:
                    first, last = self.positions[number].tolist()
                    features |= {"start_positions": [first], "end_positions": [last]}
                    features["is_impossible"] = [int(self.impossible[question])]
                yield features
                number += 1

    def _packed(self, question: int, start: int, length: int) -> dict[str, list[int]]:
        query, passage = self.queries[question], self.passages[question].ids
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        ids = [cls, *query, sep, *passage[start : start + length], sep]
        padding = [0] * (self.settings.max_seq_length - len(ids))
        return {
            "input_ids": ids + padding,
            "input_mask": [1] * len(ids) + padding,
            "segment_ids": [0] * (len(query) + 2) + [1] * (length + 1) + padding,
        }


def tokenize_passages(
    questions: Iterable[Question], tokenizer: Tokenizer
) -> dict[Passage, PassagePieces]:
    """The pieces of every passage, each tokenized once."""
    passages = dict.fromkeys(question.passage for question in questions)
    return {passage: PassagePieces(passage.text, tokenizer) for passage in passages}


def build(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    settings: WindowSettings,
    pieces: Mapping[Passage, PassagePieces] | None = None,
) -> Windows:
    """Cuts the windows of all questions; `pieces` if the passages are tokenized already."""
    if pieces is None:
        pieces = tokenize_passages(questions, tokenizer)
    queries, most = [tokenizer.encode(q.text) for q in questions], settings.max_query_length
    if cut := sum(len(query) > most for query in queries):
        logging.warning(
            "%d of %d questions are longer than --max_query_length=%d pieces; their ends are cut",
            *(cut, len(queries), most),
        )
    windows = Windows(
        questions,
        settings,
        tokenizer,
        queries=[query[:most] for query in queries],
        passages=[pieces[question.passage] for question in questions],
        ends=np.zeros(len(questions), np.int64),
    )
    counts = [len(windows.bounds(number)) for number in range(len(questions))]
    np.cumsum(counts, out=windows.ends)
    return windows
