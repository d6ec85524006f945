"""The curves of a run, from TensorBoard's files."""

from __future__ import annotations

import os

import tensorflow as tf
from absl import logging

from bert_tf import filesystem


def read_scalars(output_dir: str) -> dict[str, dict[int, float]]:
    """Every scalar in the `events.out.tfevents.*` of a folder: tag -> step -> value, by step.

    A run that was continued has several files. What a later one says of a tag replaces the earlier
    ones' values from its first step on: they belong to steps that were taken back. The rest of a
    file that is damaged, as by a machine that went down, is left out with a warning.
    """
    scalars: dict[str, dict[int, float]] = {}
    # The names hold the time at which the file was begun.
    for path in filesystem.beside(os.path.join(output_dir, "events.out.tfevents.")):
        for tag, values in _read_file(path).items():
            first = min(values)
            kept = {step: v for step, v in scalars.get(tag, {}).items() if step < first}
            scalars[tag] = kept | dict(sorted(values.items()))
    return scalars


def _read_file(path: str) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    found.setdefault(value.tag, {})[event.step] = number
    except tf.errors.DataLossError as error:
        logging.warning("%s: the rest cannot be read (%s)", path, error.message)
    return found


def _scalar(value: tf.compat.v1.Summary.Value) -> float | None:
    """Written by either version of `tf.summary`; None for an image, a histogram and the like."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.metadata.plugin_data.plugin_name == "scalars" and value.HasField("tensor"):
        return float(tf.make_ndarray(value.tensor))
    return None
