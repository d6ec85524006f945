"""Which sentence task the flags mean, its labels, and how its losses are weighted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bert_tf import checkpoints
from bert_tf.data import delimited, glue
from bert_tf.data.examples import InputExample, SentenceTask, label_names
from bert_tf.data.text_files import did_you_mean

if TYPE_CHECKING:
    from bert_tf.tasks.classification_config import ClassificationConfig


def choose(config: ClassificationConfig, source: str | None) -> tuple[SentenceTask, list[str]]:
    """The task and its labels in the order of the model's ids.

    A model that is only used has the labels, and their order, that it was trained with.

    Args:
      source: the checkpoint that the run starts from or uses, if there is one.

    Raises:
      ValueError: no such task, flags that do not fit it, or a model for other labels.
    """
    known = None
    if source is not None and not config.do_train:
        known = checkpoints.saved_labels(source)
    task = task_of(config)
    if isinstance(task, delimited.DelimitedTask) and not task.regression:
        classes = task.classes
        if classes is None and known and not task.has(config.data_dir, "train"):
            classes = tuple(known)  # without a training file they are what the model knows
        if classes is None:
            classes = tuple(task.labels(config.data_dir))  # found once, here
        task = dataclasses.replace(task, classes=classes)
    labels = task.labels(config.data_dir)
    if known and sorted(known) != sorted(labels):
        raise ValueError(
            f"{source} was trained for the labels {known}, but --task_name="
            f"{config.task_name} has {labels}; give the data it was trained for"
        )
    return task, known or labels


def task_of(config: ClassificationConfig) -> SentenceTask:
    """Return the task that the flags name, before any of its files is read.

    Raises:
      ValueError: there is no such task, or a flag does not fit it.
    """
    if config.task_name.lower() not in delimited.KINDS:
        if config.task_name.lower() not in glue.TASKS:
            hint = did_you_mean(config.task_name.lower(), [*glue.TASKS, *delimited.KINDS])
            raise ValueError(f"Task not found: {config.task_name}.{hint}")
        config.check_own_file_flags_unused()
        task = glue.find(config.task_name, config.xnli_language)
        return dataclasses.replace(task, encoding=config.encoding)
    own = delimited.DelimitedTask(
        kind=config.task_name.lower(),
        text_a_column=config.text_a_column,
        text_b_column=config.text_b_column,
        label_column=config.label_column,
        id_column=config.id_column,
        problem_type=config.problem_type,
        skip_bad_rows=config.skip_bad_rows,
        delimiter=delimited.named_delimiter(config.delimiter),
        encoding=config.encoding,
    )
    if own.regression or config.labels is None:
        return own
    return dataclasses.replace(own, classes=tuple(config.label_list() or ()))


def splits(task: SentenceTask, data_dir: str, part: str) -> list[str]:
    """Return `dev` or `test`, and the further ones of the task that are there."""
    further = (s for s in task.splits if s.startswith(f"{part}_"))
    return [part, *(s for s in further if task.has(data_dir, s))]


def check_test_files(config: ClassificationConfig) -> None:
    """Read what --do_predict asks for, before several models are trained. Raises ValueError."""
    if config.do_predict:
        task, _ = choose(config, None)
        for split in splits(task, config.data_dir, "test"):
            task.examples(config.data_dir, split, config.bad_rows())


def check_flags(config: ClassificationConfig, task: SentenceTask, source: str | None) -> None:
    """Raises ValueError for flags that this task, or the model that is used, does not follow."""
    of_classes: dict[str, object] = {"restart_on_collapse": config.restart_on_collapse}
    if task.regression:
        of_classes |= {"label_smoothing": config.label_smoothing, "labels": config.labels}
    for name, value in of_classes.items():
        if value and task.problem_type != "classification":
            raise ValueError(f"--{name}={value} is for classes, not for {task.problem_type}")
    if config.window_pooling != "mean" and config.long_text != "windows":
        raise ValueError(f"--window_pooling={config.window_pooling} is for --long_text=windows")
    if config.do_train or source is None:
        return
    noted = checkpoints.saved_task(source) or {}
    config.check_dev_split(noted, source)
    now = {
        "task_type": task.problem_type,
        "long_text": config.long_text,
        "window_stride": config.window_stride,
    }
    for name, wanted in now.items():
        if name in noted and noted[name] != wanted:
            flag = "problem_type" if name == "task_type" else name
            raise ValueError(
                f"--{flag}={wanted}, but {source} was trained with {noted[name]}: give that"
            )
    if noted.get("max_seq_length", config.max_seq_length) != config.max_seq_length:
        print(
            f"Note: trained with --max_seq_length={noted['max_seq_length']}, "
            f"used with {config.max_seq_length}.",
            flush=True,
        )


def targets(
    examples: Sequence[InputExample], task: SentenceTask, labels: Sequence[str]
) -> np.ndarray:
    """`label_ids` of the examples: int32 [n, 1]; float32 [n, 1] for a regression, or [n, L]."""
    if task.regression:
        return np.array([[float(e.label)] for e in examples], np.float32)
    if task.multilabel:
        rows = [set(label_names(e.label)) for e in examples]
        return np.array([[name in row for name in labels] for row in rows], np.float32)
    ids = {label: i for i, label in enumerate(labels)}
    return np.array([[ids[e.label]] for e in examples], np.int32)


def class_weights(
    value: str | None, task: SentenceTask, labels: Sequence[str], examples: Sequence[InputExample]
) -> list[float] | None:
    """What `--class_weights` says: a number for each label, or None.

    `balanced` makes the classes count alike: examples / (labels * examples of the label), an
    example being one however many windows its text has.

    Raises:
      ValueError: the flag does not fit the task; the message names it.
    """
    if value is None:
        return None
    if task.problem_type != "classification":
        raise ValueError(f"--class_weights={value} is for one class a row, not {task.problem_type}")
    if value == "balanced":
        counts = Counter(example.label for example in examples)
        if absent := [label for label in labels if not counts[label]]:
            raise ValueError(
                f"--class_weights=balanced: no training example is labelled {', '.join(absent)}"
            )
        return [len(examples) / (len(labels) * counts[label]) for label in labels]
    try:
        weights = [float(part) for part in value.split(",")]
    except ValueError:
        weights = []
    if len(weights) != len(labels) or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(
            f"--class_weights={value}: give 'balanced', or {len(labels)} numbers above 0 with "
            f"commas in between, for {', '.join(labels)}"
        )
    return weights
