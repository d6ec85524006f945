"""What is noted beside a fine-tuned model's weights: its task, and a classifier's labels."""

from __future__ import annotations

import os
from typing import Any

from bert_tf import filesystem
from bert_tf.checkpoints.location import locate

# What Hugging Face's config.json says, in our words.
_PROBLEM_TYPES = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}


def saved_labels(path: str | os.PathLike[str]) -> list[str] | None:
    """The labels beside the weights that `locate(path)` finds, or None where there are none.

    They are in labels.json, which is empty for regression, or else in the config's `id2label`,
    unless that only numbers them as Hugging Face does by default: LABEL_0, LABEL_1, ...

    Raises:
      ValueError: as `locate`, or the file is damaged; the message names it.
    """
    place = locate(path)
    if place.labels_file:
        labels = filesystem.read_json(place.labels_file, list)
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"{place.labels_file} is damaged: a label in it is not a string")
        return labels
    return _labels_in_config(place.config_file) if place.config_file else None


def saved_task(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The task beside the weights that `locate(path)` finds, or None where none is noted.

    It is in task.json: `task_type` ("classification", "question_answering", ...) and the task's
    own settings, `max_seq_length` among them.

    Raises:
      ValueError: as `locate`, or the file is damaged; the message names it.
    """
    file = locate(path).task_file
    if file is None:
        return None
    task = filesystem.read_json(file, dict)
    if not isinstance(task.get("task_type"), str):
        raise ValueError(f'{file} is damaged: it names no task_type, such as "classification"')
    return task


def noted_task_type(path: str | os.PathLike[str]) -> str | None:
    """The `task_type` that task.json notes, or else config.json in Hugging Face's words.

    Raises:
      ValueError: as `saved_task`.
    """
    if task := saved_task(path):
        return str(task["task_type"])
    file = locate(path).config_file
    described = filesystem.read_json(file, dict) if file else {}
    architectures = described.get("architectures")
    if isinstance(architectures, list) and "BertForTokenClassification" in architectures:
        return "tagging"
    noted = described.get("problem_type")
    return _PROBLEM_TYPES.get(noted) if isinstance(noted, str) else None


def default_labels(count: int) -> list[str]:
    """What Hugging Face calls labels that nobody named."""
    return [f"LABEL_{number}" for number in range(count)]


def _labels_in_config(file: str) -> list[str] | None:
    names = filesystem.read_json(file, dict).get("id2label")
    if not names:
        return None
    ids = [str(number) for number in range(len(names))] if isinstance(names, dict) else []
    if (
        not isinstance(names, dict)
        or names.keys() != set(ids)
        or not all(isinstance(name, str) for name in names.values())
    ):
        raise ValueError(f"{file}: id2label={names!r:.80} does not name the labels 0, 1, ...")
    labels = [names[number] for number in ids]
    return None if labels == default_labels(len(labels)) else labels
