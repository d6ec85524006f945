"""What a step is fed: which rows, of what length, for which replica."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from bert_tf.batching import Arrays, pad_rows, training_rows, trim_padding
from bert_tf.data.records import Rows
from bert_tf.distribution import Replicas, Tensors
from bert_tf.run_config import TrainingConfig

Signature = list[dict[str, tf.TensorSpec]]  # of one batch, for each replica of this process


class Feeder:
    """Batches of a task's rows.

    Args:
      static: every batch has the same shape. A compiler makes a program for each one.
      whole, counts_padding: as in `Objective`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        replicas: Replicas,
        static: bool,
        whole: frozenset[str],
        counts_padding: bool,
    ):
        self.static = static
        self._config = config
        self._replicas = replicas
        self._whole = whole
        self._counts_padding = counts_padding

    def signature(self, records: Rows) -> Signature | None:
        """The features of batches of any length, where one graph serves all; else None.

        Which graph computes a batch must depend on nothing that ran before, or a continued run
        would differ in its last bits; and several workers must make the same graphs, or their
        sums would not find each other. So shapes are never relaxed on the way.
        """
        if self.static:
            return None
        features = {
            name: tf.TensorSpec(
                [None, *self._free_lengths(name, feature.shape)],
                tf.int32 if feature.dtype == tf.int64 else feature.dtype,
            )
            for name, feature in records.spec.items()
        }
        return [features] * self._replicas.local

    def _free_lengths(self, name: str, shape: list[int]) -> list[int | None]:
        longest = self._config.max_seq_length
        return [None if n == longest and name not in self._whole else n for n in shape]

    def training(
        self, records: Rows, steps: range, start: int
    ) -> tuple[list[list[Tensors]], list[int]]:
        """What this process feeds to its replicas in each step; and how many pieces are in it.

        Args:
          start: the step at which the first epoch of these rows begins.
        """
        config, replicas = self._config, self._replicas
        trim = not (self.static or self._counts_padding)
        own = replicas.own(config.train_batch_size)
        feeds, tokens = [], []
        for step in steps:
            rows, epochs = training_rows(
                step - start, config.train_batch_size, len(records), config.random_seed
            )
            batch = records.batch(rows[own], epochs[own])
            tokens.append(int(np.count_nonzero(batch["input_mask"])))
            batch = pad_rows(batch, replicas.local * config.gradient_accumulation_steps)
            feeds.append(replicas.split(self._trimmed(batch) if trim else batch))
        return feeds, tokens

    def longest(self, records: Rows) -> list[Tensors]:
        """A step whose rows are as long as they can be, to see whether it fits into memory."""
        count = self._replicas.own(self._config.train_batch_size)
        batch = records.batch(np.arange(count.stop - count.start) % len(records))
        multiple = self._replicas.local * self._config.gradient_accumulation_steps
        return self._replicas.split(pad_rows(batch, multiple))

    def evaluation(self, batch: Arrays, batch_size: int) -> list[Tensors]:
        """The part of a batch that this process feeds to its replicas, padded with rows of zeros.

        All have the length of the whole batch, so that results can be put together again.
        """
        replicas = self._replicas
        multiple = math.lcm(batch_size, replicas.count) if self.static else replicas.count
        batch = pad_rows(batch, multiple)
        if not self.static:
            batch = self._trimmed(batch)
        own = replicas.own(len(batch["input_ids"]))
        return replicas.split({name: value[own] for name, value in batch.items()})

    def _trimmed(self, batch: Arrays) -> Arrays:
        return trim_padding(batch, self._config.max_seq_length, self._whole)
