"""Exact match and F1 as the official scorer of CMRC2018 has them, which DRCD is scored with too.

Cui et al. 2019, section 3: Chinese is compared character by character, what is between Chinese
characters word by word, and F1 counts the longest run of these that two texts share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from absl import logging

from bert_tf.data.squad_files import Question
from bert_tf.data.squad_scoring import Predictions, require_answers

# What the scorer removes; it also lists a double ellipsis, which no single character is.
_MARKS = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
_REMOVED = str.maketrans("", "", _MARKS)
_CHINESE_OR_OTHER = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")
# What is one word to NLTK; it splits these contractions.
_ONE_WORD = re.compile("(?!cannot|gimme|gonna|gotta|lemme|wanna)[0-9a-z]+")
_SENTENCE_END = re.compile(r"[.?!][^\w.?!]+\S")  # where there might be one, inside a text


def score(questions: Sequence[Question], predictions: Predictions, file: str) -> dict[str, Any]:
    """The scorer's output: percentages with three decimals, the counts, the predictions' `file`.

    A question without a prediction is counted as `SKIP` and scores 0.

    Raises: ValueError if a question has no answers to compare with.
    """
    exact = f1 = 0.0
    skipped = 0
    for question in questions:
        require_answers(question)
        qas_id = question.qas_id.strip()
        if qas_id not in predictions:
            skipped += 1
            continue
        texts = [answer.text for answer in question.answers]
        found = predictions[qas_id]
        exact += any(_bare(text) == _bare(found) for text in texts)
        f1 += max(run_f1(text, found) for text in texts)
    if skipped:
        logging.warning("%d of %d questions have no prediction", skipped, len(questions))
    exact, f1 = (100.0 * value / len(questions) for value in (exact, f1))
    return {
        "AVERAGE": f"{(exact + f1) * 0.5:.3f}",
        "F1": f"{f1:.3f}",
        "EM": f"{exact:.3f}",
        "TOTAL": len(questions),
        "SKIP": skipped,
        "FILE": file,
    }


def run_f1(answer: str, prediction: str) -> float:
    """F1 of two texts by their longest common run of segments."""
    expected, found = segments(answer), segments(prediction)
    shared = _longest_common_run(expected, found)
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(expected)
    return (2 * precision * recall) / (precision + recall)


def _bare(text: str) -> str:
    return text.lower().strip().translate(_REMOVED)


def segments(text: str) -> list[str]:
    """Chinese characters, and the words of what is between them, without the removed marks.

    The marks join what they stood between: "f-16" is the word "f16".
    """
    found: list[str] = []
    for part in _CHINESE_OR_OTHER.findall(_bare(text)):
        if "\u4e00" <= part <= "\u9fa5" or _ONE_WORD.fullmatch(part):
            found.append(part)
        else:
            found += _words(part)
    return found


@cache
def _words(text: str) -> list[str]:
    """NLTK's `word_tokenize`, which the scorer calls.

    That first splits sentences, with a model that is downloaded. Only where a sentence may end
    inside the text can it make a difference, and only there it is asked for.
    """
    from nltk.tokenize import word_tokenize

    if _SENTENCE_END.search(text):
        try:
            return word_tokenize(text)
        except LookupError:
            _warn_of_sentences()
    return word_tokenize(text, preserve_line=True)


@cache  # says it once
def _warn_of_sentences() -> None:
    logging.warning(
        "answers are not split into sentences, as the scorer does before it splits words: NLTK's "
        "model for it is missing (python -m nltk.downloader punkt_tab)"
    )


def _longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    longest = 0
    above = [0] * (len(second) + 1)  # lengths of the runs that end at an item and the one before
    for item in first:
        row = [0]
        for at, other in enumerate(second):
            row.append(above[at] + 1 if item == other else 0)
        longest = max(longest, *row)
        above = row
    return longest
