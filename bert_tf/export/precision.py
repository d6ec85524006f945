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
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert_tf.export.card import Measured, machine
from bert_tf.export.features import padded
from bert_tf.export.servable import Arrays, Model
from bert_tf.packing import Packed

Answer = Callable[[Arrays], Arrays]  # FEATURES, int32 [B, F] -> outputs [B, ...]

_BATCH = 32  # rows
_TIMED = {1: 32, 8: 8}  # rows of a batch -> batches in a round
_ROUNDS = 5


class DevSet(NamedTuple):
    """What a precision is judged by.

    Attributes:
      rows: (input_ids, segment_ids) of each example, which are one row each.
      scores: outputs of all rows [n, L], or [n] of a regression -> metrics by name.
    """

    rows: Sequence[Packed]
    scores: Callable[[np.ndarray], Mapping[str, float]]


def measure(
    precision: str, exact: Model, other: Answer, dev_set: DevSet, megabytes: Sequence[float]
) -> Measured:
    """Both on the whole development set, and both in turn on a few batches against the clock.

    Args:
      exact: the features model in float32.
      other: the one in `precision`.
      megabytes: of the weights of both.
    """
    answers = signature(exact), other
    outputs = [_outputs(answer, dev_set.rows) for answer in answers]
    scores = [dev_set.scores(x) for x in outputs]
    return Measured(
        precision=precision,
        examples=len(dev_set.rows),
        scores={name: (float(x), float(scores[1][name])) for name, x in scores[0].items()},
        largest_difference=float(np.abs(outputs[0] - outputs[1]).max()),
        milliseconds={size: _milliseconds(answers, dev_set.rows, size) for size in _TIMED},
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


def _outputs(answer: Answer, rows: Sequence[Packed]) -> np.ndarray:
    """Probabilities [n, L], or a regression's scores [n], in the order of the rows."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    found: list[Any] = [None] * len(rows)
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        answers = answer(padded([rows[i] for i in chosen]))
        values = answers["probabilities"] if "probabilities" in answers else answers["scores"]
        for i, value in zip(chosen, values, strict=True):
            found[i] = value
    return np.array(found)


def _milliseconds(
    answers: Sequence[Answer], rows: Sequence[Packed], size: int
) -> tuple[float, ...]:
    """Of a batch, on average over the first ones of the set; the best of several rounds."""
    starts = range(0, min(len(rows), size * _TIMED[size]), size)
    batches = [padded(rows[start : start + size]) for start in starts]
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
