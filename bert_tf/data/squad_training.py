"""Which questions are trained on, and where in their rows the answers are."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

import numpy as np
from absl import logging

from bert_tf.data import squad_google
from bert_tf.data.squad_files import Answer, Dataset, Question
from bert_tf.data.squad_windows import (
    PassagePieces,
    Tokenizer,
    Windows,
    WindowSettings,
    build,
    tokenize_passages,
)

_SHUFFLE_SEED = 12345  # Google's

Span = tuple[int, int]  # first and last piece of the passage


@dataclass
class TrainingCounts:
    """What became of the questions of a training file.

    Attributes:
      used: questions that are trained on.
      impossible: those of them without an answer.
      several_answers: those of which only the first answer is used.
      moved: those whose answer was found beside the place that the file gives.
      dropped: questions left out since the passage does not have the answer.
    """

    used: int = 0
    impossible: int = 0
    several_answers: int = 0
    moved: int = 0
    dropped: int = 0

    def __str__(self) -> str:
        parts = [f"{self.used:,} questions to train on"]
        for number, what in (
            (self.impossible, "have no answer"),
            (self.several_answers, "have several answers, of which the first is used"),
            (self.moved, "have their answer beside the place that the file gives"),
        ):
            if number:
                parts.append(f"{number:,} {what}")
        if self.dropped:
            parts.append(f"{self.dropped:,} left out, as the passage lacks their answer")
        return ", ".join(parts)


def training_windows(
    dataset: Dataset,
    tokenizer: Tokenizer,
    settings: WindowSettings,
    version_2_with_negative: bool = False,
    shuffle: bool = True,
) -> tuple[Windows, TrainingCounts]:
    """The rows to train on, as Google's program makes them, and what was left out.

    A question without the answer in one of its windows keeps that window, with the positions 0
    and 0. Each answer that is dropped or moved is logged. `shuffle` mixes the questions once, as
    Google's program does (not their windows, which stay side by side).

    Raises: ValueError as `check`, or if no question can be trained on.
    """
    check(dataset, version_2_with_negative, settings.google_exact)
    pieces = tokenize_passages(dataset.questions, tokenizer)
    counts = TrainingCounts()
    labelled: list[tuple[Question, Span | None]] = []
    for question in dataset.questions:
        if version_2_with_negative and question.is_impossible:
            counts.impossible += 1
            labelled.append((question, None))
            continue
        counts.several_answers += len(question.answers) > 1
        span = _locate(
            question, question.answers[0], pieces[question.passage], tokenizer, settings, counts
        )
        if span is not None:
            labelled.append((question, span))
    if not labelled:
        raise ValueError(
            f"{dataset.path}: no question can be trained on; none of the passages holds its answer"
        )
    counts.used = len(labelled)
    if shuffle:
        random.Random(_SHUFFLE_SEED).shuffle(labelled)
    windows = build([question for question, _ in labelled], tokenizer, settings, pieces)
    spans = [span for _, span in labelled]
    rows = [_positions(windows, number, span) for number, span in enumerate(spans)]
    _report_hidden(dataset.path, labelled, rows)
    positions = np.array([row for of_question in rows for row in of_question], np.int32)
    positions = positions.reshape(-1, 2)
    impossible = [span is None for span in spans]
    return replace(windows, positions=positions, impossible=impossible), counts


def check(dataset: Dataset, version_2_with_negative: bool, google_exact: bool) -> None:
    """Check that the questions have the answers that training needs.

    Raises:
      ValueError: naming the question, which has no answer, though it must have one, or with
        `google_exact` more than one.
    """
    for question in dataset.questions:
        if version_2_with_negative and question.is_impossible:
            continue
        place = f"{dataset.path}: {question.place}"
        if not question.answers:
            remedy = "give it 'answers', or leave it out"
            if question.is_impossible:
                remedy = "use --version_2_with_negative=true"
            raise ValueError(f"{place}: for training, each question needs an answer; {remedy}")
        if google_exact and len(question.answers) > 1:
            raise ValueError(
                f"{place}: for training, each question should have exactly 1 answer, not "
                f"{len(question.answers)}; without --google_exact the first is used"
            )


def _locate(
    question: Question,
    answer: Answer,
    pieces: PassagePieces,
    tokenizer: Tokenizer,
    settings: WindowSettings,
    counts: TrainingCounts,
) -> Span | None:
    """The pieces of the answer. None, counted and logged, if the passage does not have it."""
    if settings.google_exact:
        span = squad_google.label(pieces, answer, tokenizer)
    else:
        place = _nearest(question, answer)
        span = pieces.covering(place) if place else None
        if span and place != answer:
            counts.moved += 1
            logging.warning("%s: answer moved from %s to %s", question.place, answer, place)
    if span is None:
        counts.dropped += 1
        logging.warning("%s: could not find answer %s", question.place, answer)
    return span


def _nearest(question: Question, answer: Answer) -> Answer | None:
    """The answer where the file says, or else where its words occur closest to that place."""
    words = answer.text.split()
    if not words:
        return None
    if question.is_aligned(answer):
        return answer
    found = re.finditer(r"\s+".join(map(re.escape, words)), question.passage.text)
    places = [Answer(match.group(), match.start()) for match in found]
    return min(places, key=lambda place: abs(place.start - answer.start), default=None)


def _positions(windows: Windows, question: int, span: Span | None) -> list[Span]:
    """First and last position of the answer in each row of the question."""
    offset = windows.offset(question)
    rows = []
    for start, length in windows.bounds(question):
        if span is None or span[0] < start or span[1] >= start + length:
            rows.append((0, 0))
        else:
            rows.append((span[0] - start + offset, span[1] - start + offset))
    return rows


def _report_hidden(
    path: str, labelled: list[tuple[Question, Span | None]], rows: list[list[Span]]
) -> None:
    """Log the questions that are trained on as if they had no answer, as in Google's program."""
    hidden = [
        question
        for (question, span), places in zip(labelled, rows, strict=True)
        if span is not None and not any(map(any, places))
    ]
    if hidden:
        logging.warning(
            "%s: no window holds the whole answer to %d questions (the first: %s). Training "
            "takes them as without an answer. Raise --max_seq_length or lower --doc_stride",
            *(path, len(hidden), hidden[0].place),
        )
