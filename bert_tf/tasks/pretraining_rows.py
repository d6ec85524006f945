"""The rows of pre-training as the loop takes them: read, masked where they are not yet, packed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bert_tf.batching import Arrays
from bert_tf.data import masking
from bert_tf.data.records import RecordFiles, Rows, Spec, pretraining_spec
from bert_tf.tokenization import Tokenizer


class MaskedRows:
    """Rows that are masked when they are read: anew in every epoch, the same in every run.

    A mask depends on the seed, the epoch and the row alone, so that a continued run sees the same.
    """

    def __init__(
        self,
        rows: RecordFiles,
        tokenizer: Tokenizer,
        seed: int,
        masked_lm_prob: float,
        max_predictions_per_seq: int,
    ):
        self._rows, self._seed = rows, seed
        (length,) = rows.spec["input_ids"].shape
        self.spec: Spec = pretraining_spec(length, max_predictions_per_seq)
        self._draw = functools.partial(
            masking.draw_masks,
            vocab_size=tokenizer.num_tokens,
            mask_id=tokenizer.mask_token_id,
            masked_lm_prob=masked_lm_prob,
            max_predictions_per_seq=max_predictions_per_seq,
        )

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: np.ndarray, epochs: np.ndarray | None = None) -> Arrays:
        """As `Rows.batch`."""
        rows = self._rows.batch(indices)
        epochs = np.zeros(len(indices), np.int64) if epochs is None else epochs
        seeds = np.stack([np.full(len(indices), self._seed), epochs, indices], axis=1)
        masked = self._draw(rows, seeds)
        kept = {name: rows[name] for name in self.spec if name in rows}
        return kept | masked


class Arranged:
    """Rows through `row_packing.pack`, or `one_text_a_row`, which has the same features."""

    def __init__(self, rows: Rows, arrange: Callable[[Arrays], Arrays]):
        self._rows, self._arrange = rows, arrange
        of_positions = rows.spec["input_ids"]
        several = {n: [None] for n in ("masked_lm_positions", "masked_lm_ids", "cls_positions")}
        several["next_sentence_labels"] = [None]
        self.spec: Spec = (
            {**rows.spec, "position_ids": of_positions}
            | {name: tf.io.FixedLenFeature(shape, tf.int64) for name, shape in several.items()}
            | {"masked_lm_weights": tf.io.FixedLenFeature([None], tf.float32)}
        )

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: np.ndarray, epochs: np.ndarray | None = None) -> Arrays:
        """As `Rows.batch`; `pack` makes fewer rows of them."""
        return self._arrange(self._rows.batch(indices, epochs))


class First:
    """The first `count` rows."""

    def __init__(self, rows: Rows, count: int):
        self._rows, self._count, self.spec = rows, min(count, len(rows)), rows.spec

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: np.ndarray, epochs: np.ndarray | None = None) -> Arrays:
        """As `Rows.batch`."""
        return self._rows.batch(indices, epochs)
