"""What a model says to questions with answers: errors, and whether it has learnt anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_tf.data import squad
from bert_tf.data.squad_files import Dataset
from bert_tf.reporting.parts import Section, Table, Text, number, worst_errors

_GROUPS = {"": "all", "HasAns_": "with an answer", "NoAns_": "without an answer"}


def collapse(dataset: Dataset, predictions: Mapping[str, str]) -> str | None:
    """Return why a model has collapsed, or None: it answers nothing although there are answers."""
    answerable = sum(bool(question.answers) for question in dataset.questions)
    if not answerable or any(predictions.values()):
        return None
    return (
        f"it answers none of the {len(dataset.questions):,} questions, of which {answerable:,} "
        "have an answer"
    )


def sections(
    dataset: Dataset, predictions: Mapping[str, str], scores: Mapping[str, float]
) -> list[Section]:
    """Return what the report says of the predictions, by question id; `scores` are of all."""
    rows = [
        (name, number(scores[f"{group}exact"]), number(scores[f"{group}f1"]))
        for group, name in _GROUPS.items()
        if f"{group}f1" in scores
    ]
    table = Table("Scores in percent", ("questions", "exact match", "F1"), rows)
    scorer, questions = squad.scorer_for(dataset), dataset.questions

    def f1(i: int) -> float:
        one = dataclasses.replace(dataset, questions=[questions[i]])
        values = squad.scores(one, predictions, scorer=scorer)
        return float(values["F1"] if "F1" in values else values["f1"])

    found = [f1(i) for i in range(len(questions))]

    def row(i: int) -> tuple[Any, ...]:
        question = questions[i]
        answers = " | ".join(dict.fromkeys(answer.text for answer in question.answers))
        cells = (question.text, question.passage.text, answers or "none")
        predicted = predictions[question.qas_id] or "none"
        return (question.qas_id, *map(Text.of, (*cells, predicted)), f"{found[i]:.1f}")

    header = ("id", "question", "passage", "true", "predicted", "F1")
    what = "questions whose answer is not all right, by F1."
    losses = [100 - value for value in found]
    return [Section("Answers", tables=[table]), *worst_errors(what, header, losses, row)]
