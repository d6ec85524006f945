"""Scores of start and end -> answers: `write_predictions` of google-research/bert's run_squad.py.

The text of an answer is cut from the passage between the characters of its first and last piece.
Google's program knows only the words that the pieces came from, and searches them (`squad_google`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bert_tf.data import squad_google
from bert_tf.data.squad_candidates import NONE, Candidate, null, ranked
from bert_tf.data.squad_files import Question
from bert_tf.data.squad_windows import Windows
from bert_tf.tokenization import BasicTokenizer

_QUESTIONS_AT_A_TIME = 256  # bounds the memory of n_best_size x n_best_size pairs a window
_NOTHING_ELSE = 1000000.0  # Google's start value of the null score: "large and positive"

Texts = Callable[[int, Candidate], str]  # question, candidate -> text


@dataclass(frozen=True)
class AnswerSettings:
    """Google's flags of these names, with its defaults.

    `google_exact` finds the texts as Google's program does, and fails where that fails; with
    `verbose_logging` each text is logged that it does not find.
    """

    n_best_size: int = 20
    max_answer_length: int = 30
    version_2_with_negative: bool = False
    null_score_diff_threshold: float = 0.0
    google_exact: bool = False
    verbose_logging: bool = False

    def __post_init__(self) -> None:
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}={getattr(self, name)} must be 1 or more")


class Entry(NamedTuple):
    """One of the best answers to a question; the text "" is no answer."""

    text: str
    start_logit: float
    end_logit: float


@dataclass
class Answers:
    """What Google's program writes as three JSON files, by question id.

    Attributes:
      predictions: the answer, "" for none.
      nbest: the best answers: text, probability, start_logit, end_logit.
      null_odds: with version 2, the score of no answer less that of the best one. Where there is
        no other it is 1000000; Google's program stops there with an AttributeError.
      best_texts: the best answer other than none, on which a threshold of `null_odds` decides; ""
        where there is no other.
    """

    predictions: dict[str, str] = field(default_factory=dict)
    nbest: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    null_odds: dict[str, float] = field(default_factory=dict)
    best_texts: dict[str, str] = field(default_factory=dict)


def to_json(value: object) -> str:
    """The text of a file as Google's program writes it."""
    return json.dumps(value, indent=4) + "\n"


def extract(
    windows: Windows, start_logits: np.ndarray, end_logits: np.ndarray, settings: AnswerSettings
) -> Answers:
    """The answers to all questions.

    Args:
      start_logits, end_logits: float32 or float64 [W, F], a row for each window. Positions that
        were not computed are -inf.

    Raises: ValueError if the shapes do not fit the windows, if the score of an answer is not
      finite, or with `google_exact` where Google's program fails.
    """
    for name, logits in (("start", start_logits), ("end", end_logits)):
        if logits.ndim != 2 or len(logits) != len(windows):
            raise ValueError(f"{name}_logits {logits.shape} do not fit {len(windows)} windows")
    answers = Answers()
    if settings.google_exact:
        text_of = _texts_by_words(windows, settings.verbose_logging)
    else:
        text_of = _texts_by_characters(windows)
    total = len(windows.questions)
    for begin in range(0, total, _QUESTIONS_AT_A_TIME):
        questions = range(begin, min(begin + _QUESTIONS_AT_A_TIME, total))
        nulls = []
        if settings.version_2_with_negative:
            nulls = [null(windows, number, start_logits, end_logits) for number in questions]
        sizes = (settings.n_best_size, settings.max_answer_length)
        found = ranked(windows, questions, start_logits, end_logits, *sizes, nulls)
        for number, candidates in zip(questions, found, strict=True):
            entries = _distinct(number, candidates, text_of, settings.n_best_size)
            no_answer = nulls[number - begin] if nulls else None
            _add(answers, windows.questions[number], entries, no_answer, settings)
    return answers


def _texts_by_characters(windows: Windows) -> Texts:
    def text(question: int, candidate: Candidate) -> str:
        passage = windows.passages[question]
        start, end = passage.starts[candidate.first_piece], passage.ends[candidate.last_piece]
        return passage.text[start:end]

    return text


def _texts_by_words(windows: Windows, verbose: bool) -> Texts:
    tokenizer = windows.tokenizer
    basic = BasicTokenizer(tokenizer.do_lower_case)

    def text(question: int, candidate: Candidate) -> str:
        first, last, *_ = candidate
        passage = windows.passages[question]
        tokens = tokenizer.convert_ids_to_tokens(passage.ids[first : last + 1])
        word, last_word = passage.words.of_piece[[first, last]]
        words = passage.words.words[word : last_word + 1]
        return squad_google.answer_text(tokens, words, basic, verbose)

    return text


def _distinct(
    question: int, candidates: Iterable[Candidate], text_of: Texts, number: int
) -> list[Entry]:
    """The best candidates with different texts."""
    seen: set[str] = set()
    entries: list[Entry] = []
    for candidate in candidates:
        if len(entries) == number:
            break
        text = ""
        if candidate.first_piece != NONE:
            text = text_of(question, candidate)
            if text in seen:
                continue
        seen.add(text)
        entries.append(Entry(text, candidate.start_logit, candidate.end_logit))
    return entries


def _add(
    answers: Answers,
    question: Question,
    entries: list[Entry],
    no_answer: Candidate | None,
    settings: AnswerSettings,
) -> None:
    """Adds what is known of one question."""
    qas_id = question.qas_id
    if no_answer is not None and not any(entry.text == "" for entry in entries):
        entries.append(Entry("", no_answer.start_logit, no_answer.end_logit))
    if not entries:
        entries.append(Entry("empty", 0.0, 0.0))  # Google's, in the absence of any
    best = next((entry for entry in entries if entry.text), None)
    answers.nbest[qas_id] = [
        {"text": entry.text, "probability": probability} | entry._asdict()
        for entry, probability in zip(entries, _probabilities(entries), strict=True)
    ]
    answers.best_texts[qas_id] = best.text if best else ""
    answers.predictions[qas_id] = entries[0].text
    if no_answer is None:
        return
    if best is None and settings.google_exact:
        raise ValueError(
            f"{question.place}: no answer can be set against none, where Google's program stops; "
            "leave out --google_exact, or raise --n_best_size or --max_answer_length"
        )
    odds = _NOTHING_ELSE
    if best is not None:
        odds = no_answer.start_logit + no_answer.end_logit - best.start_logit - best.end_logit
    answers.null_odds[qas_id] = odds
    answered = odds <= settings.null_score_diff_threshold
    answers.predictions[qas_id] = answers.best_texts[qas_id] if answered else ""


def _probabilities(entries: Sequence[Entry]) -> list[float]:
    """The softmax of the scores, by Google's operations in its order, to the last digit."""
    scores = [entry.start_logit + entry.end_logit for entry in entries]
    greatest = max(scores)
    powers = [math.exp(score - greatest) for score in scores]
    total = 0.0
    for power in powers:  # not sum(), which Python 3.12 made more exact
        total += power
    return [power / total for power in powers]
