"""Exports that compute in less than float32: what that costs and what it saves, measured first.

    bfloat16   both SavedModels; matrices are kept and multiplied in bfloat16, the rest is float32
    int8       export_dir/int8/<version>/model.tflite for LiteRT, from features: matrices are kept
               in int8, one scale a column, and multiplied with activations that are rounded to
               int8 on the way ("dynamic range quantization")

Which is faster, and by how much, depends on the processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from bert_tf.export.card import Measured, machine
from bert_tf.export.servable import Arrays, Model

Answer = Callable[[Arrays], Arrays]  # what the features signature takes, [B, F] -> outputs [B, ...]

_BATCH = 32  # rows
_TIMED = {1: 32, 8: 8}  # rows of a batch -> batches in a round
_ROUNDS = 5


class Rows(Protocol):
    """A `RecordFile`, or what else has numbered rows."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Arrays:
        """Features of these rows, int [n, F]; an input_mask among them."""


class DevSet(NamedTuple):
    """What a precision is judged by.

    Attributes:
      rows: of the development set.
      scores: the answers to `rows` in batches, in their order -> metrics by name.
    """

    rows: Rows
    scores: Callable[[list[Arrays]], Mapping[str, float]]


def measure(
    precision: str, exact: Model, other: Answer, dev_set: DevSet, megabytes: Sequence[float]
) -> Measured:
    """Both on the whole development set, and both in turn on a few batches against the clock.

    Args:
      exact: the features model in float32.
      other: the one in `precision`.
      megabytes: of the weights of both.
    """
    names = [spec.name for spec in exact.signatures["features"].input_signature]
    answers, rows = (signature(exact), other), dev_set.rows
    starts = range(0, len(rows), _BATCH)
    batches = [_batch(rows, names, start, start + _BATCH) for start in starts]
    found = [[answer(batch) for batch in batches] for answer in answers]
    scores = [dev_set.scores(x) for x in found]
    return Measured(
        precision=precision,
        rows=len(rows),
        scores={name: (float(x), float(scores[1][name])) for name, x in scores[0].items()},
        largest_difference=max(map(_difference, batches, *found)),
        milliseconds={size: _milliseconds(answers, rows, names, size) for size in _TIMED},
        megabytes=tuple(megabytes),
        machine=machine(),
    )


def signature(model: Model) -> Answer:
    """The features signature as a function of arrays."""
    run = model.signatures["features"]

    def answer(features: Arrays) -> Arrays:
        found = run(**{name: tf.constant(values) for name, values in features.items()})
        return {name: value.numpy() for name, value in found.items()}

    return answer


def _batch(rows: Rows, names: Sequence[str], start: int, stop: int) -> Arrays:
    """The named features of some rows, as long as the longest of them."""
    batch = rows.batch(np.arange(start, min(stop, len(rows))))
    longest = int(batch["input_mask"].sum(axis=1).max())
    return {name: batch[name][:, :longest].astype(np.int32) for name in names}


def _difference(batch: Arrays, one: Arrays, other: Arrays) -> float:
    """The largest one between two numbers that are not integers, nor of padding."""
    mask, largest = batch["input_mask"], 0.0
    for name, values in one.items():
        if values.dtype.kind == "f":
            apart = np.abs(values - other[name])
            real = apart[mask > 0] if apart.shape[:2] == mask.shape else apart
            largest = max(largest, float(real.max()))
    return largest


def _milliseconds(
    answers: Sequence[Answer], rows: Rows, names: Sequence[str], size: int
) -> tuple[float, ...]:
    """Of a batch, on average over the first ones of the set; the best of several rounds."""
    starts = range(0, min(len(rows), size * _TIMED[size]), size)
    batches = [_batch(rows, names, start, start + size) for start in starts]
    best = [float("inf")] * len(answers)
    for _ in range(1 + _ROUNDS):  # the first one makes everything that is made once
        for number, answer in enumerate(answers):
            start = time.perf_counter()
            for batch in batches:
                answer(batch)
            best[number] = min(best[number], time.perf_counter() - start)
    return tuple(1000 * seconds / len(batches) for seconds in best)


def weight_megabytes(model: Model) -> float:
    """Of a SavedModel's variables."""
    return sum(v.shape.num_elements() * v.dtype.size for v in model.module.variables) / 1e6
