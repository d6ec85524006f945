"""Exact match and F1 of answers, as the official scorers of SQuAD 1.1 and SQuAD 2.0 have them.

Rajpurkar et al. 2016, section 6.1; Rajpurkar, Jia and Liang 2018, section 5. Every function takes
questions with their answers and what was predicted, by question id, and returns the scorer's values
by its names.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from absl import logging

from bert_tf.data.squad_files import Question

Scores = dict[str, float]
Predictions = Mapping[str, str]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, prediction: str) -> float:
    """F1 of two normalized texts as bags of words: 0 if they share none."""
    expected, found = answer.split(), prediction.split()
    shared = (Counter(expected) & Counter(found)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(expected)
    return (2 * precision * recall) / (precision + recall)


def require_answers(question: Question) -> None:
    """Check that a question can be scored. Raises ValueError if it has no answer."""
    if not question.answers:
        raise ValueError(
            f"{question.place}: there is no answer to compare with; give a file with answers"
        )


def squad_1_1(questions: Sequence[Question], predictions: Predictions) -> Scores:
    """`exact_match` and `f1` in percent; a question without a prediction scores 0, with a warning.

    Raises: ValueError if a question has no answers to compare with.
    """
    exact = f1 = 0.0
    missing = []
    for question in questions:
        require_answers(question)
        if question.qas_id not in predictions:
            missing.append(question.qas_id)
            continue
        found = normalize(predictions[question.qas_id])
        answers = [normalize(answer.text) for answer in question.answers]
        exact += max(answer == found for answer in answers)
        f1 += max(token_f1(answer, found) for answer in answers)
    if missing:
        logging.warning(
            "%d of %d questions have no prediction and score 0, the first is %s",
            *(len(missing), len(questions), missing[0]),
        )
    return {"exact_match": 100.0 * exact / len(questions), "f1": 100.0 * f1 / len(questions)}


class QuestionScores(NamedTuple):
    """The values of each question, from 0 to 1, by id."""

    exact: dict[str, float]
    f1: dict[str, float]
    has_answer: dict[str, bool]


def question_scores(questions: Iterable[Question], predictions: Predictions) -> QuestionScores:
    """What each question scores by SQuAD 2.0's rules; no answer is right where there is none.

    Raises: ValueError if a question has no prediction.
    """
    scores = QuestionScores({}, {}, {})
    for question in questions:
        qas_id = question.qas_id
        if qas_id not in predictions:
            raise ValueError(f"{question.place}: there is no prediction for it")
        normalized = [normalize(answer.text) for answer in question.answers]
        answers = [answer for answer in normalized if answer] or [""]
        found = normalize(predictions[qas_id])
        scores.exact[qas_id] = float(found in answers)
        scores.f1[qas_id] = max(
            token_f1(answer, found) if answer and found else float(answer == found)
            for answer in answers
        )
        scores.has_answer[qas_id] = bool(question.answers)
    return scores


def squad_2_0(
    questions: Sequence[Question],
    predictions: Predictions,
    null_odds: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> Scores:
    """All values of SQuAD 2.0's scorer, in percent.

    `exact`, `f1`, `total`, the same of the questions with an answer (`HasAns_`) and without
    (`NoAns_`), and with `null_odds` the greatest values that a threshold could give
    (`best_exact`, `best_exact_thresh`, `best_f1`, `best_f1_thresh`).

    Args:
      null_odds: how much speaks for no answer, the scorer's `--na-prob-file`.
      threshold: above it no answer counts as predicted; by default the scorer's 1.0, which is made
        for probabilities.

    Raises: ValueError if a question has no prediction or, where they are given, no odds.
    """
    raw = question_scores(questions, predictions)
    for question in questions:
        if null_odds is not None and question.qas_id not in null_odds:
            raise ValueError(f"{question.place}: there are no null odds for it")
    without_answer = {q for q, odds in (null_odds or {}).items() if odds > threshold}
    exact, f1 = (
        {q: float(not raw.has_answer[q]) if q in without_answer else v for q, v in values.items()}
        for values in (raw.exact, raw.f1)
    )
    result = _averages("", exact, f1, list(exact))
    for prefix, has_answer in (("HasAns_", True), ("NoAns_", False)):
        group = [qas_id for qas_id, has in raw.has_answer.items() if has == has_answer]
        if group:
            result |= _averages(prefix, exact, f1, group)
    if null_odds is not None:
        for name, values in (("exact", raw.exact), ("f1", raw.f1)):
            best, at = best_threshold(values, raw.has_answer, predictions, null_odds)
            result |= {f"best_{name}": best, f"best_{name}_thresh": at}
    return result


def _averages(
    prefix: str, exact: Mapping[str, float], f1: Mapping[str, float], group: Sequence[str]
) -> Scores:
    def percent(values: Mapping[str, float]) -> float:
        return 100.0 * sum(values[qas_id] for qas_id in group) / len(group)

    return {
        f"{prefix}exact": percent(exact),
        f"{prefix}f1": percent(f1),
        f"{prefix}total": len(group),
    }


def best_threshold(
    values: Mapping[str, float],
    has_answer: Mapping[str, bool],
    predictions: Predictions,
    null_odds: Mapping[str, float],
) -> tuple[float, float]:
    """The best average, in percent, that a threshold on the odds can give, and that threshold.

    Questions with greater odds count as without an answer. As in the scorer the threshold is 0
    where nothing is better than never to answer.

    Args:
      values: what each question scores with its prediction.
      predictions: for the choice of a threshold, the best answers other than none
        (`squad_answers.Answers.best_texts`).
    """
    current = best = float(sum(not has for has in has_answer.values()))
    threshold = 0.0
    for qas_id in sorted(null_odds, key=null_odds.__getitem__):
        if qas_id not in values:
            continue
        if has_answer[qas_id]:
            current += values[qas_id]
        elif predictions[qas_id]:
            current -= 1
        if current > best:
            best, threshold = current, null_odds[qas_id]
    return 100.0 * best / len(values), threshold
